"""Softmax over a large catalogue as Triton kernels.

The first kernel is attention of the hidden states over the items as keys and values: it streams
the catalogue past a block of tokens and keeps the log-sum-exp and the softmax-weighted mean of
the item rows. When tokens are too few to fill the GPU the catalogue is split, and the parts are
added up afterwards. The second kernel streams the tokens past a block of items and keeps that
block's gradient. Every result has one owner, so there are no atomics.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention_triton import LN_2, LOG2_E, float32_precision
from kernels.tiles import Tile, block_d, tiles_for

# Past these a tile of rows and its accumulator spill registers, however small the tile.
MAX_WIDTH = {torch.float32: 128, torch.bfloat16: 256, torch.float16: 256}


def fits(hidden: Tensor) -> bool:
    """Whether rows of this width and dtype fit a tile."""
    return hidden.shape[1] <= MAX_WIDTH.get(hidden.dtype, 0)


@triton.jit
def _rows(
    pointer, rows, limit, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """Rows of a contiguous matrix as a tile ``(rows, BLOCK_D)``, zero outside."""
    dim = tl.arange(0, BLOCK_D)
    mask = (rows < limit)[:, None]
    if WIDTH != BLOCK_D:
        mask = mask & (dim < WIDTH)[None, :]
    return tl.load(
        pointer + rows.to(tl.int64)[:, None] * WIDTH + dim[None, :], mask=mask, other=0.0
    )


@triton.jit
def _log_sum_exp_kernel(
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
    hidden_tile = _rows(hidden, rows, tokens, WIDTH, BLOCK_D)
    if EXCLUDES:
        excluded = tl.load(excluded_ids + rows, mask=inside, other=-1)
    maximum = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    weighted = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    first = part * items_per_part
    stop = tl.minimum(first + items_per_part, item_count)
    for item in range(first, stop, BLOCK_N):
        columns = item + tl.arange(0, BLOCK_N)
        item_tile = _rows(items, columns, stop, WIDTH, BLOCK_D)
        logits = tl.dot(hidden_tile, tl.trans(item_tile), input_precision=PRECISION) * LOG2_E
        if HAS_OFFSET:
            shift = tl.load(offset + columns, mask=columns < stop, other=0.0)
            logits += (shift.to(tl.float32) * LOG2_E)[None, :]
        counts = (columns < stop)[None, :]
        if EXCLUDES:
            ids = tl.load(item_ids + columns, mask=columns < stop, other=-1)
            counts = counts & (ids[None, :] != excluded[:, None])
        logits = tl.where(counts, logits, float("-inf"))
        new_maximum = tl.maximum(maximum, tl.max(logits, 1))
        # Every item so far may have been excluded.
        shift = tl.where(new_maximum == float("-inf"), 0.0, new_maximum)
        rescale = tl.exp2(maximum - shift)
        weights = tl.exp2(logits - shift[:, None])
        total = total * rescale + tl.sum(weights, 1)
        if WITH_MEAN:
            weighted = weighted * rescale[:, None]
            weighted = tl.dot(
                weights.to(item_tile.dtype), item_tile, acc=weighted, input_precision=PRECISION
            )
        maximum = new_maximum
    row = part.to(tl.int64) * tokens + rows
    tl.store(maxima + row, maximum, mask=inside)
    tl.store(totals + row, total, mask=inside)
    if WITH_MEAN:
        dim = tl.arange(0, BLOCK_D)
        mask = inside[:, None] & (dim < WIDTH)[None, :]
        tl.store(means + row[:, None] * WIDTH + dim[None, :], weighted, mask=mask)


@triton.jit
def _items_gradient_kernel(
    d_lse, hidden, items, offset, item_ids, excluded_ids, lse, targets, d_items,
    tokens, item_count,
    HAS_OFFSET: tl.constexpr, EXCLUDES: tl.constexpr, HAS_TARGETS: tl.constexpr,
    WIDTH: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradient of one block of items. Tiles are transposed, (items, tokens)."""
    columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = columns < item_count
    item_tile = _rows(items, columns, item_count, WIDTH, BLOCK_D)
    if HAS_OFFSET:
        shift = tl.load(offset + columns, mask=inside, other=0.0).to(tl.float32) * LOG2_E
    if EXCLUDES:
        ids = tl.load(item_ids + columns, mask=inside, other=-1)
    total = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for token in range(0, tokens, BLOCK_M):
        rows = token + tl.arange(0, BLOCK_M)
        hidden_tile = _rows(hidden, rows, tokens, WIDTH, BLOCK_D)
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
    dim = tl.arange(0, BLOCK_D)
    mask = inside[:, None] & (dim < WIDTH)[None, :]
    address = d_items + columns.to(tl.int64)[:, None] * WIDTH + dim[None, :]
    tl.store(address, total.to(d_items.dtype.element_ty), mask=mask)


