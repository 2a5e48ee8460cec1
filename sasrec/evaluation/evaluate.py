"""One evaluation: a model, its baselines and the champion on the same users, scored now.

The headline is the next-item protocol: each user's first event after the cut, ranked among the
whole catalogue. `window_*` metrics take all of a user's later events as relevant.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from sasrec import progress
from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.vocabulary import PADDING
from sasrec.errors import DataError
from sasrec.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Interval, mean_intervals
from sasrec.evaluation.catalogue import Catalogue
from sasrec.evaluation.result import (
    CHAMPION,
    CUTOFFS,
    LIST_LENGTH,
    MODEL,
    ORDER_SHUFFLED,
    WITHOUT_TREND,
    Evaluation,
    Example,
    Protocol,
)
from sasrec.evaluation.slices import slice_users
from sasrec.scoring import metrics
from sasrec.scoring.baselines import Popularity
from sasrec.scoring.order_shuffled import OrderShuffled
from sasrec.scoring.ranking import next_item, score_blocks
from sasrec.scoring.scorer import Scorer

EXAMPLES = 6
EXAMPLE_EVENTS = 8


def evaluate(
    model: Scorer,
    evaluation: EvaluationSet,
    catalogue: Catalogue,
    *,
    split: Mapping[str, Any],
    baselines: Iterable[Scorer] = (),
    champion: Scorer | None = None,
    champion_users: np.ndarray | None = None,
    without_trend: Scorer | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Score every role on the same users and summarise with user-level intervals.

    Args:
        model: the candidate; like `champion` and `baselines`, it scores `catalogue.vocabulary`.
        evaluation: users with their targets after the cut, at least one each, and whether items
            of a history may be recommended.
        catalogue: item facts at the training cut.
        split: the split's description, published with the figures.
        baselines: scorers, known by their `name`.
        champion: what serves today, if anything; the candidate itself is scored once.
        champion_users: (B,) bool, users on whom the champion is compared; NaN for the others.
        without_trend: the model alone, where `model` adds a trend to its scores.

    Raises:
        DataError: a history reaches past its first target, a user has no target, a score is NaN.
    """
    first, filter_seen = next_item(evaluation), not evaluation.repeats
    _check_no_future(first)
    window = metrics.distinct_targets(evaluation.targets)
    scorers = {MODEL: model}
    if champion is not None:
        scorers[CHAMPION] = champion
    scorers |= {baseline.name: baseline for baseline in baselines}
    scorers[ORDER_SHUFFLED] = OrderShuffled(model)
    if without_trend is not None:
        scorers[WITHOUT_TREND] = without_trend

    ranked: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    with progress.bar(len(scorers) * len(evaluation)) as advance:
        for role, scorer in scorers.items():
            if scorer is model and role != MODEL:
                ranked[role] = ranked[MODEL]
                continue
            done = partial(advance, f"scoring: {role}")
            ranked[role] = _rank(scorer, evaluation.histories, window, filter_seen, done)
    weights = metrics.inverse_popularity_weights(catalogue.popularity, first.targets.items)
    per_user = {}
    for role, (ranks, lists) in ranked.items():
        columns = _accuracy(ranks, window)
        columns[f"debiased_ndcg@{LIST_LENGTH}"] = columns[f"ndcg@{LIST_LENGTH}"] * weights
        columns |= _beyond_accuracy(lists, evaluation.histories, catalogue)
        if Popularity.name in ranked:
            columns[f"serendipity@{LIST_LENGTH}"] = metrics.serendipity(
                lists, ranked[Popularity.name][1], window
            )
        if role == CHAMPION and champion_users is not None:
            columns = {n: np.where(champion_users, v, np.nan) for n, v in columns.items()}
        per_user[role] = columns
    intervals = {role: _intervals(table, resamples, seed) for role, table in per_user.items()}
    return Evaluation(
        protocol=Protocol(
            split=dict(split),
            fold=evaluation.name,
            candidates=f"the full catalogue of {len(catalogue):,} items",
            filter_seen=filter_seen,
            users=len(evaluation),
            targets=len(window.items),
            resamples=resamples,
            seed=seed,
            confidence=CONFIDENCE,
        ),
        metrics={
            role: {name: interval.value for name, interval in intervals[role].items()}
            | {
                f"coverage@{LIST_LENGTH}": metrics.coverage(lists, len(catalogue)),
                f"gini@{LIST_LENGTH}": metrics.gini(lists, len(catalogue)),
            }
            for role, (_, lists) in ranked.items()
        },
        intervals=intervals,
        users=slice_users(first, catalogue).add_column(
            0, "user_id", pa.array(evaluation.user_ids, pa.string())
        ),
        per_user={role: pa.table(table) for role, table in per_user.items()},
        exposure={
            role: curve.tolist()
            for role, (_, lists) in ranked.items()
            if (curve := metrics.exposure_curve(lists, len(catalogue))) is not None
        },
        examples=_examples(evaluation, catalogue, *ranked[MODEL], window, seed),
    )


