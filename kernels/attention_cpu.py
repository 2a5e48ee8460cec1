"""Packed causal attention on the CPU: users grouped by length, scores kept in cache.

Users are sorted by length and grouped; a group is padded to one length (by repeating each user's
last token, never by another user's data), so that it is one batch of dense matrices. The group is
then walked in blocks of rows and users, small enough that every pass over the scores stays in
cache. A block of rows multiplies with the columns up to its last row only, which skips most of
what lies above the diagonal; padding is at the end, so the causal mask hides it from real rows.

Forward saves the log-sum-exp alone; backward recomputes the weights and the dropout mask.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.dropout import hash_keys, threshold
from kernels.relative_bias import position_index, relative_times, time_bucket

# Rows of one block, and scores of one block (users × heads × rows × columns): 1 MiB in float32,
# half of a core's L2. Chosen by measurement (docs/kernel.md).
_BLOCK_ROWS = 128
_BLOCK_SCORES = 2**18


@dataclass(frozen=True)
class _Group:
    """Users of nearly one length: matrices ``offset : offset + users · heads`` of the layout."""

    offset: int  # first row of the padded layout
    users: int
    length: int


@dataclass(frozen=True)
class _Layout:
    """Where every (token, head) row lies in the padded layout, and back.

    The padded layout holds the groups one after another, each as (user, head, position).
    """

    groups: list[_Group]
    gather: Tensor  # (padded rows,) row of the (T · H, D) matrix
    padding: Tensor  # (padded rows,) true where the row repeats a user's last token
    scatter: Tensor  # (T · H,) row of the padded layout


def _padded_length(lengths: Tensor) -> Tensor:
    """Round lengths up to eight steps an octave, so that few groups cover all of them."""
    step = (2.0 ** (lengths.clamp_min(1).log2().floor() - 3)).clamp_min(1).long()
    return (lengths + step - 1) // step * step


def _layout(cu_seqlens: Tensor, heads: int) -> _Layout:
    bounds = cu_seqlens.long()
    lengths = bounds.diff()
    order = torch.argsort(lengths, stable=True)
    order = order[lengths[order] > 0]
    starts, lengths = bounds[order], lengths[order]
    sizes, counts = torch.unique_consecutive(_padded_length(lengths), return_counts=True)

    groups: list[_Group] = []
    gather: list[Tensor] = []
    padding: list[Tensor] = []
    head = torch.arange(heads)[None, :, None]
    offset = first = 0
    for length, users in zip(sizes.tolist(), counts.tolist(), strict=True):
        chosen = slice(first, first + users)
        position = torch.arange(length)[None, None, :]
        last = lengths[chosen, None, None] - 1
        token = starts[chosen, None, None] + torch.minimum(position, last)
        gather.append((token * heads + head).flatten())
        padding.append((position > last).expand(users, heads, length).flatten())
        groups.append(_Group(offset, users, length))
        offset += users * heads * length
        first += users
    if not groups:
        empty = torch.empty(0, dtype=torch.int64)
        return _Layout([], empty, empty.bool(), empty)
    gathered, padded = torch.cat(gather), torch.cat(padding)
    scatter = torch.empty(int(bounds[-1]) * heads, dtype=torch.int64)
    real = (~padded).nonzero().flatten()
    scatter[gathered[real]] = real
    return _Layout(groups, gathered, padded, scatter)


@dataclass(frozen=True)
class _Block:
    """One block of scores: some users of a group, rows ``row : stop`` and columns ``0 : stop``."""

    first: int  # first user of the group
    last: int
    row: int
    stop: int


def _blocks(group: _Group, heads: int) -> Iterator[_Block]:
    for row in range(0, group.length, _BLOCK_ROWS):
        stop = min(row + _BLOCK_ROWS, group.length)
        users = max(1, _BLOCK_SCORES // (heads * (stop - row) * stop))
        for first in range(0, group.users, users):
            yield _Block(first, min(first + users, group.users), row, stop)


class _Scores:
    """Computes blocks of scores and dropout of one call; what forward and backward share."""

    def __init__(
        self,
        layout: _Layout,
        heads: int,
        scale: float,
        dropout_p: float,
        seed: Tensor | None,
        position_bias: Tensor | None,
        time_bias: Tensor | None,
        times: Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        self.layout, self.heads, self.scale, self.dropout_p = layout, heads, scale, dropout_p
        self.position_bias = None if position_bias is None else position_bias.to(dtype)
        self.time_bias = None if time_bias is None else time_bias.to(dtype)
        self.times = None if times is None else times[layout.gather // heads]
        self.keys: tuple[Tensor, Tensor, Tensor] | None = None
        if seed is not None:
            tokens = layout.scatter.numel() // heads
            flat = (key.T.reshape(-1) for key in hash_keys(seed, heads, tokens))
            multiplier, offset, column = (key[layout.gather] for key in flat)
            self.keys = multiplier, offset, column

    def scores(self, q: Tensor, k: Tensor, group: _Group, block: _Block) -> Tensor:
        """Masked scores ``(users · heads, rows, columns)``; q has been multiplied by the scale."""
        scores = torch.bmm(q[:, block.row : block.stop], k[:, : block.stop].mT)
        by_head = scores.view(-1, self.heads, *scores.shape[1:])
        if self.position_bias is not None:
            by_head += self.position_bias[:, self._position_index(block)]
        if self.time_bias is not None:
            bucket = self._time_bucket(group, block)
            for head in range(self.heads):
                by_head[:, head] += self.time_bias[head].take(bucket)
        diagonal = scores[:, :, block.row :]
        diagonal += torch.full(diagonal.shape[1:], -math.inf, dtype=scores.dtype).triu_(1)
        return scores

    def drop(self, weights: Tensor, group: _Group, block: _Block) -> Tensor:
        """The weights where kept, 0 elsewhere: the caller applies 1 / (1 - p) to the small side."""
        if self.keys is None:
            return weights
        multiplier, offset, column = (
            _of_group(key, group, self.heads)[_matrices(block, self.heads)] for key in self.keys
        )
        bits = multiplier[:, block.row : block.stop, None] * column[:, None, : block.stop]
        bits += offset[:, block.row : block.stop, None]
        return _where_above(weights, bits, threshold(self.dropout_p))

    def _position_index(self, block: _Block) -> Tensor:
        assert self.position_bias is not None
        rows, columns = torch.arange(block.row, block.stop), torch.arange(block.stop)
        return position_index(rows[:, None], columns[None, :], self.position_bias.shape[1] - 1)

    def _time_bucket(self, group: _Group, block: _Block) -> Tensor:
        """Buckets ``(users, rows, columns)``, int64."""
        assert self.times is not None
        assert self.time_bias is not None
        times = _of_group(self.times, group, self.heads).view(group.users, self.heads, -1)
        times = times[block.first : block.last, 0]
        rows, columns = times[:, block.row : block.stop, None], times[:, None, : block.stop]
        return time_bucket(rows, columns, self.time_bias.shape[1]).long()

    def bias_gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Zeros to be filled by :meth:`accumulate_bias_gradients`."""
        position = None if self.position_bias is None else torch.zeros_like(self.position_bias)
        time = None if self.time_bias is None else torch.zeros_like(self.time_bias)
        return position, time

    def accumulate_bias_gradients(
        self,
        d_scores: Tensor,
        group: _Group,
        block: _Block,
        d_position: Tensor | None,
        d_time: Tensor | None,
    ) -> None:
        by_head = d_scores.view(-1, self.heads, *d_scores.shape[1:])
        if d_position is not None:
            index = self._position_index(block).flatten()
            d_position.index_add_(1, index, by_head.sum(0).flatten(1))
        if d_time is not None:
            bucket = self._time_bucket(group, block).flatten()
            for head in range(self.heads):
                d_time[head].index_add_(0, bucket, by_head[:, head].flatten())


