"""The attention's gradients as Triton kernels; how they go about it: ``triton_launch.py``.

dS = P ∘ (dP - δ) with δ = rowsum(dO ∘ O) - dLSE. With dropout, dP holds a factor 1 / (1 - p); it
is left out of the scores, where it would cost a multiplication each: ``delta`` and ``d_scores``
are (1 - p) times what they are called, and the sums are divided at the end (``gradient_scale`` is
softmax_scale / (1 - p)).
"""

import triton
import triton.language as tl

from kernels.attention.triton_steps import (
    columns_of,
    finite,
    own,
    rows_of,
    scores_of,
    sees,
    stream,
    time_bucket,
    times_of,
)
from kernels.dropout_triton import column_keys, drop, row_keys
from kernels.triton_shared import LN_2, load_rows, store_rows


@triton.jit
def _weights(
    rows, q_tile, d_out_tile, columns, column_times, row_lse, seed, multiplier, offset,
    scale, threshold,
    DROPOUT: tl.constexpr, MAX_DISTANCE: tl.constexpr, BUCKETS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Weights of a tile (rows, columns), and their gradients, with nothing masked."""
    scores = scores_of(
        rows, q_tile, columns, column_times, scale, True, MAX_DISTANCE, BUCKETS, PRECISION
    )
    weights = tl.exp2(scores - row_lse[:, None])
    d_weights = tl.dot(d_out_tile, tl.trans(columns.weighed), input_precision=PRECISION)
    if DROPOUT:
        keys = column_keys(seed, rows.head, columns.index)
        d_weights = drop(d_weights, multiplier, offset, keys, threshold, True)
    return weights, d_weights


@triton.jit
def query_gradient_kernel(
    d_out, d_lse, out, lse, d_q, delta,
    q, k, v, start, times, seed, position_bias, time_bias,
    tokens, q_stride, q_head_stride, k_stride, k_head_stride, v_stride, v_head_stride,
    gradient_scale, scale, kept_share, threshold,
    HAS_D_LSE: tl.constexpr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, DROPOUT: tl.constexpr,
    MAX_DISTANCE: tl.constexpr, BUCKETS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradient of q, and delta for the kernels that follow."""
    rows = own(start, times, position_bias, time_bias, tokens, MAX_DISTANCE, BUCKETS, BLOCK_M)
    head = rows.head
    multiplier, offset = None, None
    if DROPOUT:
        multiplier, offset = row_keys(seed, head, rows.index)
    packed = HEADS * HEAD_DIM
    q += head * q_head_stride
    q_tile = load_rows(q, rows.index, q_stride, tokens, HEAD_DIM, BLOCK_D, True)
    d_out += head * HEAD_DIM
    d_out_tile = load_rows(d_out, rows.index, packed, tokens, HEAD_DIM, BLOCK_D, True)
    out += head * HEAD_DIM
    out_tile = load_rows(out, rows.index, packed, tokens, HEAD_DIM, BLOCK_D, True)
    row_delta = tl.sum(d_out_tile.to(tl.float32) * out_tile.to(tl.float32), 1)
    if HAS_D_LSE:
        row_delta -= tl.load(d_lse + rows.index * HEADS + head, mask=rows.inside, other=0.0)
    row_delta *= kept_share
    tl.store(delta + rows.index * HEADS + head, row_delta, mask=rows.inside)
    row_lse = tl.load(lse + rows.index * HEADS + head, mask=rows.inside, other=0.0) / LN_2
    k += head * k_head_stride
    v += head * v_head_stride

    d_q_tile = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    first, split, stop = columns_of(start, rows.first, tokens, BLOCK_M, BLOCK_N)
    for MASKED in tl.static_range(2):
        begin = split if MASKED else first
        finish = stop if MASKED else split
        for column in range(begin, finish, BLOCK_N):
            columns = stream(
                column, k, k_stride, v, v_stride, tokens, HEAD_DIM, BLOCK_D, BLOCK_N, MASKED
            )
            k_tile = columns.scored
            column_times = times_of(times, columns.index, tokens, BUCKETS)
            weights, d_weights = _weights(
                rows, q_tile, d_out_tile, columns, column_times, row_lse, seed, multiplier, offset,
                scale, threshold, DROPOUT, MAX_DISTANCE, BUCKETS, PRECISION,
            )  # fmt: skip
            d_scores = weights * (d_weights - row_delta[:, None])
            if MASKED:
                k_tile = finite(k_tile)
                d_scores = tl.where(sees(rows, columns), d_scores, 0.0)
            d_q_tile = tl.dot(
                d_scores.to(k_tile.dtype), k_tile, acc=d_q_tile, input_precision=PRECISION
            )

    d_q_tile *= gradient_scale
    d_q += head * HEAD_DIM
    store_rows(d_q, d_q_tile, rows.index, packed, tokens, HEAD_DIM, BLOCK_D)


@triton.jit
def key_value_gradient_kernel(
    d_out, lse, delta, d_k, d_v,
    q, k, v, end, times, seed, position_bias, time_bias,
    tokens, q_stride, q_head_stride, k_stride, k_head_stride, v_stride, v_head_stride,
    gradient_scale, scale, kept_share, threshold,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, DROPOUT: tl.constexpr,
    MAX_DISTANCE: tl.constexpr, BUCKETS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v. Tiles are transposed, (columns, rows), as both products need them."""
    columns = own(end, times, position_bias, time_bias, tokens, MAX_DISTANCE, BUCKETS, BLOCK_N)
    head = columns.head
    if DROPOUT:
        keys = column_keys(seed, head, columns.index)
    packed = HEADS * HEAD_DIM
    k += head * k_head_stride
    k_tile = load_rows(k, columns.index, k_stride, tokens, HEAD_DIM, BLOCK_D, True)
    v += head * v_head_stride
    v_tile = load_rows(v, columns.index, v_stride, tokens, HEAD_DIM, BLOCK_D, True)
    q += head * q_head_stride
    d_out += head * HEAD_DIM

    d_k_tile = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    d_v_tile = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    split, stop = rows_of(end, columns.first, tokens, BLOCK_M, BLOCK_N)
    for MASKED in tl.static_range(2):
        begin = columns.first if MASKED else split
        finish = split if MASKED else stop
        for row in range(begin, finish, BLOCK_M):
            rows = stream(
                row, q, q_stride, d_out, packed, finish, HEAD_DIM, BLOCK_D, BLOCK_M, MASKED
            )
            q_tile, d_out_tile = rows.scored, rows.weighed
            inside = rows.index < finish
            row_lse = tl.load(lse + rows.index * HEADS + head, mask=inside, other=0.0) / LN_2
            row_delta = tl.load(delta + rows.index * HEADS + head, mask=inside, other=0.0)
            row_times = times_of(times, rows.index, finish, BUCKETS)
            scores = scores_of(
                columns, k_tile, rows, row_times, scale,
                False, MAX_DISTANCE, BUCKETS, PRECISION,
            )  # fmt: skip
            weights = tl.exp2(scores - row_lse[None, :])
            d_weights = tl.dot(v_tile, tl.trans(d_out_tile), input_precision=PRECISION)
            if MASKED:
                q_tile = finite(q_tile)
                d_out_tile = finite(d_out_tile)
                visible = (columns.index[:, None] <= rows.index[None, :]) & (
                    rows.index[None, :] < tl.minimum(columns.bound, finish)[:, None]
                )
                weights += (row_delta - row_delta)[None, :]
                weights = tl.where(visible, weights, 0.0)
            dropped = weights
            if DROPOUT:
                multiplier, offset = row_keys(seed, head, rows.index)
                dropped = drop(weights, multiplier, offset, keys, threshold, False)
                d_weights = drop(d_weights, multiplier, offset, keys, threshold, False)
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
    d_k += head * HEAD_DIM
    store_rows(d_k, d_k_tile, columns.index, packed, tokens, HEAD_DIM, BLOCK_D)
    d_v += head * HEAD_DIM
    store_rows(d_v, d_v_tile, columns.index, packed, tokens, HEAD_DIM, BLOCK_D)


@triton.jit
def bias_gradient_kernel(
    d_out, lse, delta, d_position, d_time,
    q, k, v, start, times, seed, position_bias, time_bias,
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
    rows = own(start, times, position_bias, time_bias, tokens, MAX_DISTANCE, BUCKETS, BLOCK_M)
    head = rows.head
    table = tl.program_id(0) * HEADS + head
    if BUCKETS is not None:
        d_time += table * BUCKETS
    if MAX_DISTANCE is not None:
        d_position += table * (MAX_DISTANCE + 1)
    multiplier, offset = None, None
    if DROPOUT:
        multiplier, offset = row_keys(seed, head, rows.index)
    q += head * q_head_stride
    q_tile = load_rows(q, rows.index, q_stride, tokens, HEAD_DIM, BLOCK_D, True)
    d_out += head * HEAD_DIM
    d_out_tile = load_rows(
        d_out, rows.index, HEADS * HEAD_DIM, tokens, HEAD_DIM, BLOCK_D, True
    )  # fmt: skip
    row_delta = tl.load(delta + rows.index * HEADS + head, mask=rows.inside, other=0.0)
    row_lse = tl.load(lse + rows.index * HEADS + head, mask=rows.inside, other=0.0) / LN_2
    k += head * k_head_stride
    v += head * v_head_stride

    far = 0.0
    bucket_index = tl.arange(0, BLOCK_BUCKETS)
    by_bucket = tl.zeros((BLOCK_BUCKETS,), tl.float32)
    first = tl.load(start + rows.first)
    stop = tl.minimum(rows.first + BLOCK_M, tokens)
    for column in range(first, stop, BLOCK_N):
        columns = stream(column, k, k_stride, v, v_stride, tokens, HEAD_DIM, BLOCK_D, BLOCK_N, True)
        column_times = times_of(times, columns.index, tokens, BUCKETS)
        weights, d_weights = _weights(
            rows, q_tile, d_out_tile, columns, column_times, row_lse, seed, multiplier, offset,
            scale, threshold, DROPOUT, MAX_DISTANCE, BUCKETS, PRECISION,
        )  # fmt: skip
        visible = sees(rows, columns) & rows.inside[:, None]
        d_scores = tl.where(visible, weights * (d_weights - row_delta[:, None]), 0.0)

        if BUCKETS is not None:
            bucket = time_bucket(rows.times[:, None], column_times[None, :], BUCKETS)
            # Octaves: away from the diagonal a tile has very few different buckets.
            lowest = tl.min(tl.where(visible, bucket, BUCKETS))
            highest = tl.max(tl.where(visible, bucket, -1))
            for b in range(lowest, highest + 1):
                share = tl.sum(tl.where(bucket == b, d_scores, 0.0))
                by_bucket += tl.where(bucket_index == b, share, 0.0)
        if MAX_DISTANCE is not None:
            distance = rows.index[:, None] - columns.index[None, :]
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
            slots = rows.first - column - (BLOCK_N - 1) + n
            valid = (slots >= 0) & (slots < MAX_DISTANCE)
            before = tl.load(d_position + slots, mask=valid, other=0.0)
            tl.store(d_position + slots, before + by_distance, mask=valid)
            # The next tile's slots overlap these, in other threads.
            tl.debug_barrier()

    if BUCKETS is not None:
        tl.store(d_time + bucket_index, by_bucket, mask=bucket_index < BUCKETS)
    if MAX_DISTANCE is not None:
        tl.store(d_position + MAX_DISTANCE, far)
