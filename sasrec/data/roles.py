"""What kind of event counts as what: a site's mapping of event types to roles and weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sasrec.errors import DataError

NEGATIVE, IGNORE = "negative", "ignore"

# Parts of names that usually mean that the user does not want the item.
_DISLIKES = ("dislike", "downvote", "thumbs_down", "hide", "block", "skip", "remove", "return")


@dataclass(frozen=True)
class Roles:
    """The role of each event type; a type that is not mapped is positive with weight 1.

    Positive events are targets and history; negative ones are neither, and their item is not shown
    to that user again; ignored ones are kept and counted only.

    Attributes:
        weights: event type -> what its events weigh in the loss, of the positive ones mapped.
        negative, ignored: event types.
    """

    weights: dict[str, float]
    negative: frozenset[str]
    ignored: frozenset[str]

    @classmethod
    def parse(cls, mapping: Mapping[str, float | str]) -> "Roles":
        """Read `{"purchase": 3, "dislike": "negative", "impression": "ignore"}`.

        Raises:
            DataError: a role is neither a positive number nor "negative" nor "ignore".
        """
        weights, negative, ignored = {}, set(), set()
        for event_type, role in mapping.items():
            if role == NEGATIVE:
                negative.add(event_type)
            elif role == IGNORE:
                ignored.add(event_type)
            else:
                weights[event_type] = _weight(event_type, role)
        return cls(weights, frozenset(negative), frozenset(ignored))

    def role(self, event_type: str) -> Literal["positive", "negative", "ignore"]:
        """What events of this type count as."""
        if event_type in self.negative:
            return "negative"
        return "ignore" if event_type in self.ignored else "positive"

    def weight(self, event_type: str) -> float:
        """Of a positive event in the loss; 0 for any other."""
        return self.weights.get(event_type, 1.0) if self.role(event_type) == "positive" else 0.0

    def is_mapped(self, event_type: str) -> bool:
        """Whether the mapping names this type."""
        return event_type in {*self.weights, *self.negative, *self.ignored}


def looks_like_dislike(event_type: str) -> bool:
    """Whether a type's name usually means that the user does not want the item."""
    name = event_type.lower().replace("-", "_").replace(" ", "_")
    return any(part in name for part in _DISLIKES)


def _weight(event_type: str, role: float | str) -> float:
    try:
        weight = math.nan if isinstance(role, bool) else float(role)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 < weight < math.inf:
        raise DataError(
            f"role '{role}' of event type '{event_type}' is unknown; "
            f"use a positive number (its weight), {NEGATIVE} or {IGNORE}"
        )
    return weight
