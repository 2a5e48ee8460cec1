"""Which items: `{"category": ["a", "b"], "price": {"lte": 20}, "not": {"sale": true}}`.

An item passes when it meets every condition, and not all of those under `not`. A condition on a
text attribute is met by an item that has one of the values, of the whole text or of its parts
between `|`. An item without the attribute meets no condition on it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

Kind = Literal["text", "number", "truth", "time"]
Path = tuple[str | int, ...]

NOT = "not"
BOUNDS = ("lt", "lte", "gt", "gte")
COMPARE: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "lt": np.less,
    "lte": np.less_equal,
    "gt": np.greater,
    "gte": np.greater_equal,
}
MAX_CONDITIONS, MAX_VALUES, MAX_NAME, MAX_TEXT = 20, 100, 64, 1024
LARGEST_NUMBER = 2**53
WANTED = {
    "text": "takes a text or a list of texts",
    "number": "takes numbers, or lt, lte, gt and gte of numbers",
    "truth": "takes true or false",
    "time": "takes lt, lte, gt and gte of moments in ISO 8601 with an offset",
}


class FilterError(ValueError):
    """A filter that says nothing about these items.

    Attributes:
        path: to the part that is wrong, from the filter on.
        reason: in one line; never what was sent.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path, self.reason = path, reason

    def under(self, *path: str | int) -> "FilterError":
        """The same, of a filter that stands at `path` of something larger."""
        return FilterError((*path, *self.path), self.reason)


@dataclass(frozen=True)
class Condition:
    """What one attribute is to be.

    Attributes:
        values: any of these, in order; truth values are 1.0 and 0.0.
        bounds: name of `BOUNDS` and number, all to be kept; times are microseconds.
    """

    attribute: str
    kind: Kind
    values: tuple[str | float, ...] = ()
    bounds: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Filter:
    """A filter as it was compiled; equal filters are equal and hash alike.

    Attributes:
        conditions: all are to be met.
        excluded: not all of these; empty for nothing.
    """

    conditions: tuple[Condition, ...]
    excluded: tuple[Condition, ...] = ()

    def mask(self, meets: Callable[[Condition], np.ndarray]) -> np.ndarray:
        """(n,) bool, which rows pass; `meets` gives (n,) bool of one condition."""
        met = np.logical_and.reduce([meets(condition) for condition in self.conditions])
        if not self.excluded:
            return met
        # Without a condition all is met: numpy makes one true value of nothing.
        return met & ~np.logical_and.reduce([meets(condition) for condition in self.excluded])

    def check(self, kinds: Mapping[str, Kind]) -> None:
        """Whether these attributes exist and are of the kinds asked for.

        Raises:
            FilterError: naming the first that does not, or is not.
        """
        for prefix, conditions in (((), self.conditions), ((NOT,), self.excluded)):
            for condition in conditions:
                path = (*prefix, condition.attribute)
                known = kinds.get(condition.attribute)
                if known is None:
                    raise FilterError(path, "no item has this attribute")
                if known != condition.kind:
                    raise FilterError(path, f"a {known} attribute: {WANTED[known]}")


def parse_filter(value: Any) -> Filter:
    """Compile what JSON brought.

    Raises:
        FilterError: naming the part that is no filter.
    """
    conditions = _conditions(value, ())
    excluded = _conditions(value[NOT], (NOT,)) if NOT in value else ()
    return Filter(conditions, excluded)


def _conditions(value: Any, path: Path) -> tuple[Condition, ...]:
    if not isinstance(value, dict):
        raise FilterError(path, "is no object of attributes and what they are to be")
    if not 0 < len(value) <= MAX_CONDITIONS:
        raise FilterError(path, f"has no condition, or more than {MAX_CONDITIONS}")
    found = []
    for name, wanted in sorted(value.items()):
        if name == NOT and not path:
            continue
        if not 0 < len(name) <= MAX_NAME or name == NOT:
            raise FilterError((*path, name[:MAX_NAME]), "is no name of an attribute")
        found.append(_condition(name, wanted, (*path, name)))
    return tuple(found)


