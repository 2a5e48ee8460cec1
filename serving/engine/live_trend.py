"""The trend of a version as a server has it: counts that go on from those of the model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.scoring.decayed_counts import DecayedCounts
from sasrec.scoring.trend import Trend

CANDIDATES = 500
"""Items that trend the most, which stand beside what an index finds by the model alone."""

RENEWED = 5_000_000
"""Microseconds after which all items are looked at again."""


@dataclass(frozen=True)
class Now:
    """What counts say at one moment; replaced as a whole, so that a request may keep it.

    Attributes:
        renewed: microseconds since the epoch, when all items were looked at.
        bonus: (V + 1,) float32 to add to the model's scores; None where the trend adds nothing.
        trending: (<= `CANDIDATES`,) int64, the items with the largest bonus.
        popularity: (V + 1,) float32, by which a list is ordered that no history decides.
    """

    renewed: int
    bonus: np.ndarray | None
    trending: np.ndarray
    popularity: np.ndarray


class LiveTrend:
    """Counts of one version, moved by one thread and read by all.

    It begins with the counts that were stored with the model, so a version answers its golden
    requests as they were recorded until somebody moves it.

    Args:
        trend: of the version.
        stored: reads the counts as of the model's moment.
        all_time: (V + 1,) float32, orders items of which nothing was counted lately.

    Attributes:
        since: the model's moment: earlier events are in its counts already.
        now: what counts say.
    """

    def __init__(
        self, trend: Trend, stored: Callable[[], DecayedCounts], all_time: np.ndarray
    ) -> None:
        self._trend, self._stored, self._counts = trend, stored, stored()
        # Below every count, as a tie-breaker is.
        most = max(float(all_time.max(initial=0)), 1.0)
        self._all_time = (1e-6 * all_time / most).astype(np.float32)
        self.since = self._counts.moment
        self.now = self._look()

    @classmethod
    def load(
        cls, directory: Path, vocabulary: Vocabulary, all_time: np.ndarray
    ) -> "LiveTrend | None":
        """Of a version; None where it has none.

        Raises:
            DataError: its files are damaged.
        """
        trend = Trend.load(directory)
        if trend is None:
            return None
        return cls(trend, partial(trend.load_counts, directory, len(vocabulary)), all_time)

    def restart(self) -> None:
        """Begin again with the counts of the model."""
        self._counts = self._stored()
        self.now = self._look()

    def move(self, items: np.ndarray, times: np.ndarray, moment: int) -> None:
        """Let time pass until `moment`, and count events (n,) that happened since the model's.

        The items of the events are looked at at once, all others every `RENEWED` microseconds: in
        that time counts that halve over hours stay what they are.

        Args:
            items: vocabulary indices; what is not in the vocabulary is not counted.
            times: microseconds since the epoch; a time that is yet to come counts as `moment`.
        """
        counted = (items != PADDING) & (times >= self.since)
        self._counts.advance(moment)
        met = np.unique(items[counted])
        if len(met):
            self._counts.add(items[counted], np.minimum(times[counted], self._counts.moment))
        if self._counts.moment - self.now.renewed >= RENEWED or len(met) > len(self._all_time) / 4:
            self.now = self._look()
        elif len(met):
            self.now = self._look_at(met)

    def _look(self) -> Now:
        counts = self._counts.counts.astype(np.float32)
        popularity = counts[-1] + self._all_time
        if not self._trend.active:
            return Now(self._counts.moment, None, np.zeros(0, dtype=np.int64), popularity)
        bonus = self._trend.bonus(counts)
        return Now(
            self._counts.moment, bonus, _largest(bonus, np.arange(1, len(bonus))), popularity
        )

    def _look_at(self, items: np.ndarray) -> Now:
        """What is known, but for some items of which more is known now."""
        counts = self._counts.of_items(items)
        popularity = self.now.popularity.copy()
        popularity[items] = counts[-1] + self._all_time[items]
        if self.now.bonus is None:
            return replace(self.now, popularity=popularity)
        bonus = self.now.bonus.copy()
        bonus[items] = self._trend.bonus(counts)
        trending = _largest(bonus, np.union1d(self.now.trending, items))
        return replace(self.now, bonus=bonus, trending=trending, popularity=popularity)


def _largest(bonus: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Of `items`, at most `CANDIDATES` with the largest bonus."""
    if len(items) <= CANDIDATES:
        return items
    return items[np.argpartition(-bonus[items], CANDIDATES - 1)[:CANDIDATES]]
