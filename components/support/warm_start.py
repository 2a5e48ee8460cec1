"""Which model a nightly training may begin from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.support.champion import Champion, load_champion
from components.support.settings import RunConfig
from sasrec.training.warm_start import difference


def choose_warm_start(
    run: RunConfig, home: Path, split: Mapping[str, Any]
) -> tuple[Champion | None, str]:
    """The champion, where its weights may be taken; and what was decided, in a few words.

    A model that has learned from events which this run evaluates on would be judged by what it
    knows already, so its weights are taken only if it has seen nothing after this run's training
    cut. A change of the architecture must not break the night: it starts from scratch.

    Args:
        split: the split's description.

    Raises:
        RegistryError: the champion's files are not what its manifest says.
    """
    if run.train.warm_start == "none":
        return None, ""
    champion = load_champion(home)
    if champion is None:
        return None, "from scratch: there is no champion"
    if split["t1"] is None:
        why = "without a cut in time nobody can say what the champion has seen"
        return None, f"from scratch: {why}"
    if not champion.is_no_fresher(split):
        return None, (
            f"from scratch: the champion {champion.version} has learned from events after "
            f"{split['t1']}, which this run evaluates on"
        )
    if reason := difference(champion.recommender.model.config, run.model):
        return None, f"from scratch: {reason}"
    return champion, f"from the weights of {champion.version}"
