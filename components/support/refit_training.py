"""How a refit is made and checked, between the artifacts that the stage reads and writes."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from components.support.run_trend import AsEvaluated, timed
from components.support.sequence_extras import SequenceExtras
from components.support.settings import RunConfig
from components.support.training_plan import TrainingPlan
from sasrec.data.current import CurrentHistories
from sasrec.data.dataset import SequenceDataset
from sasrec.data.repeats import repeats_allowed
from sasrec.data.roles import Roles
from sasrec.evaluation.serving_cost import serving_cost
from sasrec.gates.refit import judge_refit
from sasrec.model.recommender import Recommender
from sasrec.off_policy.calibration import Calibration
from sasrec.scoring.trend import Trend
from sasrec.training.refit import (
    NEWEST_USERS,
    check_refit,
    refit,
    refit_epochs,
    score_alignment,
    score_on,
)
from serving.release.parity import serving_parity
from serving.settings import load_settings

PARITY_USERS = 200


class RefitTraining:
    """One refit of a run.

    Args:
        dataset: that the evaluated model learned from and was tested on.
        now: that the refit learns from.
        extras: of `now`.
        evaluated: the model that vouches for it.
        trend: of both; None for none.
    """

    def __init__(
        self,
        run: RunConfig,
        plan: TrainingPlan,
        dataset: SequenceDataset,
        now: CurrentHistories,
        extras: SequenceExtras,
        evaluated: Recommender,
        trend: Trend | None,
    ) -> None:
        self._run, self._plan, self._dataset, self._now = run, plan, dataset, now
        self._extras, self._evaluated, self._trend = extras, evaluated, trend
        self._newest = now.histories.select(now.newest_users(NEWEST_USERS))
        self._repeats = repeats_allowed(dataset.description)
        self._made: dict[str, Any] = {}

    def train(self, folder: Path, best_epoch: int) -> Recommender:
        """Train, or continue what is in `folder`.

        Args:
            best_epoch: of the evaluated training.
        """
        config = self._plan.config
        learned = self._plan.histories(self._extras.weigh(self._now.histories, config))
        before = self._plan.histories(self._dataset.train)
        # The epochs of a model that began with the champion's weights are counted from there.
        how = self._run.refit.how if self._plan.champion is None else "continue"
        epochs = self._run.refit.epochs or refit_epochs(
            how, best_epoch, len(before.items), len(learned.items)
        )
        result = refit(
            self._evaluated,
            learned,
            self._now.vocabulary,
            config,
            folder,
            how=how,
            epochs=epochs,
            item_features=self._extras.features_of(self._evaluated.model.config),
        )
        self._made = {
            "how": how,
            "epochs": epochs,
            "events": {"evaluated": len(before.items), "refit": len(learned.items)},
            "seconds": round(sum(line["seconds"] for line in result.history), 1),
        }
        return result.recommender

    def move_curves(self, curves: Iterable[Path], refitted: Recommender, folder: Path) -> None:
        """Save calibrations of the evaluated model's scores as curves of the refit's."""
        for curve in curves:
            scale, shift = score_alignment(
                refitted,
                self._evaluated,
                self._newest,
                self._bonus(folder),
                repeats=self._repeats,
            )
            Calibration.load(curve.parent).rescaled(scale, shift).save(folder)

    def check(self, refitted: Recommender, home: Path, folder: Path) -> dict[str, Any]:
        """How the refit was made, what was measured of it, and the verdict.

        Args:
            folder: where the refit is saved.
        """
        findings: dict[str, Any] = {
            "refit": asdict(
                check_refit(refitted, self._evaluated, self._newest, repeats=self._repeats)
            )
        }
        if findings["refit"]["finite"]:
            settings = load_settings().model_copy(update={"home": home})
            users = [self._now.user_ids[row] for row in self._now.newest_users(PARITY_USERS)]
            findings["cost"] = serving_cost(refitted, self._newest)
            findings["serving_parity"] = serving_parity(
                folder,
                settings,
                users,
                roles=Roles.parse(self._run.events.roles),
                until=self._run.data.as_of,
                repeats=self._repeats,
            )
        limits = self._run.refit
        verdict = judge_refit(
            findings,
            minimum_overlap=limits.minimum_overlap,
            maximum_overlap=limits.maximum_overlap,
            max_score_ms=limits.max_score_ms,
        )
        return {
            **self._made,
            "ndcg@10": self._score(refitted) if findings["refit"]["finite"] else None,
            "findings": _without_nan(findings),
            "verdict": asdict(verdict),
        }

    def _bonus(self, folder: Path) -> np.ndarray | None:
        """What the trend beside the refit adds to every score, (V + 1,)."""
        if self._trend is None or not self._trend.active:
            return None
        counts = self._trend.load_counts(folder, len(self._now.vocabulary))
        return self._trend.bonus(counts.counts)

    def _score(self, refitted: Recommender) -> float:
        ours, known = self._dataset.vocabulary, self._now.vocabulary.item_ids
        index = ours.encode(["", *known])
        with_trend = AsEvaluated(
            self._dataset,
            lambda: ((index[items], times) for items, times in timed(self._now.histories)),
        )
        return score_on(
            refitted, self._dataset.test, ours, lambda scorer: with_trend(scorer, self._trend)
        )


def _without_nan(findings: dict[str, Any]) -> dict[str, Any]:
    """A manifest is JSON, which has no NaN."""
    return {
        name: {
            key: None if isinstance(value, float) and value != value else value
            for key, value in found.items()
        }
        for name, found in findings.items()
    }
