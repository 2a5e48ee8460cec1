"""Attention of a few padded histories that do not train, for `sasrec.model.encoder`.

A history's padding follows its events, so the causal mask hides it from them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.attention.relative_bias import time_bucket

if TYPE_CHECKING:
    from sasrec.model.sasrec import Attention as Trained


@dataclass(frozen=True, slots=True)
class Histories:
    """B histories padded at their ends to L events.

    Attributes:
        rows: (B, L, dim) embeddings of the items.
        times: (B, L) int32, seconds since the oldest event.
        last: (B,) int64, where the newest event is.
        padded: whether any history is shorter than L.
    """

    rows: Tensor
    times: Tensor
    last: Tensor
    padded: bool

    @classmethod
    def of(cls, rows: Tensor, seconds: Tensor, lengths: Sequence[int]) -> "Histories":
        """Of (B, L, dim) rows and (B, L) int64 seconds since the epoch."""
        elapsed = (seconds - seconds[:, :1]).clamp_(0, 2**31 - 1).to(torch.int32)
        padded = min(lengths) < rows.shape[1]
        return cls(rows, elapsed, torch.tensor(lengths) - 1, padded)

    def newest(self, x: Tensor) -> Tensor:
        """(B, L, ...) to the newest event of each history, (B, ...)."""
        if not self.padded:
            return x[:, -1]
        return x[torch.arange(len(x)), self.last]

    def before_newest(self) -> Tensor:
        """(B, L) int64, how many events before the newest each one is; 0 for padding."""
        return (self.last[:, None] - torch.arange(self.rows.shape[1])).clamp_(min=0)


@dataclass(frozen=True, slots=True)
class Attention:
    """`sasrec.model.sasrec.Attention` up to its output layer.

    Attributes:
        weight, bias: (3 · dim, dim) and (3 · dim,), of queries, keys and values; the softmax's
            scale is in those of the queries.
        position_bias: (heads, max_length) or None, by distance.
        by_distance: (heads or 1, 2 · max_length - 1), biases of the events from `max_length` - 1
            before another one to as many after it; -inf for those after it.
        time_bias: (heads, buckets) or None.
    """

    heads: int
    weight: Tensor
    bias: Tensor
    position_bias: Tensor | None
    by_distance: Tensor
    time_bias: Tensor | None

    @classmethod
    def of(cls, trained: "Trained", max_length: int) -> "Attention":
        """The weights of a trained layer."""
        weight, bias = trained.qkv.weight.detach().clone(), trained.qkv.bias.detach().clone()
        dim = weight.shape[1]
        scale = (dim // trained.heads) ** -0.5
        weight[:dim] *= scale
        bias[:dim] *= scale
        table = None if trained.position_bias is None else trained.position_bias.detach()
        time_bias = None if trained.time_bias is None else trained.time_bias.detach()
        return cls(trained.heads, weight, bias, table, _by_distance(table, max_length), time_bias)

    def all_events(self, x: Tensor, histories: Histories) -> Tensor:
        """(B, L, dim) to (B, L, dim): every event attends to those up to itself."""
        size, length, dim = x.shape
        qkv = F.linear(x, self.weight, self.bias).view(size, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        biases = self._biases(histories)
        attended = F.scaled_dot_product_attention(
            q, k, v, biases, is_causal=biases is None, scale=1.0
        )
        return attended.transpose(1, 2).reshape(size, length, dim)

    def _biases(self, histories: Histories) -> Tensor | None:
        """(B or 1, heads, L, L), causal; None for nothing but causal."""
        if self.position_bias is None and self.time_bias is None:
            return None
        length = histories.rows.shape[1]
        longest = (self.by_distance.shape[1] + 1) // 2
        windows = self.by_distance.unfold(1, length, 1)  # one for each event, the newest first
        biases = windows[:, longest - length : longest].flip(1)[None]
        if self.time_bias is not None:
            times = histories.times
            bucket = time_bucket(times[:, :, None], times[:, None], self.time_bias.shape[1])
            biases = biases + self.time_bias[:, bucket.long()].transpose(0, 1)
        return biases

    def newest_event(self, x: Tensor, histories: Histories) -> Tensor:
        """(B, L, dim) to (B, dim): the newest event of each history attends to all of it."""
        size, length, dim = x.shape
        q = F.linear(histories.newest(x), self.weight[:dim], self.bias[:dim])
        kv = F.linear(x, self.weight[dim:], self.bias[dim:]).view(size, length, 2, self.heads, -1)
        k, v = kv.permute(2, 0, 3, 1, 4)
        scores = (k @ q.view(size, self.heads, -1, 1)).squeeze(-1)  # (B, H, L)
        if self.position_bias is not None:
            before = histories.before_newest()
            scores += self.position_bias[:, before].transpose(0, 1)
        if self.time_bias is not None:
            newest = histories.newest(histories.times)
            bucket = time_bucket(newest[:, None], histories.times, self.time_bias.shape[1])
            scores += self.time_bias[:, bucket.long()].transpose(0, 1)
        if histories.padded:
            ahead = torch.arange(length) > histories.last[:, None]
            scores.masked_fill_(ahead[:, None], -math.inf)
        return (torch.softmax(scores, dim=-1).unsqueeze(2) @ v).reshape(size, dim)


def _by_distance(position_bias: Tensor | None, max_length: int) -> Tensor:
    future = torch.full((1, max_length - 1), -math.inf)
    if position_bias is None:
        return torch.cat([torch.zeros(1, max_length), future], dim=1)
    before = torch.arange(max_length - 1, -1, -1)
    past = position_bias[:, before.clamp(max=position_bias.shape[1] - 1)]
    return torch.cat([past, future.expand(len(past), -1)], dim=1)