def _condition(name: str, wanted: Any, path: Path) -> Condition:
    if isinstance(wanted, dict):
        return _range(name, wanted, path)
    several = wanted if isinstance(wanted, list) else [wanted]
    if not 0 < len(several) <= MAX_VALUES:
        raise FilterError(path, f"lists no value, or more than {MAX_VALUES}")
    places = [path] if several is not wanted else [(*path, n) for n in range(len(several))]
    kinds_and_values = [_value(one, place) for one, place in zip(several, places, strict=True)]
    kind = kinds_and_values[0][0]
    for (other, _), place in zip(kinds_and_values, places, strict=True):
        if other != kind:
            raise FilterError(place, f"is a {other} among values that begin with a {kind}")
    return Condition(
        name, kind, tuple(sorted({value for _, value in kinds_and_values}, key=_order))
    )


def _order(value: str | float) -> tuple[str, float]:
    return (value, 0.0) if isinstance(value, str) else ("", value)


def _value(one: Any, path: Path) -> tuple[Kind, str | float]:
    if isinstance(one, bool):
        return "truth", float(one)
    if isinstance(one, int | float):
        return "number", _number(one, path)
    if isinstance(one, str) and len(one) <= MAX_TEXT:
        return "text", one
    raise FilterError(path, "is no short text, number, truth value, list of these, or range")


def _number(one: float, path: Path) -> float:
    if not -LARGEST_NUMBER <= one <= LARGEST_NUMBER:  # as is NaN
        raise FilterError(path, "is not between -2^53 and 2^53")
    return float(one)


def _range(name: str, wanted: dict[str, Any], path: Path) -> Condition:
    if not wanted:
        raise FilterError(path, f"is empty: give {', '.join(BOUNDS)}")
    kinds: set[Kind] = set()
    bounds = []
    for bound, limit in sorted(wanted.items()):
        place = (*path, bound[:MAX_NAME])
        if bound not in BOUNDS:
            raise FilterError(place, f"is none of {', '.join(BOUNDS)}")
        if isinstance(limit, str):
            kinds.add("time")
            bounds.append((bound, _moment(limit, place)))
        elif isinstance(limit, int | float) and not isinstance(limit, bool):
            kinds.add("number")
            bounds.append((bound, _number(limit, place)))
        else:
            raise FilterError(place, "is no number, and no moment in ISO 8601")
        if len(kinds) > 1:
            raise FilterError(place, "is of another kind than the bound before")
    return Condition(name, kinds.pop(), bounds=tuple(bounds))


def _moment(text: str, path: Path) -> float:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None or not math.isfinite(seconds := moment.timestamp()):
            raise ValueError
    except (ValueError, OverflowError):
        raise FilterError(path, "is no moment in ISO 8601 with an offset") from None
    return float(round(seconds * 1e6))


def schema_of(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The JSON schema of filters over attributes of these kinds."""
    attributes = {name: _SCHEMAS[kind] for name, kind in sorted(kinds.items()) if name != NOT}
    conditions = {
        "type": "object",
        "properties": attributes,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": MAX_CONDITIONS,
    }
    return {
        **conditions,
        "title": "Filter",
        "description": "Items that meet all conditions, and not all of those under `not`.",
        "properties": {**attributes, NOT: conditions},
    }


def _values_schema(one: dict[str, Any]) -> list[dict[str, Any]]:
    return [one, {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_VALUES}]


def _range_schema(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict.fromkeys(BOUNDS, one),
        "additionalProperties": False,
        "minProperties": 1,
    }


_NUMBER = {"type": "number", "minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER}
_MOMENT = {"type": "string", "format": "date-time"}
_SCHEMAS: dict[Kind, dict[str, Any]] = {
    "text": {"anyOf": _values_schema({"type": "string", "maxLength": MAX_TEXT})},
    "number": {"anyOf": [*_values_schema(_NUMBER), _range_schema(_NUMBER)]},
    "truth": {"anyOf": _values_schema({"type": "boolean"})},
    "time": _range_schema(_MOMENT),
}
