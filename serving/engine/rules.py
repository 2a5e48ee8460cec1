"""What a list has to keep to, whatever the model says: of the request and of the site together."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from serving.engine.attributes import Value
from serving.filters import Condition, Filter, FilterError

if TYPE_CHECKING:
    from serving.engine.engine import Engine
    from serving.schemas import RuleFields

PIN = "pin"
KINDS = ("filter", "at_most", "diversity", "boost", PIN)


@dataclass(frozen=True)
class Boost:
    """What is added to the scores of the items that pass a filter."""

    wanted: Filter
    added: float


@dataclass(frozen=True)
class Rules:
    """The rules of one list.

    Attributes:
        filters: an item must pass all of them.
        at_most: attribute -> how many items of a list may share a value of it.
        diversity: of `Diversity`, 0 for none.
        boosts: all that apply to an item add up.
        pins: (position, item id), in the order in which they choose their slots.
    """

    filters: tuple[Filter, ...] = ()
    at_most: Mapping[str, int] = field(default_factory=dict)
    diversity: float = 0.0
    boosts: tuple[Boost, ...] = ()
    pins: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(cls, request: "RuleFields", site: "RuleFields | None", now: datetime) -> "Rules":
        """The site's rules and the request's: filters, boosts and pins of both, else the request's.

        Of two pins for one slot the request's has it. What is over by `now` is left out.
        """
        if site is None and not request.has_rules:
            return NO_RULES
        both = [rules for rules in (request, site) if rules is not None]
        of_lists = [rules.at_most for rules in both if rules.at_most is not None]
        strengths = [rules.diversity for rules in both if rules.diversity is not None]
        return cls(
            filters=tuple(rules.filter for rules in both if rules.filter is not None),
            at_most=next(iter(of_lists), {}),
            diversity=next(iter(strengths), 0.0),
            boosts=tuple(
                Boost(boost.filter, boost.add + math.log(boost.times))
                for rules in both
                for boost in rules.boosts
                if boost.until is None or boost.until > now
            ),
            pins=tuple(
                (pin.position, pin.item_id)
                for rules in both
                for pin in rules.pins
                if pin.until is None or pin.until > now
            ),
        )

    @property
    def kinds(self) -> list[str]:
        """Those of `KINDS` that are in force."""
        found = (self.filters, self.at_most, self.diversity, self.boosts, self.pins)
        return [kind for kind, rule in zip(KINDS, found, strict=True) if rule]

    @property
    def look_above(self) -> bool:
        """Whether a slot depends on what stands above it."""
        return bool(self.at_most or self.diversity or self.pins)


NO_RULES = Rules()


def check(request: "RuleFields", engine: "Engine") -> None:
    """Whether a request's rules say something about these items.

    Raises:
        FilterError: naming the first field that does not.
    """
    if not request.has_rules:
        return
    check_filter(request.filter, engine)
    for number, boost in enumerate(request.boosts):
        check_filter(boost.filter, engine, "boosts", number, "filter")
    for attribute in request.at_most or ():
        if attribute not in engine.kinds:
            raise FilterError(("at_most", attribute), "no item has this attribute")


def check_filter(wanted: Filter | None, engine: "Engine", *path: str | int) -> None:
    """Whether a filter, if there is one, asks for attributes that items have.

    Args:
        path: where it stands in the request; `filter` by default.

    Raises:
        FilterError: naming the attribute.
    """
    if wanted is None:
        return
    try:
        wanted.check(engine.kinds)
    except FilterError as error:
        raise error.under(*(path or ("filter",))) from None


class AtMost:
    """At most n items that share a value of an attribute; one without it is not limited."""

    def __init__(self, engine: "Engine", at_most: Mapping[str, int]) -> None:
        self._engine, self._at_most, self._kinds = engine, at_most, engine.kinds
        self._counts: Counter[tuple[str, Value]] = Counter()
        self._with: dict[tuple[str, Value], np.ndarray] = {}

    def restart(self) -> None:
        """Begin with an empty list again."""
        self._counts.clear()

    def take(self, item: int) -> np.ndarray | None:
        """As `sasrec.off_policy.stepwise.Limits` has it."""
        barred = None
        for attribute, most in self._at_most.items():
            for value in self._engine.values(attribute, item):
                self._counts[attribute, value] += 1
                if self._counts[attribute, value] == most:
                    found = self._items_with(attribute, value)
                    barred = found if barred is None else barred | found
        return barred

    def _items_with(self, attribute: str, value: Value) -> np.ndarray:
        key = (attribute, value)
        if key not in self._with:
            condition = Condition(attribute, self._kinds[attribute], (value,))
            self._with[key] = self._engine.meets(condition)
        return self._with[key]


class Diversity:
    """Maximal marginal relevance over embeddings (Carbonell and Goldstein, 1998).

    The score of a candidate falls by strength · range · max cos(candidate, item of the list above),
    with the range of the candidates' scores: at strength 1 the best candidate, if it is just like
    an item of the list, stands with the worst. That is the textbook's λ · relevance − (1 − λ) ·
    similarity over λ, which leaves scores in their units, so that a temperature means what it did.

    Args:
        candidates: (C,) item indices.
        scores: (C,) of these.
        strength: in [0, 1].
    """

    def __init__(
        self, engine: "Engine", candidates: np.ndarray, scores: np.ndarray, strength: float
    ) -> None:
        self._engine, self._candidates, self._scores = engine, candidates, scores
        self._weight = strength * float(np.ptp(scores)) if len(scores) else 0.0
        self._nearest = np.full(len(candidates), -1.0)

    def take(self, item: int) -> np.ndarray:
        """As `sasrec.off_policy.stepwise.Reranking` has it."""
        cosines = self._engine.cosines(self._candidates, item)
        self._nearest = np.maximum(self._nearest, cosines)
        return self._scores - self._weight * self._nearest


def slots_of_pins(
    pins: Iterable[tuple[int, str]], engine: "Engine", eligible: np.ndarray, k: int
) -> dict[int, int]:
    """Slot -> item of the pins that may be shown, each in the first free slot from its own on."""
    placed: dict[int, int] = {}
    for position, item_id in pins:
        [item] = engine.vocabulary.encode([item_id]).tolist()
        slot = next((s for s in range(position, k) if s not in placed), None)
        if slot is not None and eligible[item] and item not in placed.values():
            placed[slot] = item
    return placed


def added_scores(engine: "Engine", boosts: Sequence[Boost]) -> np.ndarray:
    """(V + 1,) float32: what all boosts together add to each score."""
    added = np.zeros(len(engine.vocabulary) + 1, dtype=np.float32)
    for boost in boosts:
        added[engine.mask(boost.wanted)] += boost.added
    return added
