"""Packed causal attention as Triton kernels: how they go about it, and their launch.

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
from torch import Tensor
from torch.nn import functional

from kernels import dropout
from kernels.attention.inputs import Inputs
from kernels.attention.triton_bounds import bounds
from kernels.attention.triton_forward import forward_kernel
from kernels.attention.triton_gradients import (
    bias_gradient_kernel,
    key_value_gradient_kernel,
    query_gradient_kernel,
)
from kernels.precision import LOG2_E, float32_precision
from kernels.tiles.table import Tile, block_d, tiles_for


class _Launch:
    """What the kernels of one call share."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.tokens, self.heads, self.head_dim = inputs.q.shape
        self.q, self.k, self.v = (_aligned(x) for x in (inputs.q, inputs.k, inputs.v))
        self.padded_dim = self.q.shape[-1]
        self.start, self.end, self.times = bounds(inputs.cu_seqlens, inputs.timestamps, self.tokens)
        self.position_bias = _contiguous(inputs.position_bias)
        self.time_bias = _contiguous(inputs.time_bias)
        self.kept_share = 1.0 - inputs.dropout_p
        self.gradient_scale = inputs.scale / self.kept_share
        self.tiles = tiles_for(
            self.q.device,
            self.q.dtype,
            self.padded_dim,
            dropout=inputs.dropout_p > 0.0,
            bias=self.position_bias is not None or self.time_bias is not None,
        )

    def arguments(self, tile: Tile) -> dict[str, Any]:
        """Arguments that all kernels of the call take."""
        return {
            "q": self.q,
            "k": self.k,
            "v": self.v,
            "times": self.times,
            "seed": self.inputs.seed,
            "position_bias": self.position_bias,
            "time_bias": self.time_bias,
            "tokens": self.tokens,
            "q_stride": self.q.stride(0),
            "q_head_stride": self.q.stride(1),
            "k_stride": self.k.stride(0),
            "k_head_stride": self.k.stride(1),
            "v_stride": self.v.stride(0),
            "v_head_stride": self.v.stride(1),
            "scale": self.inputs.scale * LOG2_E,
            "threshold": dropout.threshold(self.inputs.dropout_p),
            "HEADS": self.heads,
            "HEAD_DIM": self.padded_dim,
            "DROPOUT": self.inputs.seed is not None,
            "MAX_DISTANCE": None if self.position_bias is None else self.position_bias.shape[1] - 1,
            "BUCKETS": None if self.time_bias is None else self.time_bias.shape[1],
            "PRECISION": float32_precision(self.q.dtype),
            "BLOCK_D": block_d(self.padded_dim),
            "BLOCK_M": tile.block_m,
            "BLOCK_N": tile.block_n,
            "num_warps": tile.num_warps,
            "num_stages": tile.num_stages,
        }

    def programs(self, block: int) -> tuple[int, int]:
        """The grid: blocks of tokens, heads."""
        return triton.cdiv(self.tokens, block), self.heads

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


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output ``(T, H, D)`` in q's dtype and log-sum-exp ``(T, H)`` in float32."""
    q = inputs.q
    lse = q.new_empty(q.shape[:2], dtype=torch.float32)
    if len(q) == 0:
        return torch.empty_like(q), lse
    launch = _Launch(inputs)
    tile = launch.tiles["forward"]
    out = launch.empty()
    with torch.cuda.device_of(q):
        forward_kernel[launch.programs(tile.block_m)](
            out=out,
            lse=lse,
            start=launch.start,
            kept_share=launch.kept_share,
            **launch.arguments(tile),
        )
    return launch.cropped(out), lse


def backward(
    d_out: Tensor, d_lse: Tensor | None, out: Tensor, lse: Tensor, inputs: Inputs
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of q, k, v, the position table and the time table."""
    q, k, v = inputs.q, inputs.k, inputs.v
    if len(q) == 0:
        tables = (inputs.position_bias, inputs.time_bias)
        d_position, d_time = (None if x is None else torch.zeros_like(x) for x in tables)
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), d_position, d_time
    launch = _Launch(inputs)
    d_out, out = _aligned(d_out).contiguous(), _aligned(out).contiguous()
    d_q, d_k, d_v = launch.empty(), launch.empty(), launch.empty()
    delta = torch.empty_like(lse)
    with torch.cuda.device_of(q):
        tile = launch.tiles["query_gradient"]
        query_gradient_kernel[launch.programs(tile.block_m)](
            d_out=d_out,
            d_lse=_contiguous(d_lse),
            out=out,
            lse=lse,
            d_q=d_q,
            delta=delta,
            start=launch.start,
            gradient_scale=launch.gradient_scale,
            kept_share=launch.kept_share,
            HAS_D_LSE=d_lse is not None,
            **launch.arguments(tile),
        )
        tile = launch.tiles["key_value_gradient"]
        key_value_gradient_kernel[launch.programs(tile.block_n)](
            d_out=d_out,
            lse=lse,
            delta=delta,
            d_k=d_k,
            d_v=d_v,
            end=launch.end,
            gradient_scale=launch.gradient_scale,
            kept_share=launch.kept_share,
            **launch.arguments(tile),
        )
        d_position, d_time = _bias_gradients(launch, d_out, lse, delta)
    return launch.cropped(d_q), launch.cropped(d_k), launch.cropped(d_v), d_position, d_time


def _bias_gradients(
    launch: _Launch, d_out: Tensor, lse: Tensor, delta: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    tables = (launch.position_bias, launch.time_bias)
    if all(table is None for table in tables):
        return None, None
    tile = launch.tiles["bias_gradient"]
    grid = launch.programs(tile.block_m)
    partial = [None if x is None else lse.new_zeros(grid[0], *x.shape) for x in tables]
    buckets = 1 if launch.time_bias is None else launch.time_bias.shape[1]
    bias_gradient_kernel[grid](
        d_out=d_out,
        lse=lse,
        delta=delta,
        d_position=partial[0],
        d_time=partial[1],
        start=launch.start,
        BLOCK_BUCKETS=triton.next_power_of_2(buckets),
        **launch.arguments(tile),
    )
    d_position, d_time = (
        None if sums is None or table is None else (sums.sum(0) / launch.kept_share).to(table.dtype)
        for sums, table in zip(partial, tables, strict=True)
    )
    return d_position, d_time
