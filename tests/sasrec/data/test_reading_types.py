"""Columns of a Parquet file in the types that its writers choose, and folders of parts."""

import uuid
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sasrec.data.sources import load
from sasrec.data.sources.folder import find_files, stream_interactions
from sasrec.errors import DataError

UUIDS = [uuid.UUID(int=n) for n in (1, 2**100)]


def events(**columns) -> pa.Table:
    rows = len(next(iter(columns.values()))) if columns else 2
    default = {
        "user_id": ["u"] * rows,
        "item_id": ["i"] * rows,
        "timestamp": pa.array([1_700_000_000] * rows, pa.int64()),
    }
    return pa.table(default | columns)


def read(tmp_path, table: pa.Table) -> pa.Table:
    pq.write_table(table, tmp_path / "a.parquet")
    return load(tmp_path / "a.parquet").interactions


@pytest.mark.parametrize(
    ("column", "ids"),
    {
        "large": (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        "view": (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        "dictionary": (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        "numbers in a dictionary": (pa.array([7, 8]).dictionary_encode(), ["7", "8"]),
        "bytes": (pa.array([b"a", b"\xc3\xa9"]), ["a", "é"]),
        "UUID": (pa.array([u.bytes for u in UUIDS], pa.uuid()), [str(u) for u in UUIDS]),
        "bytes of UUIDs": (
            pa.array([b"\xff" * 16, UUIDS[1].bytes], pa.binary(16)),
            [str(uuid.UUID(bytes=b"\xff" * 16)), str(UUIDS[1])],
        ),
        "decimal": (
            pa.array([Decimal(7), Decimal(10**30)], pa.decimal128(38, 0)),
            ["7", f"{10**30}"],
        ),
        "decimal with a scale": (pa.array([Decimal("7.00")] * 2, pa.decimal128(9, 2)), ["7", "7"]),
        "unsigned": (pa.array([2**63, 1], pa.uint64()), [str(2**63), "1"]),
        "floats": (pa.array([7.0, 2.0**53 - 1]), ["7", str(2**53 - 1)]),
        "text like floats stays": (pa.array(["7.0", "8.0"]), ["7.0", "8.0"]),
    }.values(),
)
def test_ids(tmp_path, column, ids):
    assert read(tmp_path, events(item_id=column))["item_id"].to_pylist() == ids


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1.0, 2.0**53]), "at row 1 is 9007199254740992: a float of this size has lost"),
        (pa.array([1.0, 1e20]), "at row 1 is 1e.20: a float of this size has lost digits"),
        (pa.array([1.5, 2.0]), "at row 0 is 1.5, expected ids"),
        (pa.array([Decimal("1.5")]), "at row 0 is 1.5, expected ids"),
        (pa.array([b"a", b"\xff\xfe"]), "at row 1 is not UTF-8 text; write ids as text"),
        (pa.array([["a", "b"]]), "holds lists; write one row per event"),
        (pa.array([True]), "is bool, expected ids"),
        (pa.array([{"a": 1}]), "is struct<a: int64>, expected ids"),
        (pa.array(["a", "x" * 257]), "at row 1 has 257 characters, ids at most 256"),
        (pa.array(["a", "x\0"]), "at row 1 holds a NUL character"),
    ],
)
def test_what_cannot_be_ids(tmp_path, column, message):
    with pytest.raises(DataError, match=f"a.parquet: column 'item_id' {message}"):
        read(tmp_path, events(item_id=column))


def test_a_missing_float_id_is_null(tmp_path):
    column = pa.array([7.0, float("nan"), None])
    assert read(tmp_path, events(item_id=column))["item_id"].to_pylist() == ["7", None, None]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pa.array([Decimal("4.5"), None]), [4.5, None]),
        (pa.array([True, False]), [1.0, 0.0]),
        (pa.array([4.5, float("nan")]).dictionary_encode(), [4.5, None]),
        (pa.array(["4.5", ""], pa.large_string()), [4.5, None]),
        (pa.nulls(2), [None, None]),
        (pa.array([1, 2], pa.uint64()), [1.0, 2.0]),
    ],
)
def test_values(tmp_path, column, values):
    assert read(tmp_path, events(rating=column))["value"].to_pylist() == values


def test_event_types(tmp_path):
    column = pa.array([True, False])
    assert read(tmp_path, events(event=column))["event_type"].to_pylist() == ["true", "false"]
    with pytest.raises(DataError, match=r"'action' holds list.*, expected one value"):
        read(tmp_path, events(action=pa.array([["view"], ["view"]])))


def test_unused_columns_may_be_anything(tmp_path):
    columns = {"tags": pa.array([{"a": [1]}] * 2), "at": pa.array([1, 2], pa.time64("us"))}
    assert len(read(tmp_path, events(**columns))) == 2


