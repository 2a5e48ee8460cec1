"""Whether a user may be recommended what they had before, by what the data shows."""

from collections.abc import Mapping
from typing import Any, Literal

Repeats = Literal["exclude", "allow"]

ALLOWED_FROM = 0.5
"""Share of targets that are repeats from which on repeats are what has to be foretold."""


def choose_repeats(share: float, setting: Repeats | None) -> dict[str, Any]:
    """What a split says of repeats: `targets`, their share of the targets, and `allowed`.

    Args:
        share: of the targets, how many are items of their user's history.
        setting: what was asked for; None to allow them where most targets are repeats.
    """
    allowed = setting == "allow" if setting else share >= ALLOWED_FROM
    return {"targets": share, "allowed": allowed}


def repeats_allowed(split: Mapping[str, Any]) -> bool:
    """What the description of a split says; False for one of before this was asked."""
    return bool((split.get("repeats") or {}).get("allowed", False))


def told(repeats: Mapping[str, Any], setting: Repeats | None) -> str:
    """A sentence for the data report."""
    share = f"{repeats['targets']:.1%} of the targets are items that their user had before"
    done = "may be recommended and count" if repeats["allowed"] else "are left out of every list"
    if setting:
        return f"{share}; such items {done} (evaluation.repeats={setting})."
    other = "exclude" if repeats["allowed"] else "allow"
    return f"{share}; such items {done}; --set evaluation.repeats={other} changes that."