def _check_no_future(first: EvaluationSet) -> None:
    histories = first.histories
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    late = histories.timestamps >= first.targets.timestamps[owner]
    if late.any():
        user = first.user_ids[int(owner[np.argmax(late)])]
        raise DataError(
            f"{first.name}: the history of user '{user}' holds an event at or after the target; "
            "ask the feature store strictly before the cutoff"
        )


def _rank(
    scorer: Scorer,
    histories: PackedSequences,
    targets: PackedSequences,
    filter_seen: bool,
    done: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (M,) of the targets and top lists (B, LIST_LENGTH), from one pass over the scores."""
    ranks = np.empty(len(targets.items))
    lists = np.empty((len(histories), LIST_LENGTH), dtype=np.int64)
    for block in score_blocks(scorer, histories, filter_seen):
        owners = np.repeat(np.arange(block.stop - block.start), targets.lengths[block.rows])
        own = slice(targets.cu_seqlens[block.start], targets.cu_seqlens[block.stop])
        ranks[own] = block.ranks(owners, targets.items[own])
        lists[block.rows], _ = block.top_k(LIST_LENGTH)
        done(block.stop - block.start)
    return ranks, lists


def _accuracy(ranks: np.ndarray, window: PackedSequences) -> dict[str, np.ndarray]:
    """Next-item metrics from the first rank of each user, `window_*` metrics from all of them."""
    first = ranks[window.cu_seqlens[:-1]]
    one_each = np.arange(len(first) + 1)
    columns: dict[str, np.ndarray] = {}
    for k in CUTOFFS:
        headline = metrics.accuracy(first, one_each, k)
        columns |= {name: headline[name] for name in (f"hr@{k}", f"ndcg@{k}", f"mrr@{k}")}
    for k in CUTOFFS:
        of_window = metrics.accuracy(ranks, window.cu_seqlens, k)
        columns |= {f"window_{name}": values for name, values in of_window.items()}
    return columns


def _beyond_accuracy(
    lists: np.ndarray, histories: PackedSequences, catalogue: Catalogue
) -> dict[str, np.ndarray]:
    k, popularity = LIST_LENGTH, catalogue.popularity
    return {
        f"novelty@{k}": metrics.novelty(lists, popularity),
        f"average_popularity@{k}": metrics.average_popularity(lists, popularity),
        f"popularity_lift@{k}": metrics.popularity_lift(lists, histories, popularity),
        f"diversity@{k}": metrics.intra_list_diversity(lists, catalogue.categories),
    }


def _intervals(columns: dict[str, np.ndarray], resamples: int, seed: int) -> dict[str, Interval]:
    values = np.stack(list(columns.values()), axis=1)
    intervals = mean_intervals(values, resamples=resamples, seed=seed)
    return dict(zip(columns, intervals, strict=True))


def _examples(
    evaluation: EvaluationSet,
    catalogue: Catalogue,
    ranks: np.ndarray,
    lists: np.ndarray,
    window: PackedSequences,
    seed: int,
) -> list[Example]:
    """A few users drawn at random: neither the best nor the worst were picked."""
    count = min(EXAMPLES, len(evaluation))
    rows = np.sort(np.random.default_rng(seed).choice(len(evaluation), count, replace=False))

    def titles(items: np.ndarray) -> list[str]:
        return [catalogue.titles[i] if i != PADDING else "(unknown item)" for i in items]

    examples = []
    for row in rows:
        history = evaluation.histories.select(np.array([row]), max_length=EXAMPLE_EVENTS).items
        future = evaluation.targets.select(np.array([row])).items[:EXAMPLE_EVENTS]
        rank = float(ranks[window.cu_seqlens[row]])
        examples.append(
            Example(
                user_id=evaluation.user_ids[row],
                history=titles(history),
                recommended=titles(lists[row][lists[row] != PADDING]),
                came_next=titles(future),
                rank=rank if np.isfinite(rank) else None,
            )
        )
    return examples
