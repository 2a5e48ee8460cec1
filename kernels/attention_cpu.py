"""Packed causal attention on the CPU: users grouped by length, scores kept in cache.

Users are sorted by length and grouped; a group is padded to one length (by repeating each user's
last token, never by another user's data), so that some of its users at a time are one batch of
dense matrices. Such a chunk is walked in blocks of rows, small enough that every pass over the
scores stays in cache, in buffers that all blocks share: on a CPU, fresh memory costs more than
the arithmetic. A block of rows multiplies with the columns up to its last row only, which skips
most of what lies above the diagonal; padding comes last, so the causal mask hides it from real
rows.

Forward saves the log-sum-exp alone; backward recomputes the weights and the dropout mask.

Scores are kept in units of log 2: ``torch.exp`` takes 2 to 20 ns an element at masked and very
small weights, where ``torch.exp2`` always takes 0.3.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.dropout import hash_keys, threshold
from kernels.relative_bias import position_index, relative_times, time_bucket

_LOG2_E = math.log2(math.e)
# Rows of one block, and scores of one block (users · heads · rows · columns): 1 MiB in float32,
# half of a core's L2. Chosen by measurement (docs/kernel.md).
_BLOCK_ROWS = 128
_BLOCK_SCORES = 2**18
# A very long user gets narrower blocks, but not narrower than this.
_LEAST_ROWS = 32
# Scores whose padding costs as much as another group's operations take to start.
_GROUP_SCORES = 2**15
# One user as short as this is a request to serve: its time goes into starting operations.
_SHORT = 512


@dataclass(frozen=True)
class _Chunk:
    """Some users of one padded length, as a batch of ``users · heads`` matrices.

    ``rows`` are theirs in the padded layout, user after user, head after head.
    """

    users: int
    heads: int
    length: int
    rows: slice

    @property
    def matrices(self) -> int:
        return self.users * self.heads

    def blocks(self) -> list[slice]:
        """Blocks of rows."""
        step = _rows_of_block(self.length, self.matrices)
        firsts = range(0, self.length, step)
        return [slice(first, min(first + step, self.length)) for first in firsts]

    def of(self, padded: Tensor) -> Tensor:
        """Its rows of ``padded (P, ...)`` as ``(matrices, length, ...)``."""
        return padded[self.rows].view(self.matrices, self.length, *padded.shape[1:])


def _rows_of_block(length: int, matrices: int) -> int:
    rows = min(_BLOCK_ROWS, _BLOCK_SCORES // (matrices * length))
    return min(length, max(rows, _LEAST_ROWS))


def _users_of_chunk(length: int, heads: int) -> int:
    return max(1, _BLOCK_SCORES // (heads * length * min(length, _BLOCK_ROWS)))


def _groups(lengths: list[int], heads: int) -> list[int]:
    """Sizes of groups of similar lengths, from lengths in falling order.

    A group takes shorter users for as long as the scores of their padding cost less than a group
    of their own.
    """
    sizes: list[int] = []
    longest, wasted = 0, math.inf
    for length in lengths:
        wasted += heads * (longest * longest - length * length) / 2
        if wasted > _GROUP_SCORES:
            sizes.append(0)
            longest, wasted = length, 0.0
        sizes[-1] += 1
    return sizes


def _chunks(lengths: list[int], heads: int) -> tuple[list[_Chunk], list[int]]:
    """Users of these lengths, in falling order, in chunks; and the padded length of each user."""
    chunks: list[_Chunk] = []
    padded_lengths: list[int] = []
    row = 0
    for size in _groups(lengths, heads):
        length = lengths[len(padded_lengths)]
        padded_lengths += [length] * size
        step = _users_of_chunk(length, heads)
        for first in range(0, size, step):
            users = min(step, size - first)
            rows = slice(row, row + users * heads * length)
            chunks.append(_Chunk(users, heads, length, rows))
            row = rows.stop
    return chunks, padded_lengths


class _Layout:
    """Users side by side in padded groups, longest first.

    Attributes:
        chunks: the padded rows, some users at a time.
        source: ``(P,)``, the row of the ``(T · H, D)`` matrix behind each padded row; padding
            repeats the user's last.
        padding: ``(P,)`` bool.
        place: ``(T · H,)``, where each row is in the padded layout.
    """

    def __init__(self, cu_seqlens: Tensor, heads: int) -> None:
        bounds = cu_seqlens.long()
        lengths, order = bounds.diff().sort(descending=True, stable=True)
        lengths = lengths[lengths > 0]
        starts = bounds[order[: len(lengths)]]
        self.chunks, padded_lengths = _chunks(lengths.tolist(), heads)

        # Of each padded row: where its user begins there and among the tokens, and how long it is.
        padded = torch.tensor(padded_lengths, dtype=torch.int64)
        sizes = padded * heads
        of_user = torch.stack([sizes.cumsum(0) - sizes, starts, lengths - 1, padded])
        begin, start, last, length = of_user.repeat_interleave(sizes, dim=1)
        within = torch.arange(len(begin)) - begin
        head = within.div(length, rounding_mode="floor")
        position = within - head * length
        self.padding = position > last
        self.source = (start + torch.minimum(position, last)) * heads + head
        real = (~self.padding).nonzero().flatten()
        self.place = torch.empty_like(real)
        self.place[self.source[real]] = real


class _Call:
    """One call's inputs and buffers, and what forward and backward both compute with them."""

    def __init__(
        self,
        q: Tensor,
        cu_seqlens: Tensor,
        seed: Tensor | None,
        position_bias: Tensor | None,
        time_bias: Tensor | None,
        timestamps: Tensor | None,
        dropout_p: float,
        scale: float,
    ) -> None:
        self.tokens, self.heads, self.head_dim = q.shape
        self.dtype = torch.promote_types(q.dtype, torch.float32)
        self.scale, self.dropout_p = scale, dropout_p
        self.layout = _Layout(cu_seqlens, self.heads)
        self.position_bias = _in_log2(position_bias, self.dtype)
        self.time_bias = _in_log2(time_bias, self.dtype)
        self.times = None if timestamps is None else relative_times(timestamps, cu_seqlens)
        self.keys = None
        if seed is not None:
            keys = hash_keys(seed, self.heads, self.tokens)
            self.keys = [self.padded(key.T.reshape(-1)) for key in keys]
        self._buffers: dict[str, Tensor] = {}
        self._masks: dict[int, Tensor] = {}
        self._scores_size = max(
            (
                c.matrices * c.length * _rows_of_block(c.length, c.matrices)
                for c in self.layout.chunks
            ),
            default=0,
        )

    def padded(self, x: Tensor) -> Tensor:
        """Rows or elements ``(T · H, ...)`` in the padded layout ``(P, ...)``."""
        return x.index_select(0, self.layout.source)

    def packed(self, x: Tensor) -> Tensor:
        """Padded rows or elements ``(P, ...)`` back as ``(T, H, ...)``."""
        return x.index_select(0, self.layout.place).view(self.tokens, self.heads, *x.shape[1:])

    def padded_rows(self, x: Tensor) -> Tensor:
        """``(T, H, D)`` as ``(P, D)``, in the dtype of the arithmetic."""
        return self.padded(x.reshape(-1, x.shape[-1])).to(self.dtype)

    def tile(
        self, name: str, chunk: _Chunk, rows: slice, dtype: torch.dtype | None = None
    ) -> Tensor:
        """The buffer of this name as scores ``(matrices, rows, columns up to the last row)``."""
        shape = (chunk.matrices, rows.stop - rows.start, rows.stop)
        buffer = self._buffers.get(name)
        if buffer is None:
            buffer = torch.empty(self._scores_size, dtype=dtype or self.dtype)
            self._buffers[name] = buffer
        return buffer[: math.prod(shape)].view(shape)

    def scores(self, q: Tensor, k: Tensor, chunk: _Chunk, rows: slice) -> Tensor:
        """Masked scores of a block in units of log 2, in a buffer."""
        scores = self.tile("scores", chunk, rows)
        scores.baddbmm_(q[:, rows], k[:, : rows.stop].mT, beta=0, alpha=self.scale * _LOG2_E)
        by_head = scores.view(-1, self.heads, *scores.shape[1:])
        if self.position_bias is not None:
            by_head += self.position_bias[:, self._position_index(rows)]
        if self.time_bias is not None:
            bucket = self._time_bucket(chunk, rows)
            for head in range(self.heads):
                by_head[:, head] += self.time_bias[head].take(bucket)
        diagonal = scores[:, :, rows]
        diagonal += self._future(diagonal.shape[1])
        return scores

    def _future(self, size: int) -> Tensor:
        """-inf above the diagonal, ``(size, size)``."""
        mask = self._masks.get(size)
        if mask is None:
            mask = torch.full((size, size), -math.inf, dtype=self.dtype).triu_(1)
            self._masks[size] = mask
        return mask

    def dropout_bits(self, keys: list[Tensor], chunk: _Chunk, rows: slice) -> Tensor:
        """Hash of every weight of a block, from the chunk's keys."""
        multiplier, offset, column = keys
        bits = self.tile("bits", chunk, rows, torch.int32)
        torch.mul(multiplier[:, rows, None], column[:, None, : rows.stop], out=bits)
        return bits.add_(offset[:, rows, None])

    def chunk_keys(self, chunk: _Chunk) -> list[Tensor] | None:
        return None if self.keys is None else [chunk.of(key) for key in self.keys]

    def drop(self, weights: Tensor, bits: Tensor) -> None:
        """Set the dropped ones of a block's weights to 0, in place.

        A ReLU's backward is this very selection, and it is vectorised for integers, unlike
        ``torch.where`` and ``masked_fill_`` (4 ns an element); floats go through as bit patterns.
        """
        limit = threshold(self.dropout_p)
        if weights.dtype == torch.float64:
            weights.mul_(bits > limit)
        else:
            pattern = weights.view(torch.int32)
            torch.ops.aten.threshold_backward.grad_input(pattern, bits, limit, grad_input=pattern)

    def _position_index(self, rows: slice) -> Tensor:
        assert self.position_bias is not None
        row, column = torch.arange(rows.start, rows.stop), torch.arange(rows.stop)
        return position_index(row[:, None], column[None, :], self.position_bias.shape[1] - 1)

    def _time_bucket(self, chunk: _Chunk, rows: slice) -> Tensor:
        """Buckets ``(users, rows, columns)``, int64."""
        assert self.times is not None
        assert self.time_bias is not None
        source = self.layout.source[chunk.rows].view(chunk.users, self.heads, chunk.length)
        token = source[:, 0] // self.heads
        times = self.times[token]
        row, column = times[:, rows, None], times[:, None, : rows.stop]
        return time_bucket(row, column, self.time_bias.shape[1]).long()

    def add_bias_gradients(
        self,
        d_scores: Tensor,
        chunk: _Chunk,
        rows: slice,
        d_position: Tensor | None,
        d_time: Tensor | None,
    ) -> None:
        """Add a block's share to the tables' gradients: in float64, as one entry sums so many."""
        by_head = d_scores.view(-1, self.heads, *d_scores.shape[1:])
        if d_position is not None:
            index = self._position_index(rows).flatten()
            d_position.index_add_(1, index, by_head.sum(0).flatten(1).double())
        if d_time is not None:
            bucket = self._time_bucket(chunk, rows).flatten()
            for head in range(self.heads):
                d_time[head].index_add_(0, bucket, by_head[:, head].flatten().double())


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
    if cu_seqlens.numel() == 2 and 0 < q.shape[0] <= _SHORT and seed is None:
        return _one_short_user(q, k, v, cu_seqlens, position_bias, time_bias, timestamps, scale)
    call = _Call(q, cu_seqlens, seed, position_bias, time_bias, timestamps, dropout_p, scale)
    padded_q, padded_k, padded_v = (call.padded_rows(x) for x in (q, k, v))
    padded_out = torch.empty_like(padded_q)
    padded_lse = padded_q.new_empty(len(padded_q))

    for chunk in call.layout.chunks:
        q_at, k_at, v_at = chunk.of(padded_q), chunk.of(padded_k), chunk.of(padded_v)
        out_at, lse_at, keys = chunk.of(padded_out), chunk.of(padded_lse), call.chunk_keys(chunk)
        for rows in chunk.blocks():
            weights = call.scores(q_at, k_at, chunk, rows)
            maximum = weights.amax(-1, keepdim=True)
            torch.exp2(weights.sub_(maximum), out=weights)
            total = weights.sum(-1, keepdim=True)
            lse_at[:, rows] = (maximum + total.log2()).squeeze(-1)
            if keys is not None:
                call.drop(weights, call.dropout_bits(keys, chunk, rows))
            weighted = torch.bmm(weights, v_at[:, : rows.stop])
            torch.div(weighted, total * (1.0 - dropout_p), out=out_at[:, rows])
    return call.packed(padded_out).to(q.dtype), call.packed(padded_lse) / _LOG2_E


