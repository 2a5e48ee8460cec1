"""How often each item was met lately: counts in which an event weighs less the older it is.

c_ij(t) = Σ over the events of item i before t of 2^(−(t − t_event) / h_j), for half-lives h_j:
exponentially decayed counts (Cohen and Strauss 2006, "Maintaining time-decaying stream
aggregates", section 3). One number per item and half-life says all that was: a multiplication moves
it to another moment, an addition counts an event.
"""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from typing import Self

import numpy as np

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import PADDING

SECOND = 1_000_000
"""In microseconds, which all times are."""

LEAST_FACTOR = 1e-6  # below it, sums are multiplied out
FORGOTTEN = 1e-30  # a count that is nothing; numbers near the least float are slow to multiply


class DecayedCounts:
    """Counts (J, V + 1) as of one moment, which only moves forward.

    They are kept as sums and one factor per half-life, so that time passes at no cost.

    Args:
        num_items: V.
        half_lives: (J,) in seconds.
        moment: microseconds since the epoch.
        counts: (J, V + 1) as of `moment`; all zero by default.

    Attributes:
        moment: as given, or later.
    """

    def __init__(
        self,
        num_items: int,
        half_lives: Sequence[float],
        moment: int,
        counts: np.ndarray | None = None,
    ) -> None:
        self.moment = moment
        self._half_lives = np.asarray(half_lives, dtype=np.float64) * SECOND
        shape = (len(half_lives), num_items + 1)
        self._sums = (
            np.zeros(shape) if counts is None else np.array(counts, dtype=np.float64, order="C")
        )
        self._factors = np.ones(len(half_lives))

    @property
    def counts(self) -> np.ndarray:
        """(J, V + 1) float64, a copy; nothing is counted of `PADDING`."""
        return self._sums * self._factors[:, None]

    def of_items(self, items: np.ndarray) -> np.ndarray:
        """(J, n) float64 of vocabulary indices `items` (n,)."""
        return self._sums[:, items] * self._factors[:, None]

    @classmethod
    def of(
        cls,
        histories: PackedSequences,
        num_items: int,
        half_lives: Sequence[float],
        moment: int,
    ) -> Self:
        """Of all events of `histories` strictly before `moment`, read block by block."""
        counts = cls(num_items, half_lives, moment)
        for block in histories.blocks():
            counts.add_earlier(histories.items[block], histories.timestamps[block])
        return counts

    def add(self, items: np.ndarray, times: np.ndarray) -> None:
        """Count events (n,) of vocabulary indices `items` at `times`, none after `moment`."""
        age = self.moment - times
        for sums, half_life, factor in zip(
            self._sums, self._half_lives, self._factors, strict=True
        ):
            weights = np.exp2(-age / half_life) / factor
            if len(items) < len(sums):
                np.add.at(sums, items, weights)
            else:
                sums += np.bincount(items, weights=weights, minlength=len(sums))
        self._sums[:, PADDING] = 0.0

    def add_earlier(self, items: np.ndarray, times: np.ndarray) -> None:
        """Count those of the events that happened strictly before `moment`."""
        earlier = times < self.moment
        self.add(items[earlier], times[earlier])

    def advance(self, moment: int) -> None:
        """Let time pass until `moment`; a clock that went back changes nothing."""
        if moment <= self.moment:
            return
        self._factors = self._factors * np.exp2(-(moment - self.moment) / self._half_lives)
        self.moment = moment
        if self._factors.min() < LEAST_FACTOR:
            self._sums *= self._factors[:, None]
            self._sums[self._sums < FORGOTTEN] = 0.0
            self._factors = np.ones(len(self._factors))

    def copy(self) -> Self:
        """The same counts, to be changed on their own."""
        other = copy(self)
        other._sums = self._sums.copy()
        return other


class CountsInTime:
    """Decayed counts as of any moment from a first one on.

    What was before the first moment is summed up; later events are kept, in the order of time.

    Args:
        events: (items, times) of all users, in parts and any order.
        num_items, half_lives: as `DecayedCounts` has them.
        since: the first moment, in microseconds.

    Attributes:
        num_items: as given.
    """

    def __init__(
        self,
        events: Iterable[tuple[np.ndarray, np.ndarray]],
        num_items: int,
        half_lives: Sequence[float],
        since: int,
    ) -> None:
        self.num_items = num_items
        self._first = DecayedCounts(num_items, half_lives, since)
        items, times = [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.int64)]
        for of_part, at in events:
            self._first.add_earlier(of_part, at)
            later = at >= since
            items.append(of_part[later].astype(np.int32))
            times.append(at[later])
        order = np.argsort(found := np.concatenate(times), kind="stable")
        self._items, self._times = np.concatenate(items)[order], found[order]
        self._last = self._first

    def at(self, moments: np.ndarray) -> Iterator[np.ndarray]:
        """Counts (J, V + 1) as of each of `moments` (m,), ascending: of all strictly before it.

        An array holds until the next one is asked for. A moment after those of earlier calls goes
        on from there; another begins from the first one.

        Raises:
            ValueError: a moment lies before the first.
        """
        for moment in map(int, moments):
            if moment < self._first.moment:
                raise ValueError(f"counts: {moment} is before the first moment that is known")
            if self._last is self._first or moment < self._last.moment:
                self._last = self._first.copy()
            start, stop = np.searchsorted(self._times, (self._last.moment, moment))
            self._last.advance(moment)
            if stop > start:
                self._last.add(self._items[start:stop], self._times[start:stop])
            yield self._last.counts
