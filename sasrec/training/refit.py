"""The promoted recipe trained on everything, which is what ships.

An evaluated model has not seen the events that judged it. A refit learns from those as well, so no
event is left to judge it or to choose its epoch: the evaluated training chose how many epochs there
are, and `check_refit` compares what came out with the model that was judged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.model.recommender import Recommender
from sasrec.scoring.metrics import accuracy
from sasrec.scoring.ranking import next_item, score_blocks, target_ranks
from sasrec.scoring.scorer import Scorer
from sasrec.scoring.vocabulary_adapter import VocabularyAdapter
from sasrec.training.config import TrainConfig
from sasrec.training.loop import TrainResult, train

How = Literal["scratch", "continue"]
LIST_LENGTH = 10
NEWEST_USERS = 500
ALIGNED_ITEMS = 100


def refit_epochs(how: How, best_epoch: int, events_before: int, events_now: int) -> int:
    """How long a refit trains.

    From scratch it takes the epochs that validation chose, each longer by what has been added. By
    continuing, it takes the share of them that the new events are of all: every event is then met
    about as often as in a training from scratch.

    Args:
        best_epoch: of the evaluated training; 0 for an untrained model.
        events_before, events_now: that the evaluated model and the refit learn from.
    """
    if how == "scratch" or not best_epoch:
        return best_epoch
    new = max(0.0, 1 - events_before / events_now)
    return max(1, round(best_epoch * new))


def refit(
    evaluated: Recommender,
    histories: PackedSequences,
    vocabulary: Vocabulary,
    config: TrainConfig,
    run_dir: Path,
    *,
    how: How,
    epochs: int,
    **options: Any,
) -> TrainResult:
    """Train the recipe of `evaluated` on `histories` for exactly `epochs`.

    A refit that was killed continues from `run_dir`, as `sasrec.training.loop.train` does.

    Args:
        evaluated: whose architecture is trained; to continue, whose weights are the start.
        histories: everything that is known, in `vocabulary`.
        config: of the evaluated training; its epochs and patience do not matter.
        how: from "scratch", or "continue" from the evaluated weights.
        epochs: see `refit_epochs`.
        options: further arguments of `sasrec.training.loop.train`: weights, item features.

    Raises:
        DataError, SystemExit: as `sasrec.training.loop.train`.
    """
    return train(
        histories,
        None,
        vocabulary,
        evaluated.model.config,
        config.model_copy(update={"epochs": epochs}),
        run_dir,
        warm_start=evaluated if how == "continue" else None,
        **options,
    )


@dataclass(frozen=True)
class RefitFindings:
    """What can be said of a refit without an event that it has not seen.

    Attributes:
        finite: 1 where every weight is a finite number, else 0.
        overlap: mean share of the evaluated model's first `LIST_LENGTH` items that are among the
            refit's, over the newest users, of the items that both know; NaN where nobody can be
            compared.
        overlap_users: how many users that is.
        new_items: items that the refit knows and the evaluated model does not.
    """

    finite: float
    overlap: float
    overlap_users: int
    new_items: int


def check_refit(
    refitted: Recommender,
    evaluated: Recommender,
    histories: PackedSequences,
    *,
    repeats: bool = False,
) -> RefitFindings:
    """Compare a refit with the model that vouches for it.

    Args:
        histories: of the newest users, in the refit's vocabulary.
        repeats: whether lists hold items of the history.
    """
    finite = all(bool(torch.isfinite(p).all()) for p in refitted.model.state_dict().values())
    overlap = np.zeros(0)
    # Where everybody has had everything, lists without that are empty and say nothing.
    for with_repeats in dict.fromkeys((repeats, True)):
        if finite and not len(overlap):
            overlap = _overlap(refitted, evaluated, histories, with_repeats)
    new = sum(item not in evaluated.vocabulary for item in refitted.vocabulary.item_ids)
    return RefitFindings(
        finite=float(finite),
        overlap=float(overlap.mean()) if len(overlap) else float("nan"),
        overlap_users=len(overlap),
        new_items=new,
    )


def score_alignment(
    refitted: Recommender,
    evaluated: Recommender,
    histories: PackedSequences,
    bonus: np.ndarray | None = None,
    *,
    repeats: bool = False,
) -> tuple[float, float]:
    """`scale` and `shift` that carry the evaluated model's scores over to the refit's.

    Mean and spread are matched over the items that the evaluated model would serve first, after
    the same histories. A curve of scores, such as the calibration, is moved by them.

    Args:
        bonus: (V + 1,) that a trend adds to the scores of both, in the refit's vocabulary.
    """
    if bonus is None:
        bonus = np.zeros(len(refitted.vocabulary) + 1, dtype=np.float32)
    pairs = _scores_of_first_items(refitted, evaluated, histories, bonus, repeats)
    if not len(pairs):
        return 1.0, 0.0
    spread, mean = pairs.std(0), pairs.mean(0)
    scale = float(spread[1] / spread[0]) if spread[0] > 0 and spread[1] > 0 else 1.0
    return scale, float(mean[1] - scale * mean[0])


def score_on(
    scorer: Recommender,
    evaluation: EvaluationSet,
    vocabulary: Vocabulary,
    with_trend: Callable[[Scorer], Scorer] = lambda scorer: scorer,
) -> float:
    """Mean NDCG@10 of the next item of each user; `vocabulary` encodes `evaluation`.

    Args:
        with_trend: what is added to a scorer of `vocabulary`.
    """
    asked = next_item(evaluation)
    adapted = VocabularyAdapter(scorer, scorer.vocabulary, vocabulary)
    ranks = target_ranks(with_trend(adapted), asked, filter_seen=not evaluation.repeats)
    return float(accuracy(ranks, asked.targets.cu_seqlens, LIST_LENGTH)["ndcg@10"].mean())


def _overlap(
    refitted: Recommender, evaluated: Recommender, histories: PackedSequences, repeats: bool
) -> np.ndarray:
    """Share of the first items in common, for each user whom both models can answer."""
    before = VocabularyAdapter(evaluated, evaluated.vocabulary, refitted.vocabulary)
    known, asked = _known_to_both(refitted, evaluated, histories)
    # One after the other: a block is scored in inference mode, which must end in order.
    lists = _first_items(refitted, asked, ~known, repeats)
    references = _first_items(before, asked, ~known, repeats)
    return np.array(
        [
            np.isin(reference[reference != PADDING], found).mean()
            for found, reference in zip(lists, references, strict=True)
            if reference.any()
        ]
    )


def _first_items(
    scorer: Scorer, histories: PackedSequences, hidden: np.ndarray, repeats: bool
) -> np.ndarray:
    """(B, LIST_LENGTH) best items that are not `hidden` (V + 1,); `PADDING` for none."""
    found = [np.zeros((0, LIST_LENGTH), dtype=np.int64)]
    for block in score_blocks(scorer, histories, filter_seen=not repeats):
        block.scores[:, torch.from_numpy(hidden).to(block.scores.device)] = -torch.inf
        found.append(block.top_k(LIST_LENGTH)[0])
    return np.concatenate(found)


def _known_to_both(
    refitted: Recommender, evaluated: Recommender, histories: PackedSequences
) -> tuple[np.ndarray, PackedSequences]:
    """Items (V + 1,) bool that both know, and the histories that hold one."""
    known = evaluated.vocabulary.encode(["", *refitted.vocabulary.item_ids]) != PADDING
    events = np.bincount(
        np.repeat(np.arange(len(histories)), histories.lengths),
        weights=known[histories.items],
        minlength=len(histories),
    )
    return known, histories.select(np.flatnonzero(events))


def _scores_of_first_items(
    refitted: Recommender,
    evaluated: Recommender,
    histories: PackedSequences,
    bonus: np.ndarray,
    repeats: bool,
) -> np.ndarray:
    """(n, 2): what the evaluated model and the refit score the evaluated model's first items."""
    before = VocabularyAdapter(evaluated, evaluated.vocabulary, refitted.vocabulary)
    _, asked = _known_to_both(refitted, evaluated, histories)
    pairs = [np.zeros((0, 2))]
    for block in score_blocks(before, asked, filter_seen=not repeats):
        block.scores = block.scores + torch.from_numpy(bonus).to(block.scores.device)
        items, scores = block.top_k(ALIGNED_ITEMS)
        rows = np.arange(block.start, block.stop)
        again = refitted.logits(asked.select(rows)).cpu().numpy() + bonus
        again = np.take_along_axis(again, items, axis=1)
        both = np.isfinite(scores) & np.isfinite(again)
        pairs.append(np.stack([scores[both], again[both]], axis=1))
    return np.concatenate(pairs).astype(np.float64)
