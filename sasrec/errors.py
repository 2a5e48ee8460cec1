"""What the user can mend, as one type: everything else that is raised is a bug or a fault."""

from typing import NamedTuple

from pydantic import ValidationError


class DataError(ValueError):
    """Input that breaks a contract. The message is one line: source, column, row, and the fix."""


class SettingsError(DataError):
    """A setting that does not exist or does not fit. One line: the key, the reason, the fix."""


class Problem(NamedTuple):
    """The first thing that a typed document gets wrong.

    Attributes:
        field: its path, `model.dim`; empty if the document as a whole is wrong.
        message: what is expected there.
    """

    field: str
    message: str


def first_problem(error: ValidationError) -> Problem:
    """What to tell a person of pydantic's list."""
    first = error.errors(include_url=False)[0]
    return Problem(".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))
