"""What is a time of an event, in which unit, and what only looks like one."""

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from sasrec.data.schema import TIMESTAMP
from sasrec.data.sources.times import as_optional_timestamps, as_timestamps
from sasrec.errors import DataError

MOMENT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
SECONDS = 1_700_000_000


def read(values, kind=None):
    return as_timestamps(pa.array(values, kind), source="a.csv", name="ts")[0].to_pylist()


@pytest.mark.parametrize(
    "text",
    [
        "2023-11-14T22:13:20",
        "2023-11-14 22:13:20 UTC",
        "2023-11-14 22:13:20 GMT",
        "2023/11/14 22:13:20",
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:20.000000000",
        "2023-11-14T22:13:20,0",
        "2023-11-14T22:13:20+00",
        "2023-11-14T22:13:20 +0000",
        "2023-11-15T07:13:20+09:00",
        "2023-11-14T17:13:20-0500",
        "2023-11-14 17:13:20 America/New_York",
        " 2023-11-14T22:13:20Z ",
        "1700000000",
        " 1700000000.0",
        "1700000000000",
        "1.7e9",
    ],
)
def test_text(text):
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        assert read([text, text], kind) == [MOMENT] * 2


def test_parts_of_a_time():
    assert read(["2023-11-14", "2023-11-14 22", "2023-11-14 22:13"]) == [
        MOMENT.replace(hour=0, minute=0, second=0),
        MOMENT.replace(minute=0, second=0),
        MOMENT.replace(second=0),
    ]
    assert read(["2023-11-14T22:13:20.123456789"]) == [MOMENT.replace(microsecond=123456)]
    assert read(["2023-11-14T22:13:20.5+00:00"]) == [MOMENT.replace(microsecond=500000)]


def test_offsets_that_change_within_a_column():
    assert read(["2023-11-05T01:30:00-04:00", "2023-11-05T01:30:00-05:00", "2023-11-05T07:00"]) == [
        datetime(2023, 11, 5, 5, 30, tzinfo=UTC),
        datetime(2023, 11, 5, 6, 30, tzinfo=UTC),
        datetime(2023, 11, 5, 7, 0, tzinfo=UTC),
    ]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (SECONDS, pa.int64()),
        (SECONDS, pa.uint32()),
        (SECONDS * 1000, pa.uint64()),
        (SECONDS * 10**6, pa.int64()),
        (SECONDS * 10**9, pa.uint64()),
        (float(SECONDS), pa.float64()),
        (Decimal(SECONDS), pa.decimal128(38, 0)),
        (Decimal(SECONDS), pa.decimal128(20, 3)),
        (MOMENT, pa.timestamp("s")),
        (MOMENT, pa.timestamp("ns", tz="America/New_York")),
    ],
)
def test_types(value, kind):
    assert read([value], kind) == [MOMENT]
    assert read([], kind) == []
    dictionary = pa.array([value, value], kind).dictionary_encode()
    assert as_timestamps(dictionary, source="a", name="ts")[0].to_pylist() == [MOMENT] * 2


def test_units_are_told_row_by_row():
    column = pa.array([SECONDS, SECONDS * 1000, SECONDS])
    times, note = as_timestamps(column, source="a.csv", name="ts")
    assert times.to_pylist() == [MOMENT] * 3
    assert times.type == TIMESTAMP
    assert note == "'ts' read as seconds (2 rows) and milliseconds (1 rows) since 1970"


@pytest.mark.parametrize(
    ("values", "row", "looks"),
    [
        ([4, 5, 3], 0, "a rating: 4"),
        (["4.5", "3"], 0, "a rating: 4.5"),
        ([20231114], 0, "YYYYMMDD: 20231114"),
        (["20231114"], 0, "YYYYMMDD: 20231114"),
        ([202311142213], 0, "YYYYMMDDhhmm:"),
        ([20231114221320], 0, "YYYYMMDDhhmmss:"),
        ([2023], 0, "a year: 2023"),
        ([45244.93], 0, "a day number of Excel"),
        ([19675], 0, "a number of days since 1970"),
        ([123456], 0, "a count, or time since some other moment"),
        ([SECONDS, -100_000_000], 1, "a time before 1970"),
        ([SECONDS, SECONDS, 0], 2, "0 for a missing time: 0; as a time, 1 of 3 rows"),
        (["2023-11-14", "0001-01-01"], 1, "the empty date of .NET"),
        (["2023-11-14", "1900-01-01 00:00:00"], 1, "the empty date of Excel or SQL Server"),
        (["2023-11-14", "1970-01-01"], 1, "0 for a missing time"),
        (["2023-11-14", "9999-12-31"], 1, "'for ever'"),
        ([MOMENT, datetime(1, 1, 1, tzinfo=UTC)], 1, "the empty date of .NET"),
        ([SECONDS, 10**17], 1, "is no time that an event has: 100000000000000000"),
    ],
)
def test_what_lies_outside_the_years_of_events(values, row, looks):
    with pytest.raises(DataError, match=f"^a.csv: column 'ts' at row {row} .*{looks}") as error:
        read(values)
    assert "--column timestamp=NAME" in str(error.value)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["14.11.2023 22:13"], None, "at row 0 is not a timestamp: .*looks like DD.MM.YYYY"),
        (["11/14/2023 10:13 PM"], None, "looks like a date with the year last"),
        (["22:13:20"], None, "looks like a time of day without its date"),
        (["2023-11-14", "soon"], None, "at row 1 is not a timestamp: 'soon'; use seconds since"),
        (["2023-11-14", "1700000000"], None, "at row 1 is not a timestamp: '1700000000'"),
        (["1700000000", "2023-11-14"], None, "at row 1 is not a timestamp: '2023-11-14'"),
        (["2023-11-14", None], None, "at row 1 is not a timestamp: ''"),
        (["2023-02-30"], None, "at row 0 is not a timestamp"),
        (["2023-11-14 22:13 Mars/Base"], None, "unknown time zone: 'Mars/Base'; use an offset"),
        (["1700000000", "nan"], None, "is empty or not finite at row 1"),
        ([1.7e9, float("inf")], None, "is empty or not finite at row 1"),
        ([SECONDS, None], None, "is empty or not finite at row 1"),
        ([1000], pa.time32("ms"), "a time of day without its date"),
        ([[SECONDS]], None, "holds lists; write one row per event"),
        ([True], None, "is bool, expected a time or seconds since 1970"),
    ],
)
def test_what_is_no_time(values, kind, message):
    with pytest.raises(DataError, match=message):
        read(values, kind)


def test_optional_times_name_the_row_of_the_whole_column():
    def optional(*values):
        return as_optional_timestamps(pa.array(values), source="items.csv", name="created")

    assert optional("", None, "2023-11-14T22:13:20").to_pylist() == [None, None, MOMENT]
    assert optional(None, float("nan"), float(SECONDS)).to_pylist() == [None, None, MOMENT]
    assert optional(None, None).to_pylist() == [None, None]
    with pytest.raises(DataError, match="at row 3 is not a timestamp: 'x'"):
        optional("", "2023-11-14", "", "x")
