"""When an event happened: dates, text or numbers as microseconds UTC, and what cannot be a time.

A moment counts as a time of an event from 1980 to 2100. Within that window the size of a number
tells its unit, row by row, since the windows of seconds, milliseconds, microseconds and nanoseconds
do not touch; and what is mistaken for a time (a rating, `20231114`, Excel's 45244, a zero for
"missing") lies outside all four.
"""

import re
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.schema import TIMESTAMP
from sasrec.data.sources.faults import at_other_rows, first_row, shown
from sasrec.data.sources.normalise import plain_column
from sasrec.errors import DataError

EARLIEST, LATEST = 315_532_800, 4_102_444_800  # seconds: 1980-01-01 and 2100-01-01
ORDER_START = 946_684_800  # 2000-01-01, for what has an order but no time
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

_ISO = (
    r"^(?P<date>\d{4}[-/]\d{2}[-/]\d{2})"
    r"(?:[T ](?P<clock>\d{2}(?::\d{2}(?::\d{2})?)?)(?:[.,](?P<fraction>\d{1,12}))?)?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2}|[A-Za-z]+(?:/[A-Za-z_+\-0-9]+)+)?$"
)
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*$", re.I)

# What a value looks like that is no time, for the message: the first that fits.
_LOOKS: list[tuple[str, str]] = [
    (r"-", "a time before 1970"),
    (r"0(\.0*)?", "0 for a missing time"),
    (r"\d(\.\d*)?|10(\.0*)?", "a rating"),
    (r"(19|20)\d\d(\.0*)?", "a year"),
    (r"(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])(\.0*)?", "YYYYMMDD"),
    (r"(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])([01]\d|2[0-3])[0-5]\d(\.0*)?", "YYYYMMDDhhmm"),
    (r"(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])([01]\d|2[0-3])[0-5]\d[0-6]\d(\.0*)?",
     "YYYYMMDDhhmmss"),
    (r"[34]\d{4}(\.\d*)?", "a day number of Excel"),
    (r"1?\d{4}(\.0*)?", "a number of days since 1970"),
    (r"[1-9]\d{5,8}(\.\d*)?", "a count, or time since some other moment than 1970"),
    (r"\d{1,2}\.\d{1,2}\.\d{2,4}.*", "DD.MM.YYYY"),
    (r"\d{1,2}[/-]\d{1,2}[/-]\d{2,4}.*", "a date with the year last (MM/DD/YYYY or DD/MM/YYYY)"),
    (r"\d{1,2}:\d{2}.*", "a time of day without its date"),
]  # fmt: skip
_LOOKS_BY_YEAR = {
    1: "the empty date of .NET",
    1899: "the empty date of Excel",
    1900: "the empty date of Excel or SQL Server",
    1904: "the empty date of Excel",
    1970: "0 for a missing time",
    9999: "'for ever'",
}
_FIX = "use seconds since 1970 or ISO 8601 in every row"


def as_timestamps(
    column: pa.ChunkedArray | pa.Array, *, source: str, name: str
) -> tuple[pa.ChunkedArray, str]:
    """Timestamps in microseconds UTC, and a sentence that says how they were understood.

    Numbers are taken as seconds, milliseconds, microseconds or nanoseconds since 1970, whichever
    puts them between 1980 and 2100, each row by itself; text as ISO 8601, without a zone meaning
    UTC. What is finer than a microsecond is cut off.

    Raises:
        DataError: a field is empty, does not parse, or lies outside these years.
    """
    column = plain_column(column, source=source, name=name)
    kind = column.type
    missing = first_row(column.is_null()) if column.null_count else -1
    if missing >= 0 and not pa.types.is_string(kind):
        raise DataError(_empty(source, name, missing))
    if pa.types.is_string(kind):
        return _from_text(column, source=source, name=name)
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64()) if kind.scale > 0 else column
        return _from_decimals(column, source=source, name=name)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _from_temporal(column, source=source, name=name)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _from_epoch(column.to_numpy(), source=source, name=name)
    if pa.types.is_time(kind):
        raise DataError(
            f"{source}: column '{name}' is {kind}: a time of day without its date; "
            "join it with the date"
        )
    if pa.types.is_list(kind):
        raise DataError(f"{source}: column '{name}' holds lists; write one row per event")
    raise DataError(f"{source}: column '{name}' is {kind}, expected a time or seconds since 1970")


