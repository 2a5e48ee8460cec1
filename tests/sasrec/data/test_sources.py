"""Every format is read to the same contract; every fault is one line that says where it is."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sasrec.data.schema import INTERACTIONS, ITEMS
from sasrec.data.sources import load
from sasrec.errors import DataError

EVENTS = [("1", "10", 978300760), ("1", "11", 978302109), ("2", "10", 978301968)]
INSTANTS = [datetime.fromtimestamp(seconds, UTC) for *_, seconds in EVENTS]


def lines(separator: str, header: str | None = None, rating: bool = True) -> str:
    rows = [[u, i, *(["4"] if rating else []), str(t)] for u, i, t in EVENTS]
    return "\n".join([*([header] if header else []), *map(separator.join, rows)]) + "\n"


FORMATS = {
    "ratings.csv": lines(",", "userId,movieId,rating,timestamp"),
    "interactions.tsv": lines("\t", "user\titem\tscore\tts"),
    "some.inter": lines("\t", "user_id:token\titem_id:token\trating:float\ttimestamp:float"),
    "u.data": lines("\t"),
    "ratings.dat": lines("::"),
    "ratings_Beauty.csv": lines(","),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_read_alike(tmp_path, name):
    (tmp_path / name).write_text(FORMATS[name])
    source = load(tmp_path)
    rows = source.interactions.to_pylist()
    assert source.interactions.schema.names == INTERACTIONS.names
    assert [(row["user_id"], row["item_id"]) for row in rows] == [event[:2] for event in EVENTS]
    assert [row["timestamp"] for row in rows] == INSTANTS
    assert [row["value"] for row in rows] == [4.0] * 3
    assert [row["sequence"] for row in rows] == [0, 1, 2]
    assert source.clock == "real"
    assert len(source.impressions) == 0
    assert source.items["item_id"].to_pylist() == ["10", "11"]


def test_parquet_with_numeric_ids(tmp_path):
    table = pa.table({"uid": [1.0, 2.0], "asin": [7, 8], "date": pa.array(INSTANTS[:2])})
    pq.write_table(table, tmp_path / "log.parquet")
    source = load(tmp_path / "log.parquet")
    assert source.interactions["user_id"].to_pylist() == ["1", "2"]
    assert source.interactions["timestamp"].to_pylist() == INSTANTS[:2]
    assert source.interactions["event_type"].to_pylist() == ["interaction"] * 2


def test_user_item_text_has_an_order_and_no_time(tmp_path):
    (tmp_path / "ml.txt").write_text("1 5\n1 3\n2 5\n")
    source = load(tmp_path)
    times = source.interactions["timestamp"].to_pylist()
    assert source.clock == "row-order"
    assert times == sorted(set(times))
    assert any("row order" in note for note in source.notes)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("978300760", "seconds"),
        ("978300760.0", "seconds"),
        ("978300760000", "milliseconds"),
        ("978300760000000", "microseconds"),
        ("978300760000000000", "nanoseconds"),
        ("2000-12-31T22:12:40", "dates"),
        ("2000-12-31 22:12:40+00:00", "dates"),
        ("2001-01-01T00:12:40+02:00", "dates"),
    ],
)
def test_timestamps_are_understood_and_reported(tmp_path, text, unit):
    (tmp_path / "a.csv").write_text(f"user_id,item_id,timestamp\n1,2,{text}\n")
    source = load(tmp_path / "a.csv")
    assert source.interactions["timestamp"][0].as_py() == INSTANTS[0]
    assert any(unit in note for note in source.notes)


def test_columns_can_be_named(tmp_path):
    (tmp_path / "a.csv").write_text("who,what,at,kind\n1,2,978300760,buy\n")
    columns = {"user_id": "who", "item_id": "what", "timestamp": "at", "event_type": "kind"}
    assert load(tmp_path / "a.csv", columns=columns).interactions["event_type"][0].as_py() == "buy"


def test_ids_are_text_even_when_they_look_like_nulls_or_numbers(tmp_path):
    (tmp_path / "a.csv").write_text(
        'user_id,item_id,timestamp\nNA,007,978300760\n"a,b",null,978300761\n'
    )
    source = load(tmp_path / "a.csv")
    assert source.interactions["user_id"].to_pylist() == ["NA", "a,b"]
    assert source.interactions["item_id"].to_pylist() == ["007", "null"]


def test_items_keep_free_columns_and_cover_every_interaction(tmp_path):
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,timestamp\n1,a,978300760\n1,b,978300761\n"
    )
    (tmp_path / "items.csv").write_text(
        "item_id,name,genres,created_at,price\na,Heat,Crime|Drama,2020-01-01,3\nz,Alien,,,4\n"
    )
    items = load(tmp_path).items
    assert items.schema.names == [*ITEMS.names, "genres", "price"]
    rows = {row["item_id"]: row for row in items.to_pylist()}
    assert rows.keys() == {"a", "b", "z"}
    assert rows["a"]["category"] == "Crime"
    assert rows["a"]["genres"] == "Crime|Drama"
    assert rows["a"]["created_at"] == datetime(2020, 1, 1, tzinfo=UTC)
    assert rows["z"]["created_at"] is None
    assert rows["b"]["title"] is None


def test_grouplens_items(tmp_path):
    (tmp_path / "u.data").write_text(FORMATS["u.data"])
    flags = "|".join("1" if genre in (1, 16) else "0" for genre in range(19))
    title = "Café Society (1995)"
    (tmp_path / "u.item").write_text(f"10|{title}|01-Jan-1995||url|{flags}\n", encoding="latin-1")
    item = load("ml-100k", data_dir=tmp_path).items.to_pylist()[0]
    assert item["title"] == title
    assert item["category"] == "Action"
    assert item["genres"] == "Action Thriller"


def test_movies_dat(tmp_path):
    (tmp_path / "ml-1m").mkdir()
    (tmp_path / "ml-1m" / "ratings.dat").write_text(FORMATS["ratings.dat"])
    (tmp_path / "ml-1m" / "movies.dat").write_text(
        "10::Amélie, or: Fate (2001)::Comedy|Romance\n", encoding="latin-1"
    )
    item = load("ml-1m", data_dir=tmp_path).items.to_pylist()[0]
    assert item["title"] == "Amélie, or: Fate (2001)"
    assert item["category"] == "Comedy"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv: the file is empty"),
        ("a.csv", "who,item,ts\n1,2,3\n", r"no column for 'user_id' among .*--column user_id=NAME"),
        ("a.csv", "user,item,ts\n1,2,3\n1,2,soon\n", "a.csv: column 'ts' at row 1 .*'soon'"),
        ("a.csv", "user,item,ts\n1,2,2020-01-01\n1,2,x\n", "column 'ts' at row 1 .*'x'"),
        ("a.csv", "user,item,ts\n1,2,3\n1,2,\n", "column 'ts' at row 1 is not a timestamp: ''"),
        ("a.csv", "user,item,rating,ts\n1,2,good,978300760\n", "column 'rating' at row 0 .*'good'"),
        ("a.csv", "user,item,ts\n1,2\n", "a.csv: .*Expected 3 columns"),
        ("a.csv", "1,2,3,4,5\n", "a.csv: no header, and 5 columns could mean anything"),
        ("a.json", "{}", "a.json: cannot read '.json' files"),
        ("a.parquet", "no", "a.parquet: not a Parquet file"),
    ],
)
def test_faults_say_where_they_are(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path / name)
    assert "\n" not in str(error.value)


def test_missing_paths_and_columns(tmp_path):
    with pytest.raises(DataError, match="no such file or folder, and not one of"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match="no such file or folder"):
        load("ml-100k", data_dir=tmp_path / "absent")
    with pytest.raises(DataError, match="no interactions file"):
        load(tmp_path)
    (tmp_path / "a.csv").write_text("user,item,ts\n1,2,3\n")
    with pytest.raises(DataError, match=r"column 'uid' \(mapped to user_id\) is missing"):
        load(tmp_path / "a.csv", columns={"user_id": "uid"})


def test_unknown_mapping_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,ts\n1,2,3\n")
    with pytest.raises(DataError, match="unknown column 'usr'"):
        load(tmp_path / "a.csv", columns={"usr": "user"})
