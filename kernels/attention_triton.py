"""Packed causal attention as Triton kernels.

The packed token axis itself is tiled: program m owns the rows ``m · BLOCK_M ...`` of one head,
whichever users they belong to. Row i sees the columns ``start[i] ≤ j ≤ i``, column j is seen by
the rows ``j ≤ i < end[j]``. So the grid follows from the shape alone: no longest length, no host
synchronisation, no empty programs, and each row has one owner, which is why there are no atomics
and results are deterministic. Short users share a tile; a long user has many.

A range of tiles is walked in two parts: tiles that are seen in full need no mask, tiles that
cross the diagonal or a border between users do.

Where users share a tile, a weight of zero meets another user's rows in a matrix product, and
0 · NaN is NaN. Operands of masked tiles are therefore stripped of values that are not finite, and
what they would have done to their own user is put back through the scores: a user whose history
is broken breaks no other.

Scores are kept in units of log 2, for ``exp2``. Algorithms: T. Dao et al., "FlashAttention",
NeurIPS 2022, appendix B, and T. Dao, "FlashAttention-2", 2023, section 3.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from kernels import dropout
from kernels.tiles import Tile, block_d, tiles_for

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
GOLDEN = tl.constexpr(dropout.GOLDEN)
STREAMS = tl.constexpr(dropout.STREAMS)
ROW_MULTIPLIER = tl.constexpr(dropout.ROW_MULTIPLIER)
ROW_OFFSET = tl.constexpr(dropout.ROW_OFFSET)
COLUMN = tl.constexpr(dropout.COLUMN)


@triton.jit
def _bounds_kernel(
    cu_seqlens, timestamps, start, end, times, tokens, users, steps,
    HAS_TIME: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """First token and end of each token's sequence, and its time since that first token."""
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = token < tokens
    # The last user whose first token is not after this one, by bisection of [low, high).
    low = tl.zeros((BLOCK,), tl.int32)
    high = low + users
    for _ in range(steps):
        middle = (low + high) // 2
        begun = tl.load(cu_seqlens + middle) <= token
        low = tl.where(begun, middle, low)
        high = tl.where(begun, high, middle)
    first = tl.load(cu_seqlens + low)
    tl.store(start + token, first, mask=inside)
    tl.store(end + token, tl.load(cu_seqlens + low + 1), mask=inside)
    if HAS_TIME:
        now = tl.load(timestamps + token, mask=inside, other=0)
        elapsed = now - tl.load(timestamps + first, mask=inside, other=0)
        elapsed = tl.minimum(tl.maximum(elapsed, 0), 2147483647)
        tl.store(times + token, elapsed.to(tl.int32), mask=inside)


@triton.jit
def _mix(x):
    """lowbias32; see ``kernels/dropout.py``."""
    x = x ^ (x >> 16)
    x = x * 0x7FEB352D
    x = x ^ (x >> 15)
    x = x * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def _hash_keys(seed, head, tokens, STREAM: tl.constexpr):
    """One int32 key for each token; see ``kernels/dropout.py``."""
    value = tl.load(seed)
    low = value.to(tl.uint32)
    high = (value >> 32).to(tl.uint32)
    lane = (head * STREAMS + STREAM).to(tl.uint32)
    first = _mix(low + lane * GOLDEN)
    second = _mix(first ^ high)
    key = _mix(_mix(tokens.to(tl.uint32) + second) + first)
    return key.to(tl.int32, bitcast=True)


@triton.jit
def _row_keys(seed, head, rows):
    multiplier = _hash_keys(seed, head, rows, ROW_MULTIPLIER) | 1
    return multiplier, _hash_keys(seed, head, rows, ROW_OFFSET)


