"""Random tables in every format read back equal or are refused by name; damaged ones never crash.

`SASREC_CASES_DIR` names a folder of case folders, whose files are then damaged as well.
"""

import csv
import gzip
import io
import json
import os
import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sasrec.data.cleaning import clean
from sasrec.data.sources import load
from sasrec.errors import DataError

TEXT = st.text(
    st.one_of(
        st.sampled_from("\"',;|\t \n\r:#\\%0123456789abé山👟"),
        st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"),
    ),
    min_size=1,
    max_size=12,
)
SECONDS = st.integers(946_684_800, 1_700_000_000)
ROWS = st.lists(st.tuples(TEXT, TEXT, SECONDS, st.integers(1, 5)), min_size=1, max_size=8)
TIMES = {
    "seconds": str,
    "milliseconds": lambda t: str(t * 1000),
    "nanoseconds": lambda t: str(t * 10**9),
    "floats": lambda t: f"{t}.0",
    "iso": lambda t: datetime.fromtimestamp(t, UTC).isoformat(),
    "iso Z": lambda t: datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    "naive": lambda t: datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S"),
    "UTC": lambda t: datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S.000000000 UTC"),
}
HEADER = ["user_id", "item_id", "rating", "timestamp"]
DIALECTS = {
    "doubled": {"doublequote": True, "quoting": csv.QUOTE_MINIMAL},
    "all quoted": {"doublequote": True, "quoting": csv.QUOTE_ALL},
    "backslash": {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL},
    "plain": {"quoting": csv.QUOTE_NONE, "quotechar": None},
}


def expected(rows):
    return [(user, item, seconds, float(rating)) for user, item, seconds, rating in rows]


def found(interactions: pa.Table):
    return [
        (row["user_id"], row["item_id"], row["timestamp"].timestamp(), row["value"])
        for row in interactions.to_pylist()
    ]


def read(name: str, content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        return load(Path(folder) / name)


def equal_or_refused(name: str, content: bytes, rows) -> None:
    try:
        source = read(name, content)
    except DataError as error:
        message = str(error)
    else:
        assert found(source.interactions) == expected(rows)
        return
    assert name in message
    assert "\n" not in message


@given(
    rows=ROWS,
    dialect=st.sampled_from(list(DIALECTS)),
    delimiter=st.sampled_from(",;\t|"),
    ends=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    time=st.sampled_from(list(TIMES)),
    header=st.booleans(),
    packed=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_delimited_text(rows, dialect, delimiter, ends, encoding, time, header, packed):
    columns = list(zip(*[row[:2] for row in rows], strict=True))
    assume(not any(all(text.endswith(".0") for text in column) for column in columns))
    # A file that RFC 4180 reads is read so: there a backslash is a character like any other.
    assume(dialect != "backslash" or not any("\\" in u + i for u, i, *_ in rows))
    text = io.StringIO(newline="")
    writer = csv.writer(
        text, delimiter=delimiter, lineterminator=ends, strict=True, **DIALECTS[dialect]
    )
    lines = [[u, i, str(r), TIMES[time](t)] for u, i, t, r in rows]
    try:
        writer.writerows([HEADER, *lines] if header else lines)
    except csv.Error:  # this dialect cannot write these fields
        return
    content = text.getvalue().encode(encoding)
    name = "events.csv.gz" if packed else "events.csv"
    equal_or_refused(name, gzip.compress(content, mtime=0) if packed else content, rows)


@given(rows=ROWS, time=st.sampled_from(list(TIMES)), numbers=st.booleans())
@settings(max_examples=100, deadline=None)
def test_json_lines(rows, time, numbers):
    lines = [
        json.dumps(
            {
                "user_id": u,
                "item_id": i,
                "rating": r,
                "timestamp": t if numbers else TIMES[time](t),
                "tags": [u, {"nested": i}],
            },
            ensure_ascii=numbers,
        )
        for u, i, t, r in rows
    ]
    source = read("events.jsonl", "\n".join(lines).encode())
    columns = [[row[0] for row in rows], [row[1] for row in rows]]
    assume(not any(all(text.endswith(".0") for text in column) for column in columns))
    assert found(source.interactions) == expected(rows)


PARQUET_TEXT = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
]
PARQUET_TIME = [
    pa.timestamp("s"),
    pa.timestamp("ms", "Asia/Tokyo"),
    pa.timestamp("us"),
    pa.timestamp("ns", "UTC"),
    pa.int64(),
    pa.uint32(),
    pa.float64(),
    pa.decimal128(38, 0),
    pa.decimal128(20, 3),
    pa.string(),
    pa.large_string(),
]
PARQUET_VALUE = [pa.int8(), pa.uint64(), pa.float32(), pa.decimal128(5, 1), pa.string()]


@given(
    rows=ROWS,
    ids=st.sampled_from(PARQUET_TEXT),
    time=st.sampled_from(PARQUET_TIME),
    value=st.sampled_from(PARQUET_VALUE),
    parts=st.integers(1, 3),
)
@settings(max_examples=200, deadline=None)
def test_parquet(rows, ids, time, value, parts):
    def typed(values, kind):
        column = pa.array(values)
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("s")).cast(pa.timestamp(kind.unit, kind.tz))
        if pa.types.is_decimal(kind):
            return pa.array([Decimal(entry) for entry in values], kind)
        return (
            column.dictionary_encode().cast(kind)
            if pa.types.is_dictionary(kind)
            else (column.cast(kind))
        )

    users, items, seconds, ratings = (list(column) for column in zip(*rows, strict=True))
    table = pa.table(
        {
            "user_id": typed(users, ids),
            "item_id": typed(items, ids),
            "timestamp": typed(seconds, time),
            "rating": typed(ratings, value),
            "unused": pa.array([{"a": [1]}] * len(rows)),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        path.mkdir()
        size = -(-len(rows) // parts)
        for part in range(0, len(rows), size):
            pq.write_table(table.slice(part, size), path / f"part-{part:05d}.parquet")
        assert found(load(path).interactions) == expected(rows)


GOOD = {
    "events.csv": b'user_id,item_id,timestamp,rating\nu1,"a, b",1700000000,4\nu1,c,1700000060,\n'
    b'u2,"x ""y""\nz",1700000000,5\nu2,d,1700000100,4.5\n',
    "events.tsv": b"uid\titem\tts\nu1\ta\t2023-11-14T22:13:20Z\nu1\tb\t2023-11-14 22:13:20 UTC\n",
    "u.data": b"1\t10\t4\t978300760\n1\t11\t4\t978302109\n2\t10\t4\t978301968\n",
    "ratings.dat": b"1::10::4::978300760\n1::11::4::978302109\n",
    "some.inter": b"user_id:token\titem_id:token\ttimestamp:float\n1\t5\t978300760.0\n",
    "events.jsonl": b'{"user":"u1","item":7,"time":1700000000}\n'
    b'{"user":"u1","item":8,"time":1.7e9}',
    "order.txt": b"1 5\n1 3\n2 5\n",
}


def parquet_bytes() -> bytes:
    sink = io.BytesIO()
    table = pa.table(
        {"user": ["u", "u"], "item": [1.0, 2.0], "time": [1_700_000_000, 1_700_000_060]}
    )
    pq.write_table(table, sink)
    return sink.getvalue()


GOOD["events.parquet"] = parquet_bytes()
GOOD["events.csv.gz"] = gzip.compress(GOOD["events.csv"], mtime=0)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "delete", "cut", "repeat"]),
        st.floats(0, 1, exclude_max=True),
        st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b'"', b"\n", b",", b"\r"])),
    ),
    min_size=1,
    max_size=6,
)