def as_optional_timestamps(
    column: pa.ChunkedArray | pa.Array, *, source: str, name: str
) -> pa.Array:
    """As `as_timestamps`, but an empty field is null."""
    column = plain_column(column, source=source, name=name)
    if pa.types.is_string(column.type):
        blank = pc.equal(pc.utf8_trim_whitespace(column), "")
        column = pc.if_else(blank, pa.scalar(None, pa.string()), column)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    known = column.is_valid().to_numpy()
    rows = np.flatnonzero(known)
    micros = np.zeros(len(column), dtype=np.int64)
    if known.any():
        try:
            parsed, _ = as_timestamps(column.drop_null(), source=source, name=name)
        except DataError as error:
            raise at_other_rows(error, lambda row: int(rows[row])) from None
        micros[known] = parsed.cast(pa.int64()).to_numpy()
    return pa.array(micros, mask=~known).cast(TIMESTAMP)


def as_order(column: pa.ChunkedArray | pa.Array) -> pa.Array | None:
    """Numbers of which none can be a time, as one second for each step of their order; or None.

    For who needs no more of a time than which of two events came first.
    """
    kind = column.type
    if column.null_count or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    values = column.to_numpy()
    if not len(values) or not np.isfinite(values).all() or values.max() >= EARLIEST:
        return None
    steps = np.unique(values, return_inverse=True)[1]
    return pa.array((ORDER_START + steps) * 10**6).cast(TIMESTAMP)


def _from_temporal(
    column: pa.ChunkedArray, *, source: str, name: str
) -> tuple[pa.ChunkedArray, str]:
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    scale = _PER_SECOND[column.type.unit]
    # Compared as they are: a moment far away does not fit the microseconds of an int64.
    values = column.cast(pa.int64()).to_numpy()
    bad = (values < EARLIEST * scale) | (values >= LATEST * scale)
    if bad.any():
        row = int(bad.argmax())
        seconds = int(values[row]) // scale
        said = np.datetime_as_string(np.datetime64(seconds, "s"))
        raise _implausible(source, name, row, said, bad, _looks_of_moment(seconds))
    zoned = column.cast(pa.timestamp(column.type.unit, tz="UTC"))
    return zoned.cast(TIMESTAMP, safe=False), f"'{name}' read as dates and times, UTC"


def _looks_of_moment(seconds: int) -> str | None:
    year = int(np.datetime64(seconds, "s").astype("datetime64[Y]").astype(int)) + 1970
    return _LOOKS_BY_YEAR.get(year)


def _from_decimals(
    column: pa.ChunkedArray, *, source: str, name: str
) -> tuple[pa.ChunkedArray, str]:
    if pa.types.is_decimal(column.type):
        fits = pc.and_(pc.less(column, 2**62), pc.greater(column, -(2**62)))
        row = first_row(pc.invert(fits))
        if row >= 0:
            value = str(column[row].as_py())
            raise _implausible(source, name, row, value, pc.invert(fits).to_numpy(), None)
        column = column.cast(pa.int64())
    return _from_epoch(column.to_numpy(), source=source, name=name)


