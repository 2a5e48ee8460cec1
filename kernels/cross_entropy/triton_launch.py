"""Launch of the losses' Triton kernels, which ``triton_kernels.py`` describes."""

import math
from typing import Any

import torch
import triton
from torch import Tensor

from kernels.cross_entropy.inputs import Inputs
from kernels.cross_entropy.triton_kernels import items_gradient_kernel, log_sum_exp_kernel
from kernels.precision import LN_2, float32_precision
from kernels.tiles.table import Tile, block_d, tiles_for

# Past these a tile of rows and its accumulator spill registers, however small the tile.
MAX_WIDTH = {torch.float32: 128, torch.bfloat16: 256, torch.float16: 256}


def fits(hidden: Tensor) -> bool:
    """Whether rows of this width and dtype fit a tile."""
    return hidden.shape[1] <= MAX_WIDTH.get(hidden.dtype, 0)


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


def forward(inputs: Inputs, with_mean: bool) -> tuple[Tensor, Tensor]:
    """As :func:`kernels.cross_entropy.cpu.forward`."""
    hidden, items, offset, item_ids, excluded_ids = inputs
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
        log_sum_exp_kernel[(triton.cdiv(tokens, tile.block_m), parts)](
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
    lse = (maximum + total.log2()) * LN_2
    if not with_mean:
        return lse, means[0]
    weighted = (means * shares[:, :, None]).sum(0)
    return lse, weighted / total.clamp_min(torch.finfo(torch.float32).tiny)[:, None]


def items_gradient(d_lse: Tensor, lse: Tensor, targets: Tensor | None, inputs: Inputs) -> Tensor:
    """As :func:`kernels.cross_entropy.cpu.items_gradient`."""
    hidden, items, offset, item_ids, excluded_ids = inputs
    gradient = torch.empty_like(items, memory_format=torch.contiguous_format)
    count = items.shape[0]
    if count == 0:
        return gradient
    tile = _tile(hidden, "items_gradient")
    with torch.cuda.device_of(hidden):
        items_gradient_kernel[(triton.cdiv(count, tile.block_n),)](
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