def _constants(hidden: Tensor, tile: Tile) -> dict[str, Any]:
    width = hidden.shape[1]
    return {
        "WIDTH": width,
        "PRECISION": float32_precision(hidden.dtype),
        "BLOCK_D": block_d(width),
        "BLOCK_M": tile.block_m,
        "BLOCK_N": tile.block_n,
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }


def _tile(hidden: Tensor, kernel: str) -> Tile:
    width = hidden.shape[1]
    return tiles_for(hidden.device, hidden.dtype, width, dropout=False, bias=False)[kernel]


def _parts(tokens: int, items: int, tile: Tile, device: torch.device) -> int:
    """Into how many parts to split the catalogue, so that four programs fall to each SM."""
    if device.type == "cpu":
        return 2  # in the interpreter, for the sake of the tests
    programs = 4 * torch.cuda.get_device_properties(device).multi_processor_count
    wanted = triton.cdiv(programs, triton.cdiv(tokens, tile.block_m))
    return max(1, min(wanted, triton.cdiv(items, 16 * tile.block_n)))


def forward(
    hidden: Tensor,
    items: Tensor,
    offset: Tensor | None,
    item_ids: Tensor | None,
    excluded_ids: Tensor | None,
    with_mean: bool,
) -> tuple[Tensor, Tensor]:
    """As :func:`kernels.cross_entropy_cpu.forward`."""
    tokens, width = hidden.shape
    count = items.shape[0]
    mean_rows = tokens if with_mean else 0
    if tokens == 0 or count == 0:
        lse = hidden.new_full((tokens,), -math.inf, dtype=torch.float32)
        return lse, lse.new_zeros(mean_rows, width)
    tile = _tile(hidden, "log_sum_exp")
    parts = _parts(tokens, count, tile, hidden.device)
    maxima = hidden.new_empty(parts, tokens, dtype=torch.float32)
    totals = torch.empty_like(maxima)
    means = maxima.new_empty(parts, mean_rows, width)
    with torch.cuda.device_of(hidden):
        _log_sum_exp_kernel[(triton.cdiv(tokens, tile.block_m), parts)](
            hidden.contiguous(),
            items.contiguous(),
            offset,
            item_ids,
            excluded_ids,
            maxima,
            totals,
            means,
            tokens,
            count,
            triton.cdiv(count, parts),
            HAS_OFFSET=offset is not None,
            EXCLUDES=item_ids is not None,
            WITH_MEAN=with_mean,
            **_constants(hidden, tile),
        )
    maximum = maxima.amax(0)
    shares = torch.exp2(maxima - torch.where(maximum == -math.inf, 0.0, maximum))
    total = (totals * shares).sum(0)
    lse = (maximum + total.log2()) * LN_2.value
    if not with_mean:
        return lse, means[0]
    weighted = (means * shares[:, :, None]).sum(0)
    return lse, weighted / total.clamp_min(torch.finfo(torch.float32).tiny)[:, None]


def items_gradient(
    d_lse: Tensor,
    hidden: Tensor,
    items: Tensor,
    offset: Tensor | None,
    item_ids: Tensor | None,
    excluded_ids: Tensor | None,
    lse: Tensor,
    targets: Tensor | None,
) -> Tensor:
    """As :func:`kernels.cross_entropy_cpu.items_gradient`."""
    gradient = torch.empty_like(items, memory_format=torch.contiguous_format)
    count = items.shape[0]
    if count == 0:
        return gradient
    tile = _tile(hidden, "items_gradient")
    with torch.cuda.device_of(hidden):
        _items_gradient_kernel[(triton.cdiv(count, tile.block_n),)](
            d_lse,
            hidden.contiguous(),
            items.contiguous(),
            offset,
            item_ids,
            excluded_ids,
            lse,
            targets,
            gradient,
            hidden.shape[0],
            count,
            HAS_OFFSET=offset is not None,
            EXCLUDES=item_ids is not None,
            HAS_TARGETS=targets is not None,
            **_constants(hidden, tile),
        )
    return gradient
