"""What a run trains, on which histories and from which weights: from scratch, or as a refresh."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from components.support.champion import champion_of_refresh, recipe_of
from components.support.recipe import Recipe
from components.support.sequence_extras import SequenceExtras
from components.support.settings import RunConfig
from components.support.warm_start import choose_warm_start
from sasrec.data.dataset import SequenceDataset
from sasrec.data.packed import PackedSequences
from sasrec.errors import DataError
from sasrec.model.recommender import Recommender
from sasrec.training import loop as training
from sasrec.training.config import TrainConfig
from sasrec.training.loop import TrainResult
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
        start: what was decided of a warm start, in words; empty where none was asked for.
    """

    recipe: Recipe
    config: TrainConfig
    champion: Recommender | None = None
    warm_started_from: str | None = None
    since: datetime | None = None
    replay_share: float = 1.0
    start: str = ""

    @classmethod
    def of(cls, run: RunConfig, home: Path, split: Mapping[str, Any]) -> "TrainingPlan":
        """The plan of a run.

        Args:
            split: its description (`Split.describe`); that of a refresh says since when events
                are new.

        Raises:
            DataError: a refresh has no champion to continue from, or another one by now.
        """
        if not run.refresh.enabled:
            recipe = recipe_of(run, None)
            begin, words = choose_warm_start(run, home, split)
            if begin is None:
                return cls(recipe, recipe.train, start=words)
            return cls(recipe, recipe.train, begin.recommender, begin.version, start=words)
        champion = champion_of_refresh(home)
        if champion.seen_until is None or champion.seen_until.isoformat() != split.get("since"):
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

    def train(self, dataset: SequenceDataset, extras: SequenceExtras, run_dir: Path) -> TrainResult:
        """Train in `run_dir`, or continue what is there.

        Args:
            extras: of `dataset`.

        Raises:
            DataError, SystemExit: as `sasrec.training.loop.train`.
        """
        return training.train(
            self.histories(extras.weigh(dataset.train, self.config)),
            dataset.validation,
            dataset.vocabulary,
            self.recipe.model,
            self.config,
            run_dir,
            warm_start=self.champion,
            item_features=extras.features_of(self.recipe.model),
        )

    def histories(self, known: PackedSequences) -> PackedSequences:
        """Those of `known` that are learned from: all, or in a refresh the new and some others."""
        if self.since is None:
            return known
        since = int(self.since.timestamp() * 1_000_000)
        return replayed(known, since, self.replay_share, seed=self.config.seed)
