"""How packed users are laid out on a CPU: in padded groups, walked in blocks of scores."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Rows of one block, and scores of one block (users · heads · rows · columns): 1 MiB in float32,
# half of a core's L2. Chosen by measurement (docs/kernel.md).
_BLOCK_ROWS = 128
_BLOCK_SCORES = 2**18
# A very long user gets narrower blocks, but not narrower than this.
_LEAST_ROWS = 32
# Scores whose padding costs as much as another group's operations take to start.
_GROUP_SCORES = 2**15


@dataclass(frozen=True)
class Chunk:
    """Some users of one padded length, as a batch of ``users · heads`` matrices.

    ``rows`` are theirs in the padded layout, user after user, head after head.
    """

    users: int
    heads: int
    length: int
    rows: slice

    @property
    def matrices(self) -> int:
        """How many there are."""
        return self.users * self.heads

    def blocks(self) -> list[slice]:
        """Blocks of rows."""
        step = rows_of_block(self.length, self.matrices)
        firsts = range(0, self.length, step)
        return [slice(first, min(first + step, self.length)) for first in firsts]

    def of(self, padded: Tensor) -> Tensor:
        """Its rows of ``padded (P, ...)`` as ``(matrices, length, ...)``."""
        return padded[self.rows].view(self.matrices, self.length, *padded.shape[1:])


def rows_of_block(length: int, matrices: int) -> int:
    """Rows of a block of scores of users of this padded length."""
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


def _chunks(lengths: list[int], heads: int) -> tuple[list[Chunk], list[int]]:
    """Users of these lengths, in falling order, in chunks; and the padded length of each user."""
    chunks: list[Chunk] = []
    padded_lengths: list[int] = []
    row = 0
    for size in _groups(lengths, heads):
        length = lengths[len(padded_lengths)]
        padded_lengths += [length] * size
        step = _users_of_chunk(length, heads)
        for first in range(0, size, step):
            users = min(step, size - first)
            rows = slice(row, row + users * heads * length)
            chunks.append(Chunk(users, heads, length, rows))
            row = rows.stop
    return chunks, padded_lengths


class Layout:
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
