"""The newest position of a few histories, computed in as few operations as it takes.

For short histories a model's time goes into starting operations, not into arithmetic. So histories
of about one length are padded to one dense batch, functions are called instead of modules, nothing
is dropped out, and the last layer attends for the newest event alone, which is the only one that is
asked for. `benchmarks/serving/runtimes.py` compares this with compiled and exported models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sasrec.model.encoder_attention import Attention, Histories
from sasrec.model.sasrec import Block, SASRec

MOST_EVENTS = 2048
"""Of a dense batch, padding included: what it takes stays in a core's cache."""


class Encoder:
    """`SASRec.encode_last` for a few histories; the weights are the model's own.

    Attributes:
        matrix: (V + 1, dim) output embeddings; item features are added once, not per request.
        max_length: events of a history that count, the newest.
    """

    def __init__(self, model: SASRec) -> None:
        self.max_length = model.config.max_length
        self._layers = [_Layer.of(cast(Block, block), self.max_length) for block in model.blocks]
        self._norm = _Norm.of(model.norm)
        self._cosine_temperature = model.config.cosine_temperature
        self._positions = None
        if model.position_embedding is not None:
            self._positions = model.position_embedding.weight.detach()
        self._oldest_first = model.config.positions == "oldest"
        self.matrix = model.item_matrix().detach().contiguous()

    def encode(self, items: Tensor, seconds: Tensor) -> Tensor:
        """The hidden state (dim,) of the newest event. Call it in inference mode.

        Args:
            items: (L,) int64 in 1..V, oldest first, L >= 1; only the newest `max_length` count.
            seconds: (L,) int64, since the epoch; used by models with a time bias alone.
        """
        items, seconds = items[-self.max_length :], seconds[-self.max_length :]
        return self.encode_rows(F.embedding(items, self.matrix), seconds, [len(items)])[0]

    def encode_rows(self, rows: Tensor, seconds: Tensor, lengths: Sequence[int]) -> Tensor:
        """The hidden states (B, dim) of B histories end to end, by their items' embeddings.

        Args:
            rows: (T, dim).
            seconds: (T,) int64, since the epoch.
            lengths: B numbers in 1..`max_length` that sum to T.
        """
        if len(lengths) == 1:
            return self._encode(Histories.of(rows[None], seconds[None], lengths))
        hidden = rows.new_empty(len(lengths), rows.shape[1])
        ends = np.cumsum(lengths).tolist()
        for group in alike(lengths):
            members = [slice(ends[i] - lengths[i], ends[i]) for i in group]
            longest = max(lengths[i] for i in group)
            x = rows.new_zeros(len(group), longest, rows.shape[1])
            times = seconds.new_zeros(len(group), longest)
            for place, member in enumerate(members):
                size = member.stop - member.start
                x[place, :size] = rows[member]
                times[place, :size] = seconds[member]
            hidden[group] = self._encode(Histories.of(x, times, [lengths[i] for i in group]))
        return hidden

    def _encode(self, histories: Histories) -> Tensor:
        x = histories.rows
        if self._positions is not None:
            if self._oldest_first:
                x = x + self._positions[: x.shape[1]]
            else:
                x = x + F.embedding(histories.before_newest(), self._positions)
        for layer in self._layers[:-1]:
            x = layer(x, histories)
        hidden = self._norm(self._layers[-1].newest(x, histories))
        if self._cosine_temperature:
            hidden = F.normalize(hidden, dim=1) / self._cosine_temperature
        return hidden


def alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of lengths that differ by less than twice: padding them wastes less than half."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    group: list[int] = []
    for i in order:
        full = lengths[i] * (len(group) + 1) > MOST_EVENTS
        if group and (full or lengths[i] >= 2 * lengths[group[0]]):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


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
    gated: bool
    attention_norm: _Norm
    attention: Attention
    output: _Linear
    feed_forward_norm: _Norm
    expand: _Linear
    contract: _Linear

    @classmethod
    def of(cls, block: Block, max_length: int) -> "_Layer":
        return cls(
            block.pre_norm,
            block.feed_forward.gated,
            _Norm.of(block.attention_norm),
            Attention.of(block.attention, max_length),
            _Linear.of(block.attention.output),
            _Norm.of(block.feed_forward_norm),
            _Linear.of(block.feed_forward.expand),
            _Linear.of(block.feed_forward.contract),
        )

    def __call__(self, x: Tensor, histories: Histories) -> Tensor:
        """(B, L, dim) to (B, L, dim)."""
        normed = self.attention_norm(x) if self.pre_norm else x
        return self._after(x, self.attention.all_events(normed, histories))

    def newest(self, x: Tensor, histories: Histories) -> Tensor:
        """(B, L, dim) to the newest event of each history (B, dim)."""
        normed = self.attention_norm(x) if self.pre_norm else x
        return self._after(histories.newest(x), self.attention.newest_event(normed, histories))

    def _after(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.output(attended)
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
