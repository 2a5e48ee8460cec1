"""Which champion a candidate is compared with, and on whom, so that neither has a head start.

What ships has learned from everything, today's test window included, and from newer events than a
candidate that is cut off before that window. Scored as it serves, it would win by what it has seen:
nothing could ever replace it. So a champion that is fresher than the candidate is represented by
its recipe, trained at the candidate's own cut.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.support.champion import Champion
from components.support.recipe import Recipe
from sasrec.data.dataset import SequenceDataset
from sasrec.errors import DataError
from sasrec.scoring.ranking import next_item
from sasrec.scoring.scorer import Scorer
from sasrec.scoring.trend import Trend
from sasrec.scoring.vocabulary_adapter import VocabularyAdapter


@dataclass(frozen=True)
class Comparison:
    """What stands for the champion in an evaluation.

    Attributes:
        scorer: scores today's vocabulary; None where nothing can be compared.
        users: (B,) bool, the test users on whom it is compared; None for all.
        finding: for `Evaluation.findings`: `version`, and `compared` (how, in words) or `missing`
            (why not).
    """

    scorer: Scorer | None
    users: np.ndarray | None
    finding: dict[str, Any]


def fair_comparison(
    champion: Champion | None,
    candidate: Scorer,
    recipe: Recipe,
    dataset: SequenceDataset,
    train_recipe: Callable[[Recipe], Scorer],
    *,
    minimum_users: int,
    with_trend: Callable[[Scorer, Trend], Scorer] = lambda scorer, _: scorer,
) -> Comparison:
    """Choose a comparison in which champion and candidate have seen equally much.

    In this order: the champion as it serves, if it learned from nothing after the candidate's
    training cut; the candidate itself, if both were made by one recipe; the champion's recipe
    trained at today's cut; where that recipe cannot be trained, the champion as it serves on the
    users whose next event it has not seen, if there are `minimum_users` of them.

    Args:
        recipe: of the candidate.
        dataset: that the candidate was trained and is tested on.
        train_recipe: trains a recipe on `dataset` as the candidate was trained.
        with_trend: adds to a scorer of today's vocabulary what recent counts add.
    """
    if champion is None:
        return Comparison(None, None, {"missing": "there is no champion"})
    finding: dict[str, Any] = {"version": champion.version}
    if not champion.shares_items(dataset.vocabulary):
        return Comparison(None, None, finding | {"missing": "the champion shares no items"})
    as_it_serves: Scorer = VocabularyAdapter(
        champion.recommender, champion.recommender.vocabulary, dataset.vocabulary
    )
    if champion.trend is not None:
        as_it_serves = with_trend(as_it_serves, champion.trend)
    if champion.is_no_fresher(dataset.description):
        return Comparison(
            as_it_serves, None, finding | {"compared": "as it serves, on events neither has seen"}
        )
    if champion.recipe == recipe:
        how = "its recipe is the candidate's, so at today's cut they are one model"
        return Comparison(candidate, None, finding | {"compared": how})
    try:
        if champion.recipe is None:
            raise DataError("its manifest names none")
        trained = train_recipe(champion.recipe)
    except DataError as error:
        return _on_unseen_events(champion, as_it_serves, dataset, minimum_users, finding, error)
    how = "its recipe trained at today's cut, since it has itself seen later events"
    return Comparison(trained, None, finding | {"compared": how})


def _on_unseen_events(
    champion: Champion,
    scorer: Scorer,
    dataset: SequenceDataset,
    minimum_users: int,
    finding: dict[str, Any],
    error: DataError,
) -> Comparison:
    why = f"the champion's recipe cannot be trained at today's cut ({error})"
    if champion.seen_until is None:
        return Comparison(None, None, finding | {"missing": f"{why}; no moment ends what it saw"})
    seen_until = int(champion.seen_until.timestamp() * 1_000_000)
    unseen = next_item(dataset.test).targets.timestamps > seen_until
    moment = champion.seen_until.isoformat(timespec="seconds")
    if unseen.sum() < max(1, minimum_users):
        missing = (
            f"{why}, and {unseen.sum():,} users have their next event after {moment}, until when "
            f"the champion has seen all; {minimum_users:,} are needed"
        )
        return Comparison(None, None, finding | {"missing": missing})
    how = (
        f"as it serves, on the {unseen.sum():,} users whose next event is after {moment}, until "
        f"when it has seen all; {why}"
    )
    return Comparison(scorer, unseen, finding | {"compared": how})
