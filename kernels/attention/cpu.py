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
small weights, where ``torch.exp2`` always takes 0.3. The layout is in ``cpu_layout.py``.
"""

import math

import torch
from torch import Tensor

from kernels.attention.cpu_layout import Chunk, Layout, rows_of_block
from kernels.attention.cpu_short import is_one_short_user, one_short_user
from kernels.attention.inputs import Inputs
from kernels.attention.relative_bias import position_index, relative_times, time_bucket
from kernels.dropout import hash_keys, threshold
from kernels.precision import LOG2_E, sum_dtype


class _Call:
    """One call's inputs and buffers, and what forward and backward both compute with them."""

    def __init__(self, inputs: Inputs) -> None:
        q, _, _, cu_seqlens, seed, position_bias, time_bias, timestamps, *numbers = inputs
        self.tokens, self.heads, self.head_dim = q.shape
        self.dtype = sum_dtype(q.dtype)
        self.dropout_p, self.scale = numbers
        self.layout = Layout(cu_seqlens, self.heads)
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
                c.matrices * c.length * rows_of_block(c.length, c.matrices)
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
        self, name: str, chunk: Chunk, rows: slice, dtype: torch.dtype | None = None
    ) -> Tensor:
        """The buffer of this name as scores ``(matrices, rows, columns up to the last row)``."""
        shape = (chunk.matrices, rows.stop - rows.start, rows.stop)
        buffer = self._buffers.get(name)
        if buffer is None:
            buffer = torch.empty(self._scores_size, dtype=dtype or self.dtype)
            self._buffers[name] = buffer
        return buffer[: math.prod(shape)].view(shape)

    def scores(self, q: Tensor, k: Tensor, chunk: Chunk, rows: slice) -> Tensor:
        """Masked scores of a block in units of log 2, in a buffer."""
        scores = self.tile("scores", chunk, rows)
        scores.baddbmm_(q[:, rows], k[:, : rows.stop].mT, beta=0, alpha=self.scale * LOG2_E)
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

    def dropout_bits(self, keys: list[Tensor], chunk: Chunk, rows: slice) -> Tensor:
        """Hash of every weight of a block, from the chunk's keys."""
        multiplier, offset, column = keys
        bits = self.tile("bits", chunk, rows, torch.int32)
        torch.mul(multiplier[:, rows, None], column[:, None, : rows.stop], out=bits)
        return bits.add_(offset[:, rows, None])

    def chunk_keys(self, chunk: Chunk) -> list[Tensor] | None:
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

    def _time_bucket(self, chunk: Chunk, rows: slice) -> Tensor:
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
        chunk: Chunk,
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


def forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output ``(T, H, D)`` in q's dtype and log-sum-exp ``(T, H)`` in float32 (or float64)."""
    if is_one_short_user(inputs):
        return one_short_user(inputs)
    call = _Call(inputs)
    q, k, v, dropout_p = inputs.q, inputs.k, inputs.v, inputs.dropout_p
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
    return call.packed(padded_out).to(q.dtype), call.packed(padded_lse) / LOG2_E


def backward(
    d_out: Tensor, d_lse: Tensor | None, out: Tensor, lse: Tensor, inputs: Inputs
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of q, k, v, the position table and the time table. ``out`` is not needed here."""
    call = _Call(inputs)
    q, k, v, dropout_p, scale = inputs.q, inputs.k, inputs.v, inputs.dropout_p, inputs.scale
    position_bias, time_bias = inputs.position_bias, inputs.time_bias
    padded_q, padded_k, padded_v, padded_d_out = (call.padded_rows(x) for x in (q, k, v, d_out))
    d_q, d_k, d_v = (torch.empty_like(padded_q) for _ in range(3))
    # An infinite log-sum-exp makes every weight of a padding row zero.
    padded_lse = call.padded(lse.reshape(-1)).mul_(LOG2_E)
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
    return None if table is None else table.to(dtype) * LOG2_E
