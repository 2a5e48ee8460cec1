"""When a schedule runs, as Kubeflow reads it: github.com/robfig/cron, version 1."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sasrec.errors import SettingsError


@dataclass(frozen=True)
class _Field:
    """What one of the six may say.

    Attributes:
        names: words for numbers.
    """

    what: str
    least: int
    most: int
    names: Mapping[str, int] = field(default_factory=dict)


_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, {name: n for n, name in enumerate(_MONTHS, 1)}),
    _Field("day of the week", 0, 6, {name: n for n, name in enumerate(_DAYS)}),
)


def six_fields(cron: str) -> str:
    """A schedule as Kubeflow takes it, with seconds first, from one of five or six fields.

    Raises:
        SettingsError: a field is missing, or says what it may not; one line.
    """
    texts = cron.split()
    if len(texts) == 5:
        texts = ["0", *texts]
    if len(texts) != 6:
        raise SettingsError(f"--cron '{cron}' has {len(texts)} fields; five, as in '30 3 * * *'")
    for text, of in zip(texts, _FIELDS, strict=True):
        for part in text.split(","):
            if not _fits(part, of):
                raise SettingsError(
                    f"--cron '{cron}': '{part}' is no {of.what}; {of.least} to {of.most}, "
                    "as in 3, 1-5, 1,4 or */2"
                )
    return " ".join(texts)


def _fits(part: str, of: _Field) -> bool:
    """`*`, `N`, `N-M`, each with `/STEP`."""
    span, slash, step = part.partition("/")
    if slash and not (step.isascii() and step.isdigit() and int(step) > 0):
        return False
    if span in ("*", "?"):
        return True
    first, dash, last = span.partition("-")
    low = _number(first, of)
    high = _number(last, of) if dash else low
    return low is not None and high is not None and of.least <= low <= high <= of.most


def _number(text: str, of: _Field) -> int | None:
    if text.isascii() and text.isdigit():
        return int(text)
    return of.names.get(text.lower())