def test_items(tmp_path):
    pq.write_table(events(), tmp_path / "interactions.parquet")
    items = pa.table(
        {
            "item_id": pa.array(["i", "j"], pa.large_string()),
            "title": pa.array(["One", "Two"]).dictionary_encode(),
            "genres": pa.array([["a", "b"], []]),
            "created_at": pa.array([1_600_000_000, None]),
            "price": pa.array([Decimal("1.50"), None]),
            "attributes": pa.array([{"a": 1}, None]),
            "opens": pa.array([1000, None], pa.time32("ms")),
            "picture": pa.array([b"\xff", None]),
        }
    )
    pq.write_table(items, tmp_path / "items.parquet")
    source = load(tmp_path)
    assert "items.parquet: 'picture' holds bytes and is left out" in source.notes
    one, two = source.items.to_pylist()
    assert (one["category"], one["genres"], two["category"]) == ("a", "a|b", "")
    assert (one["price"], one["attributes"], one["opens"]) == (1.5, "{'a': 1}", "00:00:01.000")
    assert two["created_at"] is None
    assert "picture" not in one


def write_parts(folder, *parts: pa.Table):
    folder.mkdir()
    for number, part in enumerate(parts):
        pq.write_table(part, folder / f"part-{number}.snappy.parquet")
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.crc").touch()


def test_a_folder_of_parts(tmp_path):
    folder = tmp_path / "shop" / "interactions.parquet"
    folder.parent.mkdir()
    write_parts(folder, events(user_id=["a"]), events(user_id=["b", "c"]))
    for path in (folder, folder.parent):
        source = load(path)
        assert source.interactions["user_id"].to_pylist() == ["a", "b", "c"]
        assert source.interactions["sequence"].to_pylist() == [0, 1, 2]
    assert [path.name for path in find_files(folder).paths()] == [
        "part-0.snappy.parquet",
        "part-1.snappy.parquet",
    ]


def test_folders_that_name_a_day(tmp_path):
    folder = tmp_path / "log.parquet"
    for day in ("2024-01-01", "2024-01-02"):
        (folder / f"date={day}").mkdir(parents=True)
        pq.write_table(events().drop_columns("timestamp"), folder / f"date={day}" / "0.parquet")
    times = load(folder).interactions["timestamp"].to_pylist()
    assert [time.day for time in times] == [1, 1, 2, 2]
    assert stream_interactions(folder, {}) is None


def test_folders_that_cannot_be_read(tmp_path):
    folder = tmp_path / "a.parquet"
    write_parts(folder, events(), events().rename_columns(["user_id", "item_id", "ts"]))
    with pytest.raises(
        DataError, match=r"part-1.snappy.parquet: has the columns .*all parts alike"
    ):
        load(folder)
    (folder / "part-1.snappy.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"part-1.snappy.parquet: not a Parquet file .*again$"):
        load(folder)
    (folder / "notes.txt").touch()
    with pytest.raises(DataError, match=r"notes.txt: is no Parquet part"):
        load(folder)
    (tmp_path / "b.parquet").mkdir()
    with pytest.raises(DataError, match=r"b.parquet: the folder holds no \*.parquet file"):
        load(tmp_path / "b.parquet")
    (tmp_path / "b.parquet" / "_delta_log").mkdir()
    with pytest.raises(DataError, match="is a Delta table"):
        load(tmp_path / "b.parquet")


@pytest.mark.parametrize("keep", [0, 1, 4, 100, -1, -9])
def test_a_file_cut_short(tmp_path, keep):
    pq.write_table(events(), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[:keep])
    with pytest.raises(DataError, match=r"a.parquet: not a Parquet file .*write or copy it again$"):
        load(tmp_path / "a.parquet")
    assert stream_interactions(tmp_path / "a.parquet", {}) is None


def test_streams_hold_the_same_rows(tmp_path):
    times = pa.array([1_700_000_000 + n for n in range(10)]).cast(pa.timestamp("s"))
    ids = {
        "user_id": pa.array([f"u{n}" for n in range(10)], pa.large_string()),
        "item_id": pa.array([f"i{n % 3}" for n in range(10)]).dictionary_encode(),
    }
    table = events(**ids, timestamp=times)
    write_parts(tmp_path / "a.parquet", table.slice(0, 6), table.slice(6))
    parts, _ = stream_interactions(tmp_path / "a.parquet", {})
    assert pa.concat_tables(parts).equals(load(tmp_path / "a.parquet").interactions)


def test_a_stream_names_the_row_of_the_whole(tmp_path):
    times = pa.array([1_700_000_000 + n for n in range(10)]).cast(pa.timestamp("s"))
    users = [f"u{n}" for n in range(9)] + ["x" * 300]
    table = events(user_id=users, timestamp=times)
    write_parts(tmp_path / "a.parquet", table.slice(0, 6), table.slice(6))
    parts, _ = stream_interactions(tmp_path / "a.parquet", {})
    with pytest.raises(DataError, match="column 'user_id' at row 9 has 300 characters"):
        list(parts)
