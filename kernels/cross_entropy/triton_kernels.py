"""Softmax over a large catalogue as Triton kernels.

The first kernel is attention of the hidden states over the items as keys and values: it streams
the catalogue past a block of tokens and keeps the log-sum-exp and the softmax-weighted mean of
the item rows. When tokens are too few to fill the GPU the catalogue is split, and the parts are
added up afterwards. The second kernel streams the tokens past a block of items and keeps that
block's gradient. Every result has one owner, so there are no atomics.
"""

import triton
import triton.language as tl

from kernels.triton_shared import LOG2_E, load_rows, softmax_step, store_rows


@triton.jit
def log_sum_exp_kernel(
    hidden, items, offset, item_ids, excluded_ids, maxima, totals, means,
    tokens, item_count, items_per_part,
    HAS_OFFSET: tl.constexpr, EXCLUDES: tl.constexpr, WITH_MEAN: tl.constexpr,
    WIDTH: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One part of the catalogue for one block of tokens; maxima in units of log 2."""
    part = tl.program_id(1)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = rows < tokens
    hidden_tile = load_rows(hidden, rows, WIDTH, tokens, WIDTH, BLOCK_D, True)
    if EXCLUDES:
        excluded = tl.load(excluded_ids + rows, mask=inside, other=-1)
    maximum = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    weighted = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    first = part * items_per_part
    stop = tl.minimum(first + items_per_part, item_count)
    for item in range(first, stop, BLOCK_N):
        columns = item + tl.arange(0, BLOCK_N)
        item_tile = load_rows(items, columns, WIDTH, stop, WIDTH, BLOCK_D, True)
        logits = tl.dot(hidden_tile, tl.trans(item_tile), input_precision=PRECISION) * LOG2_E
        if HAS_OFFSET:
            shift = tl.load(offset + columns, mask=columns < stop, other=0.0)
            logits += (shift.to(tl.float32) * LOG2_E)[None, :]
        counts = (columns < stop)[None, :]
        if EXCLUDES:
            ids = tl.load(item_ids + columns, mask=columns < stop, other=-1)
            counts = counts & (ids[None, :] != excluded[:, None])
        logits = tl.where(counts, logits, float("-inf"))
        maximum, total, weights, rescale = softmax_step(maximum, total, logits)
        if WITH_MEAN:
            weighted = weighted * rescale[:, None]
            weighted = tl.dot(
                weights.to(item_tile.dtype), item_tile, acc=weighted, input_precision=PRECISION
            )
    row = part.to(tl.int64) * tokens + rows
    tl.store(maxima + row, maximum, mask=inside)
    tl.store(totals + row, total, mask=inside)
    if WITH_MEAN:
        # Not store_rows, which takes two registers more here.
        dim = tl.arange(0, BLOCK_D)
        mask = inside[:, None] & (dim < WIDTH)[None, :]
        tl.store(means + row[:, None] * WIDTH + dim[None, :], weighted, mask=mask)


@triton.jit
def items_gradient_kernel(
    d_lse, hidden, items, offset, item_ids, excluded_ids, lse, targets, d_items,
    tokens, item_count,
    HAS_OFFSET: tl.constexpr, EXCLUDES: tl.constexpr, HAS_TARGETS: tl.constexpr,
    WIDTH: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradient of one block of items. Tiles are transposed, (items, tokens)."""
    columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = columns < item_count
    item_tile = load_rows(items, columns, WIDTH, item_count, WIDTH, BLOCK_D, True)
    if HAS_OFFSET:
        shift = tl.load(offset + columns, mask=inside, other=0.0).to(tl.float32) * LOG2_E
    if EXCLUDES:
        ids = tl.load(item_ids + columns, mask=inside, other=-1)
    total = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for token in range(0, tokens, BLOCK_M):
        rows = token + tl.arange(0, BLOCK_M)
        hidden_tile = load_rows(hidden, rows, WIDTH, tokens, WIDTH, BLOCK_D, True)
        row_lse = tl.load(lse + rows, mask=rows < tokens, other=0.0)
        # Where every item was excluded the weights are exp(-inf) = 0, not a NaN.
        row_lse = tl.where(row_lse == float("-inf"), 0.0, row_lse) * LOG2_E
        pull = tl.load(d_lse + rows, mask=rows < tokens, other=0.0)
        logits = tl.dot(item_tile, tl.trans(hidden_tile), input_precision=PRECISION) * LOG2_E
        if HAS_OFFSET:
            logits += shift[:, None]
        weights = tl.exp2(logits - row_lse[None, :])
        if EXCLUDES:
            excluded = tl.load(excluded_ids + rows, mask=rows < tokens, other=-1)
            weights = tl.where(ids[:, None] != excluded[None, :], weights, 0.0)
        if HAS_TARGETS:
            target = tl.load(targets + rows, mask=rows < tokens, other=-1).to(tl.int32)
            weights -= tl.where(columns[:, None] == target[None, :], 1.0, 0.0)
        weights *= pull[None, :]
        total = tl.dot(
            weights.to(hidden_tile.dtype), hidden_tile, acc=total, input_precision=PRECISION
        )
    store_rows(d_items, total, columns, WIDTH, item_count, WIDTH, BLOCK_D)
