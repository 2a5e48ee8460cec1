"""JSON Lines: one object a line."""

import json
from typing import Any

import pyarrow as pa

from sasrec.data.sources.faults import shown
from sasrec.errors import DataError


def read_jsonl(content: bytes, *, source: str) -> pa.Table:
    """The objects as rows; a key that some lack is null there.

    Values keep their types where a column has one; of several types, they become text.

    Args:
        content: UTF-8.
        source: the file, for messages.

    Raises:
        DataError: a line is no JSON object.
    """
    rows: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise DataError(
                f"{source}: row {len(rows)} (line {number}) is not a JSON object: "
                f"{shown(line.decode(errors='replace'))}; write one object a line"
            )
        names.update(dict.fromkeys(row))
        rows.append(row)
    if not rows:
        raise DataError(f"{source}: the file is empty")
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        bad = next((row for row, value in enumerate(values) if _is_half(value)), None)
        if bad is not None or _is_half(name):
            raise DataError(
                f"{source}: column {name!r} at row {bad or 0} holds half a character (an escape "
                r"such as \ud800 without its second half); write the text as UTF-8"
            )
        columns[name] = _column(values)
    return pa.table(columns)


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return pa.array([_text(value) for value in values], pa.string())


def _is_half(value: Any) -> bool:
    """Whether this is a text that no encoding has."""
    try:
        return isinstance(value, str) and not value.isascii() and not value.encode()
    except UnicodeEncodeError:
        return True


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)