def damaged(content: bytes, changes) -> bytes:
    for kind, place, piece in changes:
        at = int(place * len(content))
        if kind == "set":
            content = content[:at] + piece + content[at + len(piece) :]
        elif kind == "insert":
            content = content[:at] + piece + content[at:]
        elif kind == "delete":
            content = content[:at] + content[at + len(piece) :]
        elif kind == "cut":
            content = content[:at]
        else:
            content = content[:at] + content[at // 2 :]
    return content


def survives(name: str, content: bytes) -> None:
    """Either a `DataError` of one line, or every row kept or counted."""
    try:
        source = read(name, content)
        rows = source.interactions.num_rows
        _, report = clean(source)
    except DataError as error:
        message = str(error)
    else:
        message = ""
        assert report.rows_read == rows == report.events + report.duplicates_dropped
    assert "\n" not in message


@pytest.mark.parametrize("name", GOOD)
def test_damaged_files(name):
    @given(CHANGES)
    @settings(max_examples=60, deadline=None)
    def check(changes):
        survives(name, damaged(GOOD[name], changes))

    survives(name, GOOD[name])
    check()


def case_files() -> list[Path]:
    root = os.environ.get("SASREC_CASES_DIR")
    if not root:
        return []
    kinds = (".csv", ".tsv", ".dat", ".jsonl", ".parquet", ".gz")
    return sorted(p for p in Path(root).glob("*/*") if p.suffix.lower() in kinds)


@pytest.mark.skipif(not case_files(), reason="needs SASREC_CASES_DIR")
def test_damaged_cases():
    contents = {path: path.read_bytes()[:6000] for path in case_files() if path.stat().st_size}
    contents |= {path: path.read_bytes() for path in contents if path.suffix in (".parquet", ".gz")}

    @given(st.sampled_from(sorted(contents)), CHANGES)
    @settings(max_examples=500, deadline=None)
    def check(path, changes):
        survives(path.name, damaged(contents[path], changes))

    check()