@triton.jit
def _load(
    pointer, rows, stride, limit,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Rows of one head as a tile ``(rows, BLOCK_D)``; if MASKED, zero from ``limit`` on."""
    dim = tl.arange(0, BLOCK_D)
    address = pointer + rows.to(tl.int64)[:, None] * stride + dim[None, :]
    if MASKED:
        mask = (rows < limit)[:, None]
        if HEAD_DIM != BLOCK_D:
            mask = mask & (dim < HEAD_DIM)[None, :]
        return tl.load(address, mask=mask, other=0.0)
    if HEAD_DIM != BLOCK_D:
        return tl.load(address, mask=(dim < HEAD_DIM)[None, :], other=0.0)
    return tl.load(address)


@triton.jit
def _store(
    pointer, value, rows, stride, limit, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """The opposite of a masked :func:`_load`."""
    dim = tl.arange(0, BLOCK_D)
    mask = (rows < limit)[:, None]
    if HEAD_DIM != BLOCK_D:
        mask = mask & (dim < HEAD_DIM)[None, :]
    address = pointer + rows.to(tl.int64)[:, None] * stride + dim[None, :]
    tl.store(address, value.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def _finite(x):
    """``x`` with zeros for what is not finite: x - x is 0 exactly for finite x."""
    wide = x.to(tl.float32)
    return tl.where(wide - wide == 0.0, wide, 0.0).to(x.dtype)


@triton.jit
def _time_bucket(row_times, column_times, BUCKETS: tl.constexpr):
    """See ``kernels.relative_bias.time_bucket``."""
    elapsed = tl.maximum(row_times - column_times, 0).to(tl.float32) + 1.0
    octave = (elapsed.to(tl.int32, bitcast=True) >> 23) - 127
    return tl.minimum(octave, BUCKETS - 1)


@triton.jit
def _scores(
    products, scale, rows, columns, row_times, column_times, position_bias, time_bias,
    MAX_DISTANCE: tl.constexpr, BUCKETS: tl.constexpr,
):  # fmt: skip
    """Scores in units of log 2. Rows and columns broadcast against the tile, either way round."""
    scores = products * scale
    if MAX_DISTANCE is not None:
        distance = tl.minimum(tl.maximum(rows - columns, 0), MAX_DISTANCE)
        scores += tl.load(position_bias + distance).to(tl.float32) * LOG2_E
    if BUCKETS is not None:
        bucket = _time_bucket(row_times, column_times, BUCKETS)
        scores += tl.load(time_bias + bucket).to(tl.float32) * LOG2_E
    return scores


@triton.jit
def _columns_of(start, first_row, tokens, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Columns that a block of rows sees: ``first : split`` in full, ``split : stop`` in part."""
    stop = tl.minimum(first_row + BLOCK_M, tokens)
    first = tl.load(start + first_row)
    # All rows see the columns up to the first row, if one user owns them all.
    full = (first_row + 1 - first) // BLOCK_N * BLOCK_N
    split = tl.where(first == tl.load(start + stop - 1), first + full, first)
    return first, split, stop


@triton.jit
def _forward_kernel(
    q, k, v, out, lse, start, times, seed, position_bias, time_bias,
    tokens, q_stride, q_head_stride, k_stride, k_head_stride, v_stride, v_head_stride,
    scale, kept_share, threshold,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, DROPOUT: tl.constexpr,
    MAX_DISTANCE: tl.constexpr, BUCKETS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    first_row = tl.program_id(0) * BLOCK_M
    rows = first_row + tl.arange(0, BLOCK_M)
    inside = rows < tokens
    row_start = tl.load(start + rows, mask=inside, other=0)
    row_times = rows
    if BUCKETS is not None:
        row_times = tl.load(times + rows, mask=inside, other=0)
        time_bias += head * BUCKETS
    if MAX_DISTANCE is not None:
        position_bias += head * (MAX_DISTANCE + 1)
    if DROPOUT:
        multiplier, offset = _row_keys(seed, head, rows)
    q_tile = _load(q + head * q_head_stride, rows, q_stride, tokens, HEAD_DIM, BLOCK_D, True)
    k += head * k_head_stride
    v += head * v_head_stride

    maximum = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    weighted = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    first, split, stop = _columns_of(start, first_row, tokens, BLOCK_M, BLOCK_N)
    for MASKED in tl.static_range(2):
        begin = split if MASKED else first
        finish = stop if MASKED else split
        for column in range(begin, finish, BLOCK_N):
            columns = column + tl.arange(0, BLOCK_N)
            k_tile = _load(k, columns, k_stride, tokens, HEAD_DIM, BLOCK_D, MASKED)
            v_tile = _load(v, columns, v_stride, tokens, HEAD_DIM, BLOCK_D, MASKED)
            column_times = columns
            if BUCKETS is not None:
                column_times = tl.load(times + columns, mask=columns < tokens, other=0)
            products = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
            scores = _scores(
                products, scale, rows[:, None], columns[None, :], row_times[:, None],
                column_times[None, :], position_bias, time_bias, MAX_DISTANCE, BUCKETS,
            )  # fmt: skip
            if MASKED:
                wide = v_tile.to(tl.float32)
                scores += tl.sum(wide - wide, 1)[None, :]
                v_tile = _finite(v_tile)
                visible = (columns[None, :] <= rows[:, None]) & (
                    columns[None, :] >= row_start[:, None]
                )
                scores = tl.where(visible, scores, float("-inf"))
            new_maximum = tl.maximum(maximum, tl.max(scores, 1))
            # A row may have seen nothing of its own yet.
            shift = tl.where(new_maximum == float("-inf"), 0.0, new_maximum)
            rescale = tl.exp2(maximum - shift)
            weights = tl.exp2(scores - shift[:, None])
            total = total * rescale + tl.sum(weights, 1)
            if DROPOUT:
                column_keys = _hash_keys(seed, head, columns, COLUMN)
                bits = multiplier[:, None] * column_keys[None, :] + offset[:, None]
                weights = tl.where(bits > threshold, weights, 0.0)
            weighted = weighted * rescale[:, None]
            weighted = tl.dot(
                weights.to(v_tile.dtype), v_tile, acc=weighted, input_precision=PRECISION
            )
            maximum = new_maximum

    tl.store(lse + rows * HEADS + head, (maximum + tl.log2(total)) * LN_2, mask=inside)
    weighted = weighted / (total * kept_share)[:, None]
    _store(out + head * HEAD_DIM, weighted, rows, HEADS * HEAD_DIM, tokens, HEAD_DIM, BLOCK_D)


@triton.jit
def _query_gradient_kernel(
    d_out, d_lse, q, k, v, out, lse, d_q, delta, start, times, seed, position_bias, time_bias,
    tokens, q_stride, q_head_stride, k_stride, k_head_stride, v_stride, v_head_stride,
    gradient_scale, scale, kept_share, threshold,
    HAS_D_LSE: tl.constexpr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, DROPOUT: tl.constexpr,
    MAX_DISTANCE: tl.constexpr, BUCKETS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradient of q, and delta for the kernels that follow.

    dS = P ∘ (dP - δ) with δ = rowsum(dO ∘ O) - dLSE. With dropout, dP holds a factor 1 / (1 - p);
    it is left out of the scores, where it would cost a multiplication each: ``delta`` and
    ``d_scores`` are (1 - p) times what they are called, and the sums are divided at the end
    (``gradient_scale`` is softmax_scale / (1 - p)).
    """
    head = tl.program_id(1)
    first_row = tl.program_id(0) * BLOCK_M
    rows = first_row + tl.arange(0, BLOCK_M)
    inside = rows < tokens
    row_start = tl.load(start + rows, mask=inside, other=0)
    row_times = rows
    if BUCKETS is not None:
        row_times = tl.load(times + rows, mask=inside, other=0)
        time_bias += head * BUCKETS
    if MAX_DISTANCE is not None:
        position_bias += head * (MAX_DISTANCE + 1)
    if DROPOUT:
        multiplier, offset = _row_keys(seed, head, rows)
    packed = HEADS * HEAD_DIM
    q_tile = _load(q + head * q_head_stride, rows, q_stride, tokens, HEAD_DIM, BLOCK_D, True)
    d_out_tile = _load(d_out + head * HEAD_DIM, rows, packed, tokens, HEAD_DIM, BLOCK_D, True)
    out_tile = _load(out + head * HEAD_DIM, rows, packed, tokens, HEAD_DIM, BLOCK_D, True)
    row_delta = tl.sum(d_out_tile.to(tl.float32) * out_tile.to(tl.float32), 1)
    if HAS_D_LSE:
        row_delta -= tl.load(d_lse + rows * HEADS + head, mask=inside, other=0.0)
    row_delta *= kept_share
    tl.store(delta + rows * HEADS + head, row_delta, mask=inside)
    row_lse = tl.load(lse + rows * HEADS + head, mask=inside, other=0.0) / LN_2
    k += head * k_head_stride
    v += head * v_head_stride

    d_q_tile = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    first, split, stop = _columns_of(start, first_row, tokens, BLOCK_M, BLOCK_N)
    for MASKED in tl.static_range(2):
        begin = split if MASKED else first
        finish = stop if MASKED else split
        for column in range(begin, finish, BLOCK_N):
            columns = column + tl.arange(0, BLOCK_N)
            k_tile = _load(k, columns, k_stride, tokens, HEAD_DIM, BLOCK_D, MASKED)
            v_tile = _load(v, columns, v_stride, tokens, HEAD_DIM, BLOCK_D, MASKED)
            column_times = columns
            if BUCKETS is not None:
                column_times = tl.load(times + columns, mask=columns < tokens, other=0)
            products = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
            scores = _scores(
                products, scale, rows[:, None], columns[None, :], row_times[:, None],
                column_times[None, :], position_bias, time_bias, MAX_DISTANCE, BUCKETS,
            )  # fmt: skip
            weights = tl.exp2(scores - row_lse[:, None])
            d_weights = tl.dot(d_out_tile, tl.trans(v_tile), input_precision=PRECISION)
            if DROPOUT:
                column_keys = _hash_keys(seed, head, columns, COLUMN)
                bits = multiplier[:, None] * column_keys[None, :] + offset[:, None]
                d_weights = tl.where(bits > threshold, d_weights, 0.0)
            d_scores = weights * (d_weights - row_delta[:, None])
            if MASKED:
                k_tile = _finite(k_tile)
                visible = (columns[None, :] <= rows[:, None]) & (
                    columns[None, :] >= row_start[:, None]
                )
                d_scores = tl.where(visible, d_scores, 0.0)
            d_q_tile = tl.dot(
                d_scores.to(k_tile.dtype), k_tile, acc=d_q_tile, input_precision=PRECISION
            )

    d_q_tile *= gradient_scale
    _store(d_q + head * HEAD_DIM, d_q_tile, rows, packed, tokens, HEAD_DIM, BLOCK_D)


@triton.jit
def _key_value_gradient_kernel(
    d_out, q, k, v, lse, delta, d_k, d_v, end, times, seed, position_bias, time_bias,
    tokens, q_stride, q_head_stride, k_stride, k_head_stride, v_stride, v_head_stride,
    gradient_scale, scale, kept_share, threshold,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, DROPOUT: tl.constexpr,
    MAX_DISTANCE: tl.constexpr, BUCKETS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v. Tiles are transposed, (columns, rows), as both products need them."""
    head = tl.program_id(1)
    first_column = tl.program_id(0) * BLOCK_N
    columns = first_column + tl.arange(0, BLOCK_N)
    inside = columns < tokens
    column_end = tl.load(end + columns, mask=inside, other=0)
    column_times = columns
    if BUCKETS is not None:
        column_times = tl.load(times + columns, mask=inside, other=0)
        time_bias += head * BUCKETS
    if MAX_DISTANCE is not None:
        position_bias += head * (MAX_DISTANCE + 1)
    if DROPOUT:
        column_keys = _hash_keys(seed, head, columns, COLUMN)
    packed = HEADS * HEAD_DIM
    k_tile = _load(k + head * k_head_stride, columns, k_stride, tokens, HEAD_DIM, BLOCK_D, True)
    v_tile = _load(v + head * v_head_stride, columns, v_stride, tokens, HEAD_DIM, BLOCK_D, True)
    q += head * q_head_stride
    d_out += head * HEAD_DIM

    # Rows below the last column of one user's block see all of it. Those tiles end with the
    # user, so that only the tiles near the diagonal, ``first_column : split``, are masked.
    stop = tl.load(end + tl.minimum(first_column + BLOCK_N, tokens) - 1)
    full = tl.maximum(stop - (first_column + BLOCK_N - 1), 0) // BLOCK_M * BLOCK_M
    split = tl.where(tl.load(end + first_column) == stop, stop - full, stop)
    d_k_tile = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    d_v_tile = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for MASKED in tl.static_range(2):
        begin = first_column if MASKED else split
        finish = split if MASKED else stop
        for row in range(begin, finish, BLOCK_M):
            rows = row + tl.arange(0, BLOCK_M)
            q_tile = _load(q, rows, q_stride, finish, HEAD_DIM, BLOCK_D, MASKED)
            d_out_tile = _load(d_out, rows, packed, finish, HEAD_DIM, BLOCK_D, MASKED)
            row_lse = tl.load(lse + rows * HEADS + head, mask=rows < finish, other=0.0) / LN_2
            row_delta = tl.load(delta + rows * HEADS + head, mask=rows < finish, other=0.0)
            row_times = rows
            if BUCKETS is not None:
                row_times = tl.load(times + rows, mask=rows < finish, other=0)
            products = tl.dot(k_tile, tl.trans(q_tile), input_precision=PRECISION)
            scores = _scores(
                products, scale, rows[None, :], columns[:, None], row_times[None, :],
                column_times[:, None], position_bias, time_bias, MAX_DISTANCE, BUCKETS,
            )  # fmt: skip
            weights = tl.exp2(scores - row_lse[None, :])
            d_weights = tl.dot(v_tile, tl.trans(d_out_tile), input_precision=PRECISION)
            if MASKED:
                q_tile = _finite(q_tile)
                d_out_tile = _finite(d_out_tile)
                visible = (columns[:, None] <= rows[None, :]) & (
                    rows[None, :] < tl.minimum(column_end, finish)[:, None]
                )
                weights += (row_delta - row_delta)[None, :]
                weights = tl.where(visible, weights, 0.0)
            dropped = weights
            if DROPOUT:
                multiplier, offset = _row_keys(seed, head, rows)
                bits = multiplier[None, :] * column_keys[:, None] + offset[None, :]
                dropped = tl.where(bits > threshold, weights, 0.0)
                d_weights = tl.where(bits > threshold, d_weights, 0.0)
            d_v_tile = tl.dot(
                dropped.to(d_out_tile.dtype), d_out_tile, acc=d_v_tile, input_precision=PRECISION
            )
            d_scores = weights * (d_weights - row_delta[None, :])
            if MASKED:
                d_scores = tl.where(visible, d_scores, 0.0)
            d_k_tile = tl.dot(
                d_scores.to(q_tile.dtype), q_tile, acc=d_k_tile, input_precision=PRECISION
            )

    d_k_tile *= gradient_scale
    d_v_tile /= kept_share
    _store(d_k + head * HEAD_DIM, d_k_tile, columns, packed, tokens, HEAD_DIM, BLOCK_D)
    _store(d_v + head * HEAD_DIM, d_v_tile, columns, packed, tokens, HEAD_DIM, BLOCK_D)


@triton.jit
def _bias_gradient_kernel(
    d_out, q, k, v, lse, delta, d_position, d_time, start, times, seed, position_bias, time_bias,
    tokens, q_stride, q_head_stride, k_stride, k_head_stride, v_stride, v_head_stride,
    scale, threshold,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, DROPOUT: tl.constexpr,
    MAX_DISTANCE: tl.constexpr, BUCKETS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_BUCKETS: tl.constexpr,
):  # fmt: skip
    """What one block of rows adds to the gradients of the bias tables.

    Each program sums into its own row of ``d_position (programs, HEADS, MAX_DISTANCE + 1)`` and
    ``d_time (programs, HEADS, BUCKETS)``, which the caller adds up (and divides by 1 - p): no
    atomics. BLOCK_M = BLOCK_N.
    """
    head = tl.program_id(1)
    first_row = tl.program_id(0) * BLOCK_M
    rows = first_row + tl.arange(0, BLOCK_M)
    inside = rows < tokens
    row_start = tl.load(start + rows, mask=inside, other=0)
    row_times = rows
    if BUCKETS is not None:
        row_times = tl.load(times + rows, mask=inside, other=0)
        time_bias += head * BUCKETS
        d_time += (tl.program_id(0) * HEADS + head) * BUCKETS
    if MAX_DISTANCE is not None:
        position_bias += head * (MAX_DISTANCE + 1)
        d_position += (tl.program_id(0) * HEADS + head) * (MAX_DISTANCE + 1)
    if DROPOUT:
        multiplier, offset = _row_keys(seed, head, rows)
    q_tile = _load(q + head * q_head_stride, rows, q_stride, tokens, HEAD_DIM, BLOCK_D, True)
    d_out_tile = _load(
        d_out + head * HEAD_DIM, rows, HEADS * HEAD_DIM, tokens, HEAD_DIM, BLOCK_D, True
    )
    row_delta = tl.load(delta + rows * HEADS + head, mask=inside, other=0.0)
    row_lse = tl.load(lse + rows * HEADS + head, mask=inside, other=0.0) / LN_2
    k += head * k_head_stride
    v += head * v_head_stride

    far = 0.0
    bucket_index = tl.arange(0, BLOCK_BUCKETS)
    by_bucket = tl.zeros((BLOCK_BUCKETS,), tl.float32)
    first = tl.load(start + first_row)
    stop = tl.minimum(first_row + BLOCK_M, tokens)
    for column in range(first, stop, BLOCK_N):
        columns = column + tl.arange(0, BLOCK_N)
        k_tile = _load(k, columns, k_stride, tokens, HEAD_DIM, BLOCK_D, True)
        v_tile = _load(v, columns, v_stride, tokens, HEAD_DIM, BLOCK_D, True)
        column_times = columns
        if BUCKETS is not None:
            column_times = tl.load(times + columns, mask=columns < tokens, other=0)
        products = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
        scores = _scores(
            products, scale, rows[:, None], columns[None, :], row_times[:, None],
            column_times[None, :], position_bias, time_bias, MAX_DISTANCE, BUCKETS,
        )  # fmt: skip
        weights = tl.exp2(scores - row_lse[:, None])
        d_weights = tl.dot(d_out_tile, tl.trans(v_tile), input_precision=PRECISION)
        if DROPOUT:
            column_keys = _hash_keys(seed, head, columns, COLUMN)
            bits = multiplier[:, None] * column_keys[None, :] + offset[:, None]
            d_weights = tl.where(bits > threshold, d_weights, 0.0)
        visible = (columns[None, :] <= rows[:, None]) & (columns[None, :] >= row_start[:, None])
        visible = visible & inside[:, None]
        d_scores = tl.where(visible, weights * (d_weights - row_delta[:, None]), 0.0)

        if BUCKETS is not None:
            bucket = _time_bucket(row_times[:, None], column_times[None, :], BUCKETS)
            # Octaves: away from the diagonal a tile has very few different buckets.
            lowest = tl.min(tl.where(visible, bucket, BUCKETS))
            highest = tl.max(tl.where(visible, bucket, -1))
            for b in range(lowest, highest + 1):
                share = tl.sum(tl.where(bucket == b, d_scores, 0.0))
                by_bucket += tl.where(bucket_index == b, share, 0.0)
        if MAX_DISTANCE is not None:
            distance = rows[:, None] - columns[None, :]
            clipped = distance >= MAX_DISTANCE
            far += tl.sum(tl.where(clipped, d_scores, 0.0))
            # Shear the tile so that each distance is a column: entry (i, n) is the score of the
            # i-th row at distance nearest + n.
            near = tl.where(clipped, 0.0, d_scores)
            n = tl.arange(0, 2 * BLOCK_N)
            source = tl.arange(0, BLOCK_M)[:, None] + (BLOCK_N - 1) - n[None, :]
            within = (source >= 0) & (source < BLOCK_N)
            sheared = tl.gather(near, tl.where(within, source, 0), 1)
            by_distance = tl.sum(tl.where(within, sheared, 0.0), 0)
            slots = first_row - column - (BLOCK_N - 1) + n
            valid = (slots >= 0) & (slots < MAX_DISTANCE)
            before = tl.load(d_position + slots, mask=valid, other=0.0)
            tl.store(d_position + slots, before + by_distance, mask=valid)
            # The next tile's slots overlap these, in other threads.
            tl.debug_barrier()

    if BUCKETS is not None:
        tl.store(d_time + bucket_index, by_bucket, mask=bucket_index < BUCKETS)
    if MAX_DISTANCE is not None:
        tl.store(d_position + MAX_DISTANCE, far)


class _Launch:
    """Arguments that the kernels of one call share."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens: Tensor,
        seed: Tensor | None,
        position_bias: Tensor | None,
        time_bias: Tensor | None,
        timestamps: Tensor | None,
        dropout_p: float,
        scale: float,
    ) -> None:
        self.tokens, self.heads, self.head_dim = q.shape
        self.q, self.k, self.v = _aligned(q), _aligned(k), _aligned(v)
        self.padded_dim = self.q.shape[-1]
        self.tiles = tiles_for(
            q.device,
            q.dtype,
            self.padded_dim,
            dropout=dropout_p > 0.0,
            bias=position_bias is not None or time_bias is not None,
        )
        self.start, self.end, self.times = _bounds(cu_seqlens, timestamps, self.tokens)
        self.seed = seed
        self.position_bias = None if position_bias is None else position_bias.contiguous()
        self.time_bias = None if time_bias is None else time_bias.contiguous()
        self.softmax_scale, self.kept_share = scale, 1.0 - dropout_p
        self.scale = scale * LOG2_E.value
        self.threshold = dropout.threshold(dropout_p)
        self.strides = [x.stride(i) for x in (self.q, self.k, self.v) for i in (0, 1)]

    def constants(self, tile: Tile) -> dict[str, Any]:
        return {
            "HEADS": self.heads,
            "HEAD_DIM": self.padded_dim,
            "DROPOUT": self.seed is not None,
            "MAX_DISTANCE": _last_column(self.position_bias),
            "BUCKETS": None if self.time_bias is None else self.time_bias.shape[1],
            "PRECISION": float32_precision(self.q.dtype),
            "BLOCK_D": block_d(self.padded_dim),
            "BLOCK_M": tile.block_m,
            "BLOCK_N": tile.block_n,
            "num_warps": tile.num_warps,
            "num_stages": tile.num_stages,
        }

    def empty(self) -> Tensor:
        return self.q.new_empty(self.tokens, self.heads, self.padded_dim)

    def cropped(self, x: Tensor) -> Tensor:
        return x[..., : self.head_dim].contiguous()


def _aligned(x: Tensor) -> Tensor:
    """Head dimension a multiple of 16 and contiguous, so that rows load in whole vectors."""
    remainder = x.shape[-1] % 16
    if remainder:
        return functional.pad(x, (0, 16 - remainder))
    return x if x.stride(-1) == 1 else x.contiguous()


def _last_column(table: Tensor | None) -> int | None:
    return None if table is None else table.shape[1] - 1


def float32_precision(dtype: torch.dtype) -> str:
    """How float32 products are computed: three TF32 ones, or one if the user has asked for it.

    Asking is PyTorch's own switch, ``torch.set_float32_matmul_precision("high")``.
    """
    if dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest":
        return "tf32x3"
    return "tf32"


def _bounds(
    cu_seqlens: Tensor, timestamps: Tensor | None, tokens: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    start, end = cu_seqlens.new_empty(2, tokens)
    times = None if timestamps is None else torch.empty_like(start)
    users = cu_seqlens.shape[0] - 1
    block = 256
    _bounds_kernel[(triton.cdiv(tokens, block),)](
        cu_seqlens.contiguous(),
        None if timestamps is None else timestamps.contiguous(),
        start,
        end,
        times,
        tokens,
        users,
        users.bit_length(),
        HAS_TIME=timestamps is not None,
        BLOCK=block,
    )
    return start, end, times


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    timestamps: Tensor | None,
    dropout_p: float,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Output ``(T, H, D)`` in q's dtype and log-sum-exp ``(T, H)`` in float32."""
    tokens, heads, _ = q.shape
    lse = q.new_empty(tokens, heads, dtype=torch.float32)
    if tokens == 0:
        return torch.empty_like(q), lse
    shared = _Launch(
        q, k, v, cu_seqlens, seed, position_bias, time_bias, timestamps, dropout_p, scale
    )
    tile = shared.tiles["forward"]
    out = shared.empty()
    with torch.cuda.device_of(q):
        _forward_kernel[(triton.cdiv(tokens, tile.block_m), heads)](
            shared.q,
            shared.k,
            shared.v,
            out,
            lse,
            shared.start,
            shared.times,
            seed,
            shared.position_bias,
            shared.time_bias,
            tokens,
            *shared.strides,
            shared.scale,
            shared.kept_share,
            shared.threshold,
            **shared.constants(tile),
        )
    return shared.cropped(out), lse


def backward(
    d_out: Tensor,
    d_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    timestamps: Tensor | None,
    dropout_p: float,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of q, k, v, the position table and the time table."""
    tokens, heads, _ = q.shape
    if tokens == 0:
        tables = (None if x is None else torch.zeros_like(x) for x in (position_bias, time_bias))
        d_position, d_time = tables
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), d_position, d_time
    shared = _Launch(
        q, k, v, cu_seqlens, seed, position_bias, time_bias, timestamps, dropout_p, scale
    )
    d_out, out = _aligned(d_out).contiguous(), _aligned(out).contiguous()
    d_lse = None if d_lse is None else d_lse.contiguous()
    d_q, d_k, d_v = shared.empty(), shared.empty(), shared.empty()
    delta = torch.empty_like(lse)
    scales = (scale / shared.kept_share, shared.scale, shared.kept_share, shared.threshold)
    with torch.cuda.device_of(q):
        tile = shared.tiles["query_gradient"]
        _query_gradient_kernel[(triton.cdiv(tokens, tile.block_m), heads)](
            d_out,
            d_lse,
            shared.q,
            shared.k,
            shared.v,
            out,
            lse,
            d_q,
            delta,
            shared.start,
            shared.times,
            seed,
            shared.position_bias,
            shared.time_bias,
            tokens,
            *shared.strides,
            *scales,
            HAS_D_LSE=d_lse is not None,
            **shared.constants(tile),
        )
        tile = shared.tiles["key_value_gradient"]
        _key_value_gradient_kernel[(triton.cdiv(tokens, tile.block_n), heads)](
            d_out,
            shared.q,
            shared.k,
            shared.v,
            lse,
            delta,
            d_k,
            d_v,
            shared.end,
            shared.times,
            seed,
            shared.position_bias,
            shared.time_bias,
            tokens,
            *shared.strides,
            *scales,
            **shared.constants(tile),
        )
        d_position, d_time = _bias_gradients(shared, d_out, lse, delta)
    return shared.cropped(d_q), shared.cropped(d_k), shared.cropped(d_v), d_position, d_time


def _bias_gradients(
    shared: _Launch, d_out: Tensor, lse: Tensor, delta: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    if shared.position_bias is None and shared.time_bias is None:
        return None, None
    tile = shared.tiles["bias_gradient"]
    programs = triton.cdiv(shared.tokens, tile.block_m)
    partial: list[Tensor | None] = [
        None if table is None else lse.new_zeros(programs, *table.shape)
        for table in (shared.position_bias, shared.time_bias)
    ]
    buckets = 1 if shared.time_bias is None else shared.time_bias.shape[1]
    _bias_gradient_kernel[(programs, shared.heads)](
        d_out,
        shared.q,
        shared.k,
        shared.v,
        lse,
        delta,
        *partial,
        shared.start,
        shared.times,
        shared.seed,
        shared.position_bias,
        shared.time_bias,
        shared.tokens,
        *shared.strides,
        shared.scale,
        shared.threshold,
        BLOCK_BUCKETS=triton.next_power_of_2(buckets),
        **shared.constants(tile),
    )
    d_position, d_time = (
        None if sums is None or table is None else (sums.sum(0) / shared.kept_share).to(table.dtype)
        for sums, table in zip(partial, (shared.position_bias, shared.time_bias), strict=True)
    )
    return d_position, d_time
