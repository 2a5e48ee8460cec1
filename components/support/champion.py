"""The model that serves today: what it is made of, and what it has seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.support.recipe import NO_TREND, Recipe
from components.support.settings import RunConfig
from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.scoring.trend import Trend
from sasrec.scoring.trend_config import TrendConfig
from sasrec.training.config import TrainConfig
from serving.registry import RegistryError, open_registry

LEAVE_ONE_OUT = "leave-one-out"


@dataclass(frozen=True)
class Champion:
    """A registered version that serves.

    Attributes:
        version: its name in the registry.
        recommender: the model itself.
        recipe: how it was made; None for a version whose manifest does not say.
        seen_until: the newest event that it learned from; None where no moment says that: it was
            trained on all but the newest events of each user (leave-one-out).
        trend: what recent counts add to its scores; None for a version of before there were any.
    """

    version: str
    recommender: Recommender
    recipe: Recipe | None
    seen_until: datetime | None
    trend: Trend | None = None

    def shares_items(self, vocabulary: Vocabulary) -> bool:
        """Whether it can rank anything of today."""
        return any(item in vocabulary for item in self.recommender.vocabulary.item_ids)

    def is_no_fresher(self, split: Mapping[str, Any]) -> bool:
        """Whether it learned from nothing after the cut that ends the training of `split`.

        Args:
            split: the split's description (`Split.describe`).
        """
        if split["kind"] == LEAVE_ONE_OUT:
            return self.seen_until is None
        # A version of before there were refits is known by its cut alone, which it has not seen.
        return self.seen_until is not None and self.seen_until <= datetime.fromisoformat(
            split["t1"]
        )


def load_champion(home: Path) -> Champion | None:
    """The champion of the site at `home`; None before the first one.

    Raises:
        DataError: its files are not what its manifest says.
    """
    version = sound_champion(home)
    if version is None:
        return None
    store = open_registry(home)
    metadata = store.show(version).metadata
    return Champion(
        version,
        Recommender.load(store.path(version)),
        _recipe(metadata.get("recipe")),
        _seen_until(metadata),
        Trend.load(store.path(version)),
    )


def sound_champion(home: Path) -> str | None:
    """The champion's version, once its files have been compared with its manifest.

    A run asks first of all: no model can be judged beside a champion that its disk has spoilt.

    Raises:
        DataError: they differ.
    """
    store = open_registry(home)
    version = store.aliases().champion
    if version is not None:
        try:
            store.verify(version)
        except RegistryError as error:
            raise DataError(
                f"the champion is damaged: {error}; restore its files, or take it back with "
                f"`python -m serving.registry rollback --home {home}`, and run again"
            ) from None
    return version


def champion_of_refresh(home: Path) -> Champion:
    """The champion that a refresh continues from.

    Raises:
        DataError: there is none, or nobody knows what it has seen.
    """
    champion = load_champion(home)
    if champion is None:
        raise DataError(
            f"refresh: {home} has no champion to continue from; run without --refresh first"
        )
    if champion.seen_until is None:
        raise DataError(
            f"refresh: champion {champion.version} was trained under leave-one-out, so no moment "
            "divides what it has seen from what is new; run without --refresh first"
        )
    return champion


def recipe_of(run: RunConfig, champion: Champion | None) -> Recipe:
    """What a run trains: its own settings, or in a refresh those that made the champion."""
    if run.refresh.enabled and champion is not None and champion.recipe is not None:
        return champion.recipe
    return Recipe(run.model, run.train, run.trend)


def _recipe(written: Mapping[str, Any] | None) -> Recipe | None:
    if not written:
        return None
    try:
        return Recipe(
            ModelConfig.model_validate(written["model"]),
            TrainConfig.model_validate(written["train"]),
            TrendConfig.model_validate(written["trend"]) if "trend" in written else NO_TREND,
        )
    except (KeyError, ValidationError):  # of a version of this project with other settings
        return None


def _seen_until(metadata: Mapping[str, Any]) -> datetime | None:
    if "seen_until" in metadata:
        moment = metadata["seen_until"]
    else:  # registered before there were refits: trained before the cut
        moment = metadata.get("split", {}).get("t1")
    return datetime.fromisoformat(moment) if moment else None
