"""How far what is served and done now lies from what the champion was trained on.

The population stability index of two histograms p and q is Σ (p − q) ln(p / q): the symmetric
Kullback-Leibler divergence (Kullback and Leibler, 1951), as credit scoring has used it since the
1990s with 0.1 for "look" and 0.25 for "act".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.errors import DataError, first_problem
from sasrec.model.recommender import Recommender
from serving.settings import load_settings

FILE = "training_snapshot.json"
BINS = 10
RECENT_EVENTS = 20_000
SCORED_HISTORIES = 500
BATCH = 32  # histories scored at once: a score per item each
MINIMUM_OBSERVATIONS = 200  # fewer say more about chance than about drift
_EMPTY = 1e-4  # a bin that holds nothing, so that the logarithm is finite


class Distribution(BaseModel):
    """A histogram of training: `shares` of len(edges) + 1 bins, cut at `edges`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: list[float]
    shares: list[float]

    @classmethod
    def of(cls, values: np.ndarray) -> "Distribution":
        """About `BINS` bins of equal mass, by the values' own quantiles."""
        quantiles = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
        edges = np.unique(quantiles)
        return cls(edges=edges.tolist(), shares=_histogram(values, edges).tolist())

    def psi(self, values: np.ndarray) -> float | None:
        """The index of `values` (n,) against training; None for too few of them."""
        if len(values) < MINIMUM_OBSERVATIONS:
            return None
        return _index(np.array(self.shares), _histogram(values, np.array(self.edges)))


class TrainingSnapshot(BaseModel):
    """The newest `RECENT_EVENTS` of the training data as the service would have met them.

    A history counts once for each of these events, as it was just before: who comes often is asked
    for often, so users counted once each would look like drift on the first day.

    Attributes:
        item_popularity: of the events, by the rank of their item in popularity.
        popularity_rank: (V,) that rank of each item of the vocabulary, 0 the most popular.
        sequence_length: of the histories.
        top_score: the model's best score of an unseen item, for up to `SCORED_HISTORIES` of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_popularity: Distribution
    popularity_rank: list[int]
    sequence_length: Distribution
    top_score: Distribution

    @classmethod
    def take(cls, model_dir: Path, histories: PackedSequences) -> "TrainingSnapshot":
        """Describe the histories that a model was trained on.

        Args:
            model_dir: the saved model.
            histories: its training data, one user each.
        """
        longest = load_settings().history_length
        recommender = Recommender.load(model_dir)
        counts = np.bincount(histories.items, minlength=len(recommender.vocabulary) + 1)[1:]
        rank = np.empty(len(counts), dtype=np.int64)
        rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
        events = np.argsort(histories.timestamps, kind="stable")[-RECENT_EVENTS:]
        first = histories.cu_seqlens[np.searchsorted(histories.cu_seqlens, events, "right") - 1]
        warm = np.flatnonzero(events > first)[-SCORED_HISTORIES:]
        starts = np.maximum(first[warm], events[warm] - longest)
        return cls(
            item_popularity=Distribution.of(rank[histories.items[events] - 1]),
            popularity_rank=rank.tolist(),
            sequence_length=Distribution.of(np.minimum(events - first, longest)),
            top_score=Distribution.of(_top_scores(recommender, histories, starts, events[warm])),
        )

    def save(self, model_dir: Path) -> None:
        """Write `training_snapshot.json` beside the model."""
        (model_dir / FILE).write_text(self.model_dump_json())

    @classmethod
    def load(cls, model_dir: Path) -> "TrainingSnapshot | None":
        """What `save` wrote; None for a version without.

        Raises:
            DataError: the file does not hold a snapshot.
        """
        path = model_dir / FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise DataError(
                f"{path}: {first_problem(error).message}; register the model again"
            ) from None


@dataclass(frozen=True)
class Drift:
    """Population stability indices by distribution, and the share of unknown items in events."""

    psi: dict[str, float]
    unknown_items: float | None


def measure(
    snapshot: TrainingSnapshot,
    vocabulary: Vocabulary,
    *,
    item_ids: Sequence[str],
    history_lengths: np.ndarray,
    top_scores: np.ndarray,
) -> Drift:
    """Compare a window with training.

    Args:
        item_ids: of the window's events.
        history_lengths: (n,) of the lists' histories.
        top_scores: (m,) best score of each scored list.
    """
    items = vocabulary.encode(item_ids)
    known = items[items != PADDING]
    measured = {
        "item_popularity": snapshot.item_popularity.psi(
            np.array(snapshot.popularity_rank)[known - 1]
        ),
        "sequence_length": snapshot.sequence_length.psi(history_lengths),
        "top_score": snapshot.top_score.psi(top_scores),
    }
    return Drift(
        psi={name: value for name, value in measured.items() if value is not None},
        unknown_items=float((items == PADDING).mean()) if len(items) else None,
    )


def _top_scores(
    recommender: Recommender, events: PackedSequences, starts: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    """The best score of an item that is not in the history, for each history `start:end`."""
    best = []
    for batch in range(0, len(starts), BATCH):
        spans = list(zip(starts[batch : batch + BATCH], ends[batch : batch + BATCH], strict=True))
        items = [events.items[start:end] for start, end in spans]
        histories = PackedSequences(
            np.concatenate(items),
            np.cumsum([0, *map(len, items)], dtype=np.int32),
            np.concatenate([events.timestamps[start:end] for start, end in spans]),
        )
        scores = recommender.logits(histories)
        rows = np.repeat(np.arange(len(items)), histories.lengths)
        scores[rows, histories.items.tolist()] = -torch.inf
        best.append(scores.amax(1))
    return torch.cat(best).numpy() if best else np.empty(0)


def _histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    bins = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return bins / len(values)


def _index(expected: np.ndarray, actual: np.ndarray) -> float:
    p, q = np.maximum(expected, _EMPTY), np.maximum(actual, _EMPTY)
    return float(((q - p) * np.log(q / p)).sum())
