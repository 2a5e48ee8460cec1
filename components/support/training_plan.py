"""What a run trains, on which histories and from which weights: from scratch, or as a refresh."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from components.support.champion import champion_of_refresh, recipe_of
from components.support.recipe import Recipe
from components.support.settings import RunConfig
from sasrec.config import TrainConfig
from sasrec.data.packed import PackedSequences
from sasrec.errors import DataError
from sasrec.model.recommender import Recommender
from sasrec.training.refresh import replayed


@dataclass(frozen=True)
class TrainingPlan:
    """How the `train` and `refit` stages train.

    Attributes:
        recipe: that the manifest will name.
        config: the recipe's training, with what a refresh changes of it.
        champion: whose weights are the start; None for a fresh start.
        warm_started_from: its version.
        since: of a refresh; events after it are new.
        replay_share: of a refresh.
    """

    recipe: Recipe
    config: TrainConfig
    champion: Recommender | None = None
    warm_started_from: str | None = None
    since: datetime | None = None
    replay_share: float = 1.0

    @classmethod
    def of(cls, run: RunConfig, home: Path, since: str | None) -> "TrainingPlan":
        """The plan of a run.

        Args:
            since: of the split (`Split.describe`), ISO 8601; a refresh has it.

        Raises:
            DataError: a refresh has no champion to continue from, or another one by now.
        """
        if not run.refresh.enabled:
            recipe = recipe_of(run, None)
            return cls(recipe, recipe.train)
        champion = champion_of_refresh(home)
        if champion.seen_until is None or champion.seen_until.isoformat() != since:
            raise DataError("refresh: the champion has changed since this run began; run it again")
        recipe = recipe_of(run, champion)
        quick = {"epochs": run.refresh.epochs, "whole_histories": False}
        return cls(
            recipe,
            recipe.train.model_copy(update=quick),
            champion.recommender,
            champion.version,
            champion.seen_until,
            run.refresh.replay_share,
        )

    def histories(self, known: PackedSequences) -> PackedSequences:
        """Those of `known` that are learned from: all, or in a refresh the new and some others."""
        if self.since is None:
            return known
        since = int(self.since.timestamp() * 1_000_000)
        return replayed(known, since, self.replay_share, seed=self.config.seed)
