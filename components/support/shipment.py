"""What the manifest of a version says of where it came from and who vouches for it."""

from datetime import datetime
from typing import Any

from components.support.settings import RunConfig
from components.support.training_plan import TrainingPlan
from sasrec.data.current import CurrentHistories
from sasrec.data.dataset import SequenceDataset
from sasrec.evaluation.result import MODEL, Evaluation

MADE_OF = "made_of.json"
"""File of a version: its event roles and the state of the data that it was made of."""


def describe_shipment(
    run: RunConfig,
    plan: TrainingPlan,
    dataset: SequenceDataset,
    now: CurrentHistories,
    measured: Evaluation,
    evaluated_as: str,
    refit: dict[str, Any] | None,
) -> dict[str, Any]:
    """Metadata of the model that ships, as JSON can hold it.

    Args:
        measured: of the evaluated model.
        evaluated_as: digest of the evaluated model.
        refit: how the refit was made and checked; None where the evaluated model itself ships.

    Returns:
        `as_of`, the moment of the run; `seen_until`, the newest event learned from (null where a
        model was trained on all but each user's newest events); `evaluated_as`; `cuts` and
        `scores` of the evaluated model and of what ships; `recipe`; `event_roles`;
        `warm_started_from`; `refit`.
    """
    t1 = dataset.description["t1"]
    seen_until = now.newest_event if refit else t1 and dataset.newest_event
    score = measured.metrics[MODEL]["ndcg@10"]
    return {
        "as_of": (run.data.as_of or now.as_of).isoformat(),
        "seen_until": _iso(seen_until),
        "evaluated_as": evaluated_as,
        "cuts": {"evaluated": t1, "shipped": _iso(seen_until)},
        "scores": {
            "evaluated": {"ndcg@10": score, "on": "the test fold, unseen"},
            "shipped": {"ndcg@10": refit["ndcg@10"], "on": "the test fold, learned from"}
            if refit
            else {"ndcg@10": score, "on": "the test fold, unseen"},
        },
        "recipe": {
            "model": plan.recipe.model.model_dump(),
            "train": plan.recipe.train.model_dump(),
            "trend": plan.recipe.trend.model_dump(),
        },
        "event_roles": run.events.roles,
        "feature_columns": run.data.feature_columns,
        "warm_started_from": plan.warm_started_from,
        "refit": refit,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
