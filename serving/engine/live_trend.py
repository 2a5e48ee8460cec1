"""The trend of a version as a server has it: counts that go on from those of the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sasrec.data.roles import Roles
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.scoring.decayed_counts import DecayedCounts
from sasrec.scoring.trend import Trend

CANDIDATES = 500
"""Items that trend the most, which stand beside what an index finds by the model alone."""


@dataclass(frozen=True)
class Now:
    """What counts say at one moment; replaced as a whole, so that a request may keep it.

    Attributes:
        moment: microseconds since the epoch.
        bonus: (V + 1,) float32 to add to the model's scores; None where the trend adds nothing.
        trending: (<= `CANDIDATES`,) int64, the items with the largest bonus.
        popularity: (V + 1,) float32, by which a list is ordered that no history decides.
    """

    moment: int
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
        self._all_time = 1e-6 * all_time / max(float(all_time.max(initial=0)), 1.0)
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

        Args:
            items: vocabulary indices; what is not in the vocabulary is not counted.
            times: microseconds since the epoch; a time that is yet to come counts as `moment`.
        """
        counted = (items != PADDING) & (times >= self.since)
        self._counts.advance(moment)
        if counted.any():
            times = np.minimum(times[counted], self._counts.moment)
            self._counts.add(items[counted], times)
        self.now = self._look()

    def _look(self) -> Now:
        counts = self._counts.counts
        popularity = (counts[-1] + self._all_time).astype(np.float32)
        if not self._trend.active:
            return Now(self._counts.moment, None, np.zeros(0, dtype=np.int64), popularity)
        bonus = self._trend.bonus(counts)
        most = min(CANDIDATES, len(bonus) - 1)
        trending = np.argpartition(-bonus[1:], most - 1)[:most] + 1
        return Now(self._counts.moment, bonus, trending, popularity)


def positive(event_types: Sequence[str], roles: Roles) -> np.ndarray:
    """(n,) bool: which events a trend counts."""
    role = {kind: roles.role(kind) == "positive" for kind in set(event_types)}
    return np.array([role[kind] for kind in event_types], dtype=bool)
