"""What a recurring run must be: its schedule, and how many of its runs at once."""

import re
from typing import Any

_NAMES = {4: "jan feb mar apr may jun jul aug sep oct nov dec", 5: "sun mon tue wed thu fri sat"}
_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_PART = re.compile(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/(\d+))?")


def recurring_run_refusal(fields: dict[str, Any]) -> str:
    """Why the server refuses a recurring run; empty where it does not.

    pipelines/backend/src/apiserver/server/api_converter.go, `toModelJob`: the range, and
    `cron.Parse` of github.com/robfig/cron v1.2.0, whose sixth field, the day of the week, is
    optional and whose first one is seconds.
    """
    if not 1 <= int(fields.get("max_concurrency", 0)) <= 10:
        return "Max concurrency of a recurring run must be at least 1 and at most 10"
    cron = fields["trigger"]["cron_schedule"]["cron"]
    texts = cron.split()
    if len(texts) not in (5, 6):
        return f"Schedule cron is not a supported format: expected 5 to 6 fields, found {cron}"
    for index, text in enumerate(texts):
        for part in text.split(","):
            if not _fits(part, index):
                return f"Schedule cron is not a supported format: failed to parse {part}"
    return ""


def _fits(part: str, index: int) -> bool:
    match = _PART.fullmatch(part.lower())
    if match is None or match[3] == "0":
        return False
    if match[1] is None:
        return True
    low, high = _BOUNDS[index]
    names = {name: low + n for n, name in enumerate(_NAMES.get(index, "").split())}
    numbers = [names.get(text, text) for text in (match[1], match[2] or match[1])]
    if not all(str(number).isdigit() for number in numbers):
        return False
    first, last = map(int, numbers)
    return low <= first <= last <= high
