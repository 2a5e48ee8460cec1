"""The trend of a run: fitted in `train`, part of the scores in `evaluate`, as of now in `refit`."""

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sasrec.data.current import CurrentHistories
from sasrec.data.dataset import SequenceDataset
from sasrec.data.packed import PackedSequences
from sasrec.data.schema import TIMESTAMP
from sasrec.data.vocabulary import Vocabulary
from sasrec.scoring.decayed_counts import CountsInTime, DecayedCounts
from sasrec.scoring.scorer import Scorer
from sasrec.scoring.trend import Trend, Trending
from sasrec.scoring.trend_config import TrendConfig
from sasrec.scoring.trend_fit import fit_trend

Events = Iterable[tuple[np.ndarray, np.ndarray]]
"""(items, times) in parts, as `CountsInTime` takes them."""


def fit(
    scorer: Scorer, dataset: SequenceDataset, config: TrendConfig
) -> tuple[Trend | None, dict[str, Any]]:
    """What validation says of a trend, by the counts at the training cut; and the findings.

    None where a run takes no trend.
    """
    if not config.enabled:
        return None, {"missing": "trend.enabled is false"}
    if (cut := training_cut(dataset)) is None:
        return None, {"missing": "without a cut in time no moment ends what may be counted"}
    size, half_lives = len(dataset.vocabulary), config.seconds
    counts = CountsInTime(timed(dataset.train), size, half_lives, since=cut)
    fitted = fit_trend(scorer, dataset.validation, counts, half_lives)
    return fitted.trend, fitted.findings


class AsEvaluated:
    """Adds trends to scorers of a run's vocabulary, by all events before each question.

    Args:
        events: every positive event until the run's moment; asked for once per set of half-lives.
    """

    def __init__(self, dataset: SequenceDataset, events: Callable[[], Events]) -> None:
        self._dataset, self._events = dataset, events
        self._counts: dict[tuple[float, ...], CountsInTime] = {}

    def __call__(self, scorer: Scorer, trend: Trend | None) -> Scorer:
        """The scorer with its trend; as it is, where that adds nothing or no moment is known."""
        cut = training_cut(self._dataset)
        if trend is None or not trend.active or cut is None:
            return scorer
        if trend.half_lives not in self._counts:
            self._counts[trend.half_lives] = CountsInTime(
                self._events(), len(self._dataset.vocabulary), trend.half_lives, since=cut
            )
        return Trending(scorer, trend, self._counts[trend.half_lives])


def training_cut(dataset: SequenceDataset) -> int | None:
    """t1 in microseconds; None without a cut in time."""
    t1 = dataset.description.get("t1")
    return t1 and pa.scalar(datetime.fromisoformat(t1), TIMESTAMP).value


def timed(histories: PackedSequences) -> Events:
    """The events of histories, block by block."""
    return ((histories.items[b], histories.timestamps[b]) for b in histories.blocks())


def save_as_of_the_cut(trend: Trend, dataset: SequenceDataset, folder: Path) -> None:
    """Put a trend beside the evaluated model, with what it may know: counts at the training cut."""
    cut = training_cut(dataset)
    assert cut is not None, "a trend is fitted at a cut"
    counts = DecayedCounts.of(dataset.train, len(dataset.vocabulary), trend.half_lives, cut)
    trend.save(folder, counts)


def save_as_of_now(
    trend: Trend, now: CurrentHistories, vocabulary: Vocabulary, folder: Path
) -> None:
    """Put a trend beside the model that ships, with counts of all that happened until now.

    Args:
        vocabulary: of that model.
    """
    newest = int(now.histories.timestamps.max()) + 1
    counts = DecayedCounts.of(now.histories, len(now.vocabulary), trend.half_lives, newest)
    rows = now.vocabulary.encode(["", *vocabulary.item_ids])
    trend.save(
        folder,
        DecayedCounts(len(vocabulary), trend.half_lives, newest, counts.counts[:, rows]),
    )