def _where_above(values: Tensor, bits: Tensor, limit: int) -> Tensor:
    """``values where bits > limit, else 0``, in place.

    A ReLU's backward is this very selection, and it is vectorised for integers, unlike
    ``torch.where`` and ``masked_fill_`` (4 ns an element); floats go through it as bit patterns.
    """
    if values.dtype == torch.float64:
        return values.mul_(bits > limit)
    pattern = values.view(torch.int32)
    torch.ops.aten.threshold_backward.grad_input(pattern, bits, limit, grad_input=pattern)
    return values


def _of_group(rows: Tensor, group: _Group, heads: int) -> Tensor:
    """A group's rows of the padded layout as ``(users · heads, length, ...)``."""
    size = group.users * heads * group.length
    return rows[group.offset : group.offset + size].view(
        group.users * heads, group.length, *rows.shape[1:]
    )


def _matrices(block: _Block, heads: int) -> slice:
    return slice(block.first * heads, block.last * heads)


def _accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


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
    """Output ``(T, H, D)`` in q's dtype and log-sum-exp ``(T, H)`` in float32 (or float64)."""
    tokens, heads, head_dim = q.shape
    dtype = _accumulation_dtype(q.dtype)
    layout = _layout(cu_seqlens, heads)
    times = None if timestamps is None else relative_times(timestamps, cu_seqlens)
    shared = _Scores(layout, heads, scale, dropout_p, seed, position_bias, time_bias, times, dtype)
    q_padded = _gather(q, layout, dtype).mul_(scale)
    k_padded, v_padded = _gather(k, layout, dtype), _gather(v, layout, dtype)
    out_padded = torch.empty_like(q_padded)
    lse_padded = q_padded.new_empty(q_padded.shape[0])

    for group in layout.groups:
        grouped = [_of_group(x, group, heads) for x in (q_padded, k_padded, v_padded)]
        out, lse = (_of_group(x, group, heads) for x in (out_padded, lse_padded))
        for block in _blocks(group, heads):
            at, rows = _matrices(block, heads), slice(block.row, block.stop)
            q_at, k_at, v_at = (x[at] for x in grouped)
            scores = shared.scores(q_at, k_at, group, block)
            maximum = scores.amax(-1, keepdim=True)
            weights = scores.sub_(maximum)
            weights = torch.exp(weights, out=weights)
            total = weights.sum(-1, keepdim=True)
            lse[at, rows] = (maximum + total.log()).squeeze(-1)
            shared.drop(weights, group, block)
            out[at, rows] = torch.bmm(weights, v_at[:, : block.stop]).div_(
                total * (1.0 - dropout_p)
            )

    out = out_padded.index_select(0, layout.scatter).view(tokens, heads, head_dim)
    return out.to(q.dtype), lse_padded.index_select(0, layout.scatter).view(tokens, heads)


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
    heads = q.shape[1]
    dtype = _accumulation_dtype(q.dtype)
    layout = _layout(cu_seqlens, heads)
    times = None if timestamps is None else relative_times(timestamps, cu_seqlens)
    shared = _Scores(layout, heads, scale, dropout_p, seed, position_bias, time_bias, times, dtype)
    # dS = P ∘ (dP - δ), δ = rowsum(dO ∘ O) - dLSE: Dao et al., FlashAttention, 2022, appendix B.2.
    delta = (d_out.to(dtype) * out.to(dtype)).sum(-1)
    if d_lse is not None:
        delta -= d_lse
    q_padded, k_padded = _gather(q, layout, dtype).mul_(scale), _gather(k, layout, dtype)
    v_padded, d_out_padded = _gather(v, layout, dtype), _gather(d_out, layout, dtype)
    d_out_padded /= 1.0 - dropout_p
    delta_padded = delta.flatten().index_select(0, layout.gather)
    # An infinite log-sum-exp makes every weight of a padding row zero.
    lse_padded = lse.flatten().index_select(0, layout.gather)
    lse_padded.masked_fill_(layout.padding, math.inf)
    gradients = [torch.zeros_like(x) for x in (q_padded, k_padded, v_padded)]
    d_position, d_time = shared.bias_gradients()

    for group in layout.groups:
        grouped = [
            _of_group(x, group, heads)
            for x in (q_padded, k_padded, v_padded, d_out_padded, delta_padded, lse_padded)
        ]
        d_group = [_of_group(x, group, heads) for x in gradients]
        for block in _blocks(group, heads):
            at, rows, stop = _matrices(block, heads), slice(block.row, block.stop), block.stop
            q_at, k_at, v_at, d_out_at, delta_at, lse_at = (x[at] for x in grouped)
            d_q, d_k, d_v = (x[at] for x in d_group)
            q_rows, d_out_rows = q_at[:, rows], d_out_at[:, rows]

            weights = shared.scores(q_at, k_at, group, block)
            weights -= lse_at[:, rows, None]
            torch.exp(weights, out=weights)
            d_weights = torch.bmm(d_out_rows, v_at[:, :stop].mT)
            if dropout_p > 0.0:
                shared.drop(d_weights, group, block)
            d_scores = d_weights.sub_(delta_at[:, rows, None]).mul_(weights)
            shared.drop(weights, group, block)
            d_v[:, :stop].baddbmm_(weights.mT, d_out_rows)
            d_q[:, rows] = torch.bmm(d_scores, k_at[:, :stop]).mul_(scale)
            d_k[:, :stop].baddbmm_(d_scores.mT, q_rows)
            shared.accumulate_bias_gradients(d_scores, group, block, d_position, d_time)

    d_q, d_k, d_v = (x.index_select(0, layout.scatter).view(q.shape).to(q.dtype) for x in gradients)
    if d_position is not None and position_bias is not None:
        d_position = d_position.to(position_bias.dtype)
    if d_time is not None and time_bias is not None:
        d_time = d_time.to(time_bias.dtype)
    return d_q, d_k, d_v, d_position, d_time


def _gather(x: Tensor, layout: _Layout, dtype: torch.dtype) -> Tensor:
    """Rows ``(T · H, D)`` in the padded layout, converted."""
    return x.reshape(-1, x.shape[-1]).index_select(0, layout.gather).to(dtype)
