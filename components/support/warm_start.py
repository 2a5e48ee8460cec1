"""Which model a training may begin from."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from components.support.settings import RunConfig
from sasrec.model.recommender import read_config
from sasrec.training.warm_start import difference
from serving.registry import open_store


@dataclass(frozen=True)
class WarmStart:
    """Where a training begins.

    Attributes:
        version: of the model whose weights are taken; None from scratch.
        directory: of that version.
        detail: what was decided and why, in a few words; empty where nobody asked.
    """

    version: str | None = None
    directory: Path | None = None
    detail: str = ""


def choose_warm_start(run: RunConfig, home: Path, split: dict[str, Any]) -> WarmStart:
    """The champion, or the evaluated model that vouches for it, where its weights may be taken.

    A model that has learned from events which this run evaluates on would be judged by what it
    knows already. So one is taken that has learned from nothing after this run's training cut; and
    a change of the architecture must not break the night, so it starts from scratch.

    Args:
        split: the split's description.
    """
    if run.train.warm_start == "none":
        return WarmStart()
    store = open_store(home)
    champion = store.aliases().champion
    if champion is None:
        return WarmStart(detail="from scratch: there is no champion")
    if split["t1"] is None:
        return WarmStart(
            detail="from scratch: without a cut in time nobody can say what the champion has seen"
        )
    known = {manifest.version: manifest.metadata for manifest in store.versions()}
    evaluated = known.get(champion, {}).get("evaluated_as")
    for version in dict.fromkeys([champion, evaluated]):
        if version in known and _has_seen_nothing_after(known[version], split["t1"]):
            store.verify(version)
            directory = store.path(version)
            if reason := difference(read_config(directory), run.model):
                return WarmStart(detail=f"from scratch: {reason}")
            return WarmStart(version, directory, f"from the weights of {version}")
    return WarmStart(
        detail=f"from scratch: the champion {champion} has learned from events after "
        f"{split['t1']}, which this run evaluates on"
    )


def _has_seen_nothing_after(metadata: dict[str, Any], t1: str) -> bool:
    """Whether a version's training ended before the cut; an unknown end is no promise."""
    until = _learned_until(metadata)
    return until is not None and until <= datetime.fromisoformat(t1)


def _learned_until(metadata: dict[str, Any]) -> datetime | None:
    """The moment before which a version's training events lie; None where it is not known.

    A refit has learned from all until its run's moment, an evaluated model until its cut.
    """
    refit = metadata.get("evaluated_as") is not None
    moment = metadata.get("as_of") if refit else metadata.get("split", {}).get("t1")
    return moment and datetime.fromisoformat(moment)
