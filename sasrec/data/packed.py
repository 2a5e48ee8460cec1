"""Packed sequences: many histories end to end in one array, without padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BLOCK_EVENTS = 4_000_000
"""Events that are read at a time where all are read: what a pass takes of memory."""


@dataclass(frozen=True)
class PackedSequences:
    """B histories, oldest event first; history b is `items[cu_seqlens[b]:cu_seqlens[b + 1]]`.

    The arrays may be memory-mapped files (`sasrec.data.mapped`), so whoever reads many events does
    it in `blocks`, and takes a batch of histories with `select`, which copies only these.

    Attributes:
        items: (T,) int64, vocabulary indices; int32 in a file.
        cu_seqlens: (B + 1,) int32, cumulative lengths, starting at 0 and ending at T; int64 in a
            file.
        timestamps: (T,) int64, microseconds since the epoch.
        weights: (T,) float32, of each event as a target; None where all weigh one.
        asked_at: (B,) int64, microseconds since the epoch: when somebody asks what follows each
            history; None where nobody does, or the moment does not matter. Never in a file.
    """

    items: np.ndarray
    cu_seqlens: np.ndarray
    timestamps: np.ndarray
    weights: np.ndarray | None = None
    asked_at: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of histories, empty ones included."""
        return len(self.cu_seqlens) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(B,) integers, of the type of `cu_seqlens`."""
        return np.diff(self.cu_seqlens)

    @property
    def moments(self) -> np.ndarray:
        """(B,) `asked_at`.

        Raises:
            ValueError: nobody said when.
        """
        if self.asked_at is None:
            raise ValueError("histories: it is not known when they are asked about")
        return self.asked_at

    def blocks(self) -> Iterator[slice]:
        """Consecutive ranges of events that cover all, each of at most `BLOCK_EVENTS`."""
        for start in range(0, len(self.items), BLOCK_EVENTS):
            yield slice(start, min(start + BLOCK_EVENTS, len(self.items)))

    def parts(self) -> Iterator["PackedSequences"]:
        """Consecutive histories, in memory, of about `BLOCK_EVENTS` events together."""
        edges = np.arange(BLOCK_EVENTS, len(self.items), BLOCK_EVENTS)
        rows = np.unique(np.searchsorted(self.cu_seqlens, [0, *edges]))
        for start, stop in zip(rows, [*rows[1:], len(self)], strict=True):
            yield self.select(np.arange(start, stop))

    def counts(self, num_items: int) -> np.ndarray:
        """(num_items + 1,) int64, events of each item; entry 0 is of `PADDING`."""
        counts = np.zeros(num_items + 1, dtype=np.int64)
        for block in self.blocks():
            counts += np.bincount(self.items[block], minlength=num_items + 1)
        return counts

    def select(self, rows: np.ndarray, max_length: int | None = None) -> "PackedSequences":
        """The histories `rows` (n,), in that order, each cut to its newest `max_length` events.

        The result is in memory, and touches nothing else of `self`.
        """
        ends = self.cu_seqlens[rows + 1].astype(np.int64)
        lengths = ends - self.cu_seqlens[rows]
        if max_length is not None:
            lengths = np.minimum(lengths, max_length)
        cu_seqlens = np.concatenate([[0], np.cumsum(lengths)])
        offsets = np.arange(cu_seqlens[-1]) - np.repeat(cu_seqlens[:-1], lengths)
        source = np.repeat(ends - lengths, lengths) + offsets
        return PackedSequences(
            self.items[source].astype(np.int64, copy=False),
            cu_seqlens.astype(np.int32),
            self.timestamps[source],
            None if self.weights is None else self.weights[source],
            None if self.asked_at is None else self.asked_at[rows],
        )

    def __iter__(self) -> Iterator[np.ndarray]:
        """The items of each history in turn."""
        return iter(np.split(self.items, self.cu_seqlens[1:-1]))


@dataclass(frozen=True)
class EvaluationSet:
    """Users whose future is known: what they did before a cut, and what they did next.

    Attributes:
        name: the fold, "validation" or "test".
        user_ids: B ids, one row per user; a `UserIds` where they come from a file.
        histories: events strictly before the cut.
        targets: events from the cut on, in time order; an item outside the vocabulary is
            `PADDING` and counts as a miss.
        repeats: whether items of the history may be recommended; else such a target is a miss.
    """

    name: str
    user_ids: Sequence[str]
    histories: PackedSequences
    targets: PackedSequences
    repeats: bool = False

    def __len__(self) -> int:
        return len(self.user_ids)
