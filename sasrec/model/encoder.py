"""The newest position of one history, computed in as few operations as it takes.

For one short history a model's time goes into starting operations, not into arithmetic. So plain
slices take the place of what a packed batch must prepare, nothing is dropped out, and functions are
called instead of modules: half the time of `SASRec.encode_last`.
`benchmarks/serving/runtimes.py` compares this with compiled and exported models.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels import jagged_causal_attention
from sasrec.model.sasrec import Block, SASRec


class Encoder:
    """`SASRec.encode_last` for one history; the weights are the model's own.

    Attributes:
        matrix: (V + 1, dim) output embeddings; item features are added once, not per request.
    """

    def __init__(self, model: SASRec) -> None:
        self._layers = [_Layer.of(cast(Block, block)) for block in model.blocks]
        self._norm = _Norm.of(model.norm)
        self._cosine_temperature = model.config.cosine_temperature
        self._positions = None
        if model.position_embedding is not None:
            self._positions = model.position_embedding.weight.detach()
        self._oldest_first = model.config.positions == "oldest"
        self._longest = model.config.max_length
        self.matrix = model.item_matrix().detach().contiguous()

    def encode(self, items: Tensor, seconds: Tensor) -> Tensor:
        """The hidden state (dim,) of the newest event. Call it in inference mode.

        Args:
            items: (L,) int64 in 1..V, oldest first, L >= 1; only the newest `max_length` count.
            seconds: (L,) int64, since the epoch; used by models with a time bias alone.
        """
        return self.encode_rows(F.embedding(items[-self._longest :], self.matrix), seconds)

    def encode_rows(self, rows: Tensor, seconds: Tensor) -> Tensor:
        """As `encode`, of items that are given by their rows (L, dim) of a matrix."""
        x, seconds = rows[-self._longest :], seconds[-self._longest :]
        length = len(x)
        if self._positions is not None:
            positions = self._positions[:length]
            x = x + (positions if self._oldest_first else positions.flip(0))
        cu_seqlens = torch.tensor([0, length], dtype=torch.int32)
        for layer in self._layers[:-1]:
            x = layer(x, cu_seqlens, seconds, length)
        hidden = self._norm(self._layers[-1](x, cu_seqlens, seconds, 1))[0]
        if self._cosine_temperature:
            hidden = F.normalize(hidden, dim=0) / self._cosine_temperature
        return hidden


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, module: nn.Linear) -> "_Linear":
        return cls(module.weight.detach(), module.bias.detach())

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class _Norm:
    shape: tuple[int, ...]
    weight: Tensor
    bias: Tensor
    eps: float

    @classmethod
    def of(cls, module: nn.LayerNorm) -> "_Norm":
        weight, bias = module.weight.detach(), module.bias.detach()
        return cls(tuple(module.normalized_shape), weight, bias, module.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x, self.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True, slots=True)
class _Layer:
    """`sasrec.model.sasrec.Block` as it is when it does not train."""

    pre_norm: bool
    heads: int
    gated: bool
    attention_norm: _Norm
    qkv: _Linear
    position_bias: Tensor | None
    time_bias: Tensor | None
    output: _Linear
    feed_forward_norm: _Norm
    expand: _Linear
    contract: _Linear

    @classmethod
    def of(cls, block: Block) -> "_Layer":
        attention, feed_forward = block.attention, block.feed_forward
        return cls(
            block.pre_norm,
            attention.heads,
            feed_forward.gated,
            _Norm.of(block.attention_norm),
            _Linear.of(attention.qkv),
            attention.position_bias,
            attention.time_bias,
            _Linear.of(attention.output),
            _Norm.of(block.feed_forward_norm),
            _Linear.of(feed_forward.expand),
            _Linear.of(feed_forward.contract),
        )

    def __call__(self, x: Tensor, cu_seqlens: Tensor, seconds: Tensor, rows: int) -> Tensor:
        """(L, dim) to the newest `rows` (rows, dim)."""
        normed = self.attention_norm(x) if self.pre_norm else x
        q, k, v = self.qkv(normed).view(len(x), 3, self.heads, -1).unbind(1)
        attended = jagged_causal_attention(
            q,
            k,
            v,
            cu_seqlens,
            position_bias=self.position_bias,
            time_bias=self.time_bias,
            timestamps=seconds if self.time_bias is not None else None,
        )
        x = x[-rows:] + self.output(attended[-rows:].flatten(1))
        if self.pre_norm:
            return x + self._feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(x)
        return self.feed_forward_norm(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        x = self.expand(x)
        if not self.gated:
            return self.contract(torch.relu(x))
        gate, value = x.chunk(2, dim=-1)
        return self.contract(F.silu(gate) * value)
