"""The attention's forward pass as a Triton kernel; how it goes about it: ``triton_launch.py``."""

import triton
import triton.language as tl

from kernels.attention.triton_steps import (
    columns_of,
    finite,
    own,
    scores_of,
    sees,
    stream,
    times_of,
)
from kernels.dropout_triton import column_keys, drop, row_keys
from kernels.triton_shared import LN_2, load_rows, softmax_step, store_rows


@triton.jit
def forward_kernel(
    out, lse,
    q, k, v, start, times, seed, position_bias, time_bias,
    tokens, q_stride, q_head_stride, k_stride, k_head_stride, v_stride, v_head_stride,
    scale, kept_share, threshold,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, DROPOUT: tl.constexpr,
    MAX_DISTANCE: tl.constexpr, BUCKETS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Output and log-sum-exp of one block of rows."""
    rows = own(start, times, position_bias, time_bias, tokens, MAX_DISTANCE, BUCKETS, BLOCK_M)
    head = rows.head
    if DROPOUT:
        multiplier, offset = row_keys(seed, head, rows.index)
    q_tile = load_rows(
        q + head * q_head_stride, rows.index, q_stride, tokens, HEAD_DIM, BLOCK_D, True
    )
    k += head * k_head_stride
    v += head * v_head_stride

    maximum = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    weighted = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    first, split, stop = columns_of(start, rows.first, tokens, BLOCK_M, BLOCK_N)
    for MASKED in tl.static_range(2):
        begin = split if MASKED else first
        finish = stop if MASKED else split
        for column in range(begin, finish, BLOCK_N):
            columns = stream(
                column, k, k_stride, v, v_stride, tokens, HEAD_DIM, BLOCK_D, BLOCK_N, MASKED
            )
            v_tile = columns.weighed
            column_times = times_of(times, columns.index, tokens, BUCKETS)
            scores = scores_of(
                rows, q_tile, columns, column_times, scale,
                True, MAX_DISTANCE, BUCKETS, PRECISION,
            )  # fmt: skip
            if MASKED:
                wide = v_tile.to(tl.float32)
                scores += tl.sum(wide - wide, 1)[None, :]
                v_tile = finite(v_tile)
                scores = tl.where(sees(rows, columns), scores, float("-inf"))
            maximum, total, weights, rescale = softmax_step(maximum, total, scores)
            if DROPOUT:
                keys = column_keys(seed, head, columns.index)
                weights = drop(weights, multiplier, offset, keys, threshold, True)
            weighted = weighted * rescale[:, None]
            weighted = tl.dot(
                weights.to(v_tile.dtype), v_tile, acc=weighted, input_precision=PRECISION
            )

    at = lse + rows.index * HEADS + head
    tl.store(at, (maximum + tl.log2(total)) * LN_2, mask=rows.inside)
    weighted = weighted / (total * kept_share)[:, None]
    out += head * HEAD_DIM
    store_rows(out, weighted, rows.index, HEADS * HEAD_DIM, tokens, HEAD_DIM, BLOCK_D)