def _one_short_user(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    timestamps: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """As :func:`forward`, with one dense matrix a head, in as few operations as it takes."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    q_at, k_at, v_at = (x.to(dtype).transpose(0, 1) for x in (q, k, v))
    if position_bias is None and time_bias is None:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q_at[None], k_at[None], v_at[None], 0.0, True, scale=scale
        )
        return out[0].transpose(0, 1).to(q.dtype).contiguous(), lse[0].T.contiguous()
    scores = (q_at @ k_at.mT).mul_(scale * _LOG2_E)
    token = torch.arange(q.shape[0])
    if position_bias is not None:
        index = position_index(token[:, None], token, position_bias.shape[1] - 1)
        scores += (position_bias.to(dtype) * _LOG2_E)[:, index]
    if time_bias is not None and timestamps is not None:
        times = relative_times(timestamps, cu_seqlens)
        bucket = time_bucket(times[:, None], times, time_bias.shape[1])
        scores += (time_bias.to(dtype) * _LOG2_E)[:, bucket.long()]
    scores += torch.full(scores.shape[1:], -math.inf, dtype=dtype).triu_(1)
    maximum = scores.amax(-1, keepdim=True)
    weights = torch.exp2(scores.sub_(maximum), out=scores)
    total = weights.sum(-1, keepdim=True)
    out = (weights @ v_at).div_(total).transpose(0, 1).to(q.dtype).contiguous()
    lse = maximum.add_(total.log2()).squeeze(-1) / _LOG2_E
    return out, lse.T.contiguous()


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
    """Gradients of q, k, v, the position table and the time table. ``out`` is not needed here."""
    call = _Call(q, cu_seqlens, seed, position_bias, time_bias, timestamps, dropout_p, scale)
    padded_q, padded_k, padded_v, padded_d_out = (call.padded_rows(x) for x in (q, k, v, d_out))
    d_q, d_k, d_v = (torch.empty_like(padded_q) for _ in range(3))
    # An infinite log-sum-exp makes every weight of a padding row zero.
    padded_lse = call.padded(lse.reshape(-1)).mul_(_LOG2_E)
    padded_lse.masked_fill_(call.layout.padding, math.inf)
    kept_share = 1.0 - dropout_p
    padded_d_lse = None if d_lse is None else call.padded(d_lse.reshape(-1)).mul_(kept_share)
    d_position, d_time = (
        None if table is None else torch.zeros_like(table, dtype=torch.float64)
        for table in (call.position_bias, call.time_bias)
    )

    for chunk in call.layout.chunks:
        q_at, k_at, v_at = chunk.of(padded_q), chunk.of(padded_k), chunk.of(padded_v)
        d_out_at, lse_at = chunk.of(padded_d_out), chunk.of(padded_lse)
        d_q_at, d_k_at, d_v_at = chunk.of(d_q), chunk.of(d_k), chunk.of(d_v)
        keys = call.chunk_keys(chunk)

        # From the last block, which reaches every column: so the first product may overwrite.
        for rows in reversed(chunk.blocks()):
            weights = call.scores(q_at, k_at, chunk, rows)
            torch.exp2(weights.sub_(lse_at[:, rows, None]), out=weights)
            d_scores = call.tile("d_scores", chunk, rows)
            torch.bmm(d_out_at[:, rows], v_at[:, : rows.stop].mT, out=d_scores)
            bits = None if keys is None else call.dropout_bits(keys, chunk, rows)
            if bits is not None:
                call.drop(d_scores, bits)
            # dS = P ∘ (dP - rowsum(P ∘ dP)). A block holds whole rows, so the sum is taken from
            # them and not from dO ∘ O, which would round otherwise where the two cancel. The
            # factor 1 / (1 - p) within dP is left to the products at the end.
            total = d_scores.mul_(weights).sum(-1, keepdim=True)
            if padded_d_lse is not None:
                total -= chunk.of(padded_d_lse)[:, rows, None]
            d_scores.addcmul_(weights, total, value=-1.0)
            if bits is not None:
                call.drop(weights, bits)
            beta, alpha = int(rows.stop < chunk.length), scale / kept_share
            columns = slice(0, rows.stop)
            d_v_at[:, columns].baddbmm_(
                weights.mT, d_out_at[:, rows], beta=beta, alpha=1.0 / kept_share
            )
            d_k_at[:, columns].baddbmm_(d_scores.mT, q_at[:, rows], beta=beta, alpha=alpha)
            d_q_at[:, rows].baddbmm_(d_scores, k_at[:, columns], beta=0, alpha=alpha)
            call.add_bias_gradients(d_scores, chunk, rows, d_position, d_time)

    if d_position is not None and position_bias is not None:
        d_position = (d_position / kept_share).to(position_bias.dtype)
    if d_time is not None and time_bias is not None:
        d_time = (d_time / kept_share).to(time_bias.dtype)
    d_q, d_k, d_v = (call.packed(d_x).to(q.dtype) for d_x in (d_q, d_k, d_v))
    return d_q, d_k, d_v, d_position, d_time


def _in_log2(table: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if table is None else table.to(dtype) * _LOG2_E
