"""What a refresh takes over from the champion that it continues from."""

import json
from pathlib import Path
from typing import Any

from components.support.recipe import NO_TREND
from components.support.settings import RunConfig
from serving.registry import open_registry


def as_the_champion(config: str, home: Path) -> str:
    """The configuration of a refresh with what made the champion; of another run as it is.

    The recipe, the roles of event types and the columns of item features stay: a model that goes on
    learning must read events and items as before. Without a champion nothing changes; `ingest` says
    that there is none.
    """
    run = RunConfig.parse(config)
    if not run.refresh.enabled:
        return config
    store = open_registry(home)
    version = store.aliases().champion
    if version is None:
        return config
    made = store.show(version).metadata
    settings: dict[str, Any] = json.loads(config)
    if recipe := made.get("recipe"):
        settings |= {"model": recipe["model"], "train": recipe["train"]}
        settings.pop("auto", None)
        settings["trend"] = recipe.get("trend", NO_TREND.model_dump())
    if "event_roles" in made:
        settings["events"]["roles"] = made["event_roles"]
    if "feature_columns" in made:
        settings["data"]["feature_columns"] = made["feature_columns"]
    return json.dumps(settings)
