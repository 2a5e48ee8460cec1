"""Settings by their dotted keys, such as `model.dim`: one way to replace and check them."""

import copy
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sasrec.errors import SettingsError, first_problem

Document = TypeVar("Document", bound=BaseModel)


def keys_of(document: type[BaseModel], sections: Iterable[str]) -> list[str]:
    """`section.field` of every field of these sections of a typed document."""
    return [
        f"{section}.{field}"
        for section in sections
        for field in document.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    ]


def assigned(
    values: Mapping[str, Any], overrides: Mapping[str, Any], known: Iterable[str]
) -> dict[str, Any]:
    """A copy of nested values with some replaced.

    Args:
        values: section -> field -> value.
        overrides: dotted key -> value; what follows `section.field` leads into a mapping, as in
            `events.roles.purchase`.
        known: every `section.field` that may be set.

    Raises:
        SettingsError: a key is unknown; the nearest is named.
    """
    known, result = list(known), copy.deepcopy(dict(values))
    for key, value in overrides.items():
        section, *path = key.split(".")
        if not path or f"{section}.{path[0]}" not in known:
            raise SettingsError(f"setting '{key}' is unknown{nearest(key, known)}")
        target = result.setdefault(section, {})
        for parent in path[:-1]:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise SettingsError(f"setting '{key}': {section}.{path[0]} holds one value")
        target[path[-1]] = value
    return result


def checked(document: type[Document], values: Mapping[str, Any]) -> Document:
    """The typed document of nested values.

    Raises:
        SettingsError: a value is missing, of another type or out of bounds: `key: what is wrong`.
    """
    try:
        return document.model_validate(values)
    except ValidationError as error:
        raise SettingsError(": ".join(filter(None, first_problem(error)))) from None


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message on an unknown word: the nearest known one, or all of them."""
    choices = list(known)
    matches = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if matches:
        return f"; did you mean '{matches[0]}'?"
    return f"; known: {', '.join(choices)}"