def _from_epoch(values: np.ndarray, *, source: str, name: str) -> tuple[pa.ChunkedArray, str]:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(_empty(source, name, int((~np.isfinite(values)).argmax())))
    micros, counts = np.zeros(len(values), dtype=np.int64), {}
    bad = np.ones(len(values), dtype=bool)
    for unit, scale in _UNITS.items():
        rows = (values >= EARLIEST * scale) & (values < LATEST * scale)
        if not rows.any():
            continue
        bad &= ~rows
        counts[unit] = int(rows.sum())
        if values.dtype.kind == "f":
            micros[rows] = np.rint(values[rows] * (1e6 / scale)).astype(np.int64)
        elif scale <= 10**6:
            micros[rows] = values[rows].astype(np.int64) * (10**6 // scale)
        else:
            micros[rows] = values[rows].astype(np.int64) // (scale // 10**6)
    if bad.any():
        row = int(bad.argmax())
        value = values[row].item()
        text = f"{value:.15g}" if isinstance(value, float) else str(value)
        raise _implausible(source, name, row, text, bad, _look(text))
    said = [unit if len(counts) < 2 else f"{unit} ({rows} rows)" for unit, rows in counts.items()]
    times = pa.chunked_array([pa.array(micros).cast(TIMESTAMP)])
    return times, f"'{name}' read as {' and '.join(said) or 'seconds'} since 1970"


def _from_text(column: pa.ChunkedArray, *, source: str, name: str) -> tuple[pa.ChunkedArray, str]:
    """Numbers or dates, by the first row: every other must be the same."""
    column = pc.utf8_trim_whitespace(column)
    if not len(column):
        return pa.chunked_array([pa.array([], TIMESTAMP)]), f"'{name}' is empty"
    if _NUMBER.match(column[0].as_py() or "") or (column[0].as_py() or "").lower() == "nan":
        for dtype in (pa.int64(), pa.float64()):
            try:
                values = column.cast(dtype)
            except pa.ArrowInvalid:
                continue
            if values.null_count:
                raise DataError(_empty(source, name, first_row(values.is_null())))
            return _from_epoch(values.to_numpy(), source=source, name=name)
        raise _no_time(column, lambda text: bool(_NUMBER.match(text)), source=source, name=name)
    fields = pc.extract_regex(column, _ISO)
    if fields.null_count:
        raise _no_time(column, re.compile(_ISO).match, source=source, name=name)
    parts = [_moments(chunk, source=source, name=name) for chunk in _filled(fields)]
    return _from_temporal(pa.chunked_array(parts), source=source, name=name)


def _filled(fields: pa.ChunkedArray) -> Iterator[pa.StructArray]:
    return (chunk for chunk in fields.chunks if len(chunk))


def _moments(fields: pa.StructArray, *, source: str, name: str) -> pa.Array:
    """`timestamp[us, UTC]` of the parts of ISO 8601."""
    date, clock, fraction, zone = (
        fields.field(part) for part in ("date", "clock", "fraction", "zone")
    )
    date = pc.replace_substring(date, "/", "-")
    clock = pc.if_else(pc.equal(clock, ""), "00", clock)
    text = pc.binary_join_element_wise(date, clock, " ")
    try:
        moments = text.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        raise _no_time(text, _casts, source=source, name=name) from None
    six = pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, 12, "0"), 0, 6).cast(pa.int64())
    micros = pc.add(moments.cast(pa.int64()), six).to_numpy(zero_copy_only=False)
    zones = zone.dictionary_encode()
    which = zones.indices.to_numpy(zero_copy_only=False)
    result = np.empty(len(micros), dtype=np.int64)
    for number, label in enumerate(zones.dictionary.to_pylist()):
        rows = which == number
        result[rows] = _in_utc(micros[rows], label, source=source, name=name)
    return pa.array(result).cast(TIMESTAMP)


def _in_utc(micros: np.ndarray, zone: str, *, source: str, name: str) -> np.ndarray:
    if zone in ("", "Z", "z", "UTC", "GMT"):
        return micros
    if zone[0] in "+-":
        digits = zone[1:].replace(":", "")
        minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
        return micros - (1 if zone[0] == "+" else -1) * minutes * 60_000_000
    local = pa.array(micros).cast(pa.timestamp("us"))
    try:
        zoned = pc.assume_timezone(local, zone, ambiguous="earliest", nonexistent="latest")
    except pa.ArrowInvalid:
        raise DataError(
            f"{source}: column '{name}' names an unknown time zone: {shown(zone)}; use an offset, "
            "such as +01:00"
        ) from None
    return zoned.cast(pa.int64()).to_numpy(zero_copy_only=False)


def _casts(text: str) -> bool:
    try:
        pa.scalar(text).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return False
    return True


def _no_time(
    column: pa.ChunkedArray | pa.Array,
    fits: Callable[[str], object],
    *,
    source: str,
    name: str,
) -> DataError:
    values = column.to_pylist()
    row = next((row for row, text in enumerate(values) if text is None or not fits(text)), 0)
    text = values[row]
    looks = _look(text or "")
    said = f": it looks like {looks}" if looks else ""
    return DataError(
        f"{source}: column '{name}' at row {row} is not a timestamp: {shown(text or '')}{said}; "
        f"{_FIX}"
    )


def _look(text: str) -> str | None:
    if text.startswith("-"):
        return _LOOKS[0][1]
    return next((look for pattern, look in _LOOKS if re.fullmatch(pattern, text)), None)


def _empty(source: str, name: str, row: int) -> str:
    return (
        f"{source}: column '{name}' is empty or not finite at row {row}; fill it in, or remove "
        "the row"
    )


def _implausible(
    source: str, name: str, row: int, value: str, bad: np.ndarray, looks: str | None
) -> DataError:
    share = f"{int(bad.sum())} of {len(bad)} rows"
    said = f"looks like {looks}" if looks else "is no time that an event has"
    return DataError(
        f"{source}: column '{name}' at row {row} {said}: {value}; as a time, {share} lie outside "
        f"1980 to 2100; {_FIX}, remove these rows, or name another column with "
        "--column timestamp=NAME"
    )
