"""Imports by content, kills on the way, what is refused, retention, and a lake in S3."""

import json
from datetime import timedelta

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.lake.lake import only_writer
from feature_repo.lake.relations import relations
from sasrec.data.schema import TIMESTAMP
from sasrec.errors import DataError
from serving.events.writer import EventLog
from tests.feature_repo.lake.kills import Killed, kill_at
from tests.feature_repo.lake.site import NOW, SPLIT, LakeSite, at, event, slate
from tests.serving import s3_server

CUT = SPLIT | {"kind": "leave-one-out"}


@pytest.fixture
def site(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return LakeSite(home)


def write_shop(folder, events: int, *, reward: float | None = None):
    """A folder with some events of three users, an item file, and one slate."""
    folder.mkdir(exist_ok=True)
    times = pa.array([at(100 - n) for n in range(events)]).cast(TIMESTAMP)
    interactions = {"user_id": [f"u{n % 3}" for n in range(events)], "timestamp": times}
    items = [f"i{n}" for n in range(events)]
    pq.write_table(pa.table(interactions | {"item_id": items}), folder / "interactions.parquet")
    (folder / "items.csv").write_text("item_id,title,price\ni0,Tent,3\ni1,,\n")
    slots = {
        "request_id": ["r"] * 2,
        "user_id": ["u1"] * 2,
        "item_id": ["i1", "i2"],
        "position": [0, 1],
        "timestamp": pa.array([at(80)] * 2).cast(TIMESTAMP),
        "policy": ["p"] * 2,
        "model_version": ["v"] * 2,
        "score": [0.5, None],
        "propensity": [0.5, 0.25],
        "candidates": [5, 5],
        "reward": pa.array([reward, None], pa.float32()),
    }
    pq.write_table(pa.table(slots), folder / "impressions.parquet")
    return folder


def rows(site) -> dict[str, int]:
    with relations(site.lake, "1GB") as connection:
        names = ("interactions", "items", "impressions")
        counts = {n: connection.sql(f"SELECT count(*) FROM lake_{n}").fetchall() for n in names}
        return {name: count for name, [(count,)] in counts.items()}


def test_the_same_content_adds_nothing_and_a_file_that_grew_adds_what_is_new(site, tmp_path):
    shop = write_shop(tmp_path / "shop", 9)
    assert site.take_in(shop).added == {"imported": 9}
    first = rows(site)
    assert first == {"interactions": 9, "items": 2, "impressions": 2}
    assert site.take_in(shop).added == {}
    moved = write_shop(tmp_path / "moved", 9)
    assert site.take_in(moved).added == {}
    assert (rows(site), site.lake.state.batch) == (first, 1)

    write_shop(shop, 12, reward=1.0)
    assert site.take_in(shop).added == {"imported": 3}
    assert rows(site) == {"interactions": 12, "items": 2, "impressions": 3}
    read = site.read(cut=CUT)
    assert read.impressions["reward"].to_pylist() == [1.0, None]
    assert [(i["item_id"], i["title"], i["price"]) for i in read.items.to_pylist()][:3] == [
        ("i0", "Tent", "3"),
        ("i1", "", ""),
        ("i10", None, None),
    ]


@pytest.mark.parametrize("instant", range(10))
def test_an_import_killed_at_any_instant_is_there_once(site, tmp_path, monkeypatch, instant):
    shop = write_shop(tmp_path / "shop", 9)
    log = EventLog(site.log)
    log.append([event()]).result()
    log.close()
    with monkeypatch.context() as patch:
        kill_at(patch, instant)
        with pytest.raises(Killed):
            site.take_in(shop)
    if instant % 2:  # the next run does not name the data set, and takes back what is half there
        site.take_in()
        assert rows(site)["interactions"] in (1, 10)
    site.take_in(shop)
    assert rows(site) == {"interactions": 10, "items": 2, "impressions": 2}
    assert site.take_in(shop).added == {}


def test_a_bad_file_leaves_the_lake_as_it_was(site, tmp_path):
    site.take_in(write_shop(tmp_path / "shop", 9))
    before = rows(site)
    bad = tmp_path / "bad.csv"
    bad.write_text("user_id,item_id,timestamp\nu,a,2024-01-01\nu,,2024-01-02\n")
    with pytest.raises(
        DataError, match=r"bad.csv interactions: column 'item_id' is empty at row 1"
    ):
        site.take_in(bad)
    assert rows(site) == before
    assert site.lake.state.complete
    site.take_in(write_shop(tmp_path / "shop", 10))
    assert rows(site)["interactions"] == 10


def test_a_folder_of_parquet_parts_is_imported_once(site, tmp_path):
    folder = tmp_path / "events.parquet"
    folder.mkdir()
    start = int((NOW - timedelta(days=9)).timestamp())
    for part in range(2):
        times = pa.array([start + part, start + part + 5]).cast(pa.timestamp("s"))
        columns = {"user_id": ["u", "v"], "item_id": ["a", "b"], "timestamp": times}
        pq.write_table(pa.table(columns), folder / f"part-{part}.parquet")
    site.take_in(folder)
    assert rows(site)["interactions"] == 4
    assert site.take_in(folder).added == {}


def test_a_bad_first_file_is_refused_as_well(site, tmp_path):
    (tmp_path / "bad.csv").write_text("user_id,item_id,timestamp\nu,a,2024-01-01\n,b,2024-01-02\n")
    with pytest.raises(DataError, match=r"bad.csv interactions: .*'user_id' is empty at row 1;"):
        site.take_in(tmp_path / "bad.csv")
    assert rows(site) == {"interactions": 0, "items": 0, "impressions": 0}


def test_an_order_without_time_is_not_mixed_with_anything(site, tmp_path):
    (tmp_path / "order.txt").write_text("1 1\n1 2\n1 3\n")
    site.take_in(tmp_path / "order.txt")
    log = EventLog(site.log)
    log.append([event()]).result()
    log.close()
    assert "not taken in" in site.take_in().notes[0]
    with pytest.raises(DataError, match="an order but no time"):
        site.take_in(write_shop(tmp_path / "shop", 9))
    assert rows(site)["interactions"] == 3


def test_another_format_is_refused(site, tmp_path):
    site.take_in(write_shop(tmp_path / "shop", 9))
    path = site.home / "lake" / "lake.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(DataError, match=r"lake.json: format 2, and this version reads 1; use"):
        site.take_in()
    path.write_text("{")
    with pytest.raises(DataError, match=r"lake.json: is damaged"):
        site.take_in()


def test_a_partition_that_vanished_is_refused(site, tmp_path):
    site.take_in(write_shop(tmp_path / "shop", 30))
    [gone, *_] = sorted((site.home / "lake" / "interactions").glob("day=*/*.parquet"))
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(DataError, match=f"{gone.parent.name} vanished: 1 of .* files") as caught:
        site.read(cut=CUT)
    assert "\n" not in str(caught.value)
    gone.write_bytes(content)
    assert len(site.read(cut=CUT).interactions) == 30


def test_a_path_that_delta_does_not_take_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"takes no '\[' in a path; .*SASREC_LAKE_URL"):
        LakeSite(tmp_path / "shop [v2]").take_in("simulated")


def test_two_at_a_time_are_refused(site):
    with (
        only_writer(site.home),
        pytest.raises(DataError, match="is using its data"),
        only_writer(site.home),
    ):
        pass


def test_days_beyond_the_retention_are_removed(site, tmp_path):
    shop = write_shop(tmp_path / "shop", 60)
    short = LakeSite(site.home, retention=timedelta(days=1))
    short.take_in(shop)
    days = sorted(path.name for path in (site.home / "lake" / "interactions").glob("day=*/"))
    kept = [d for d in days if list((site.home / "lake" / "interactions" / d).glob("*.parquet"))]
    assert kept == ["day=2024-05-29", "day=2024-05-30"]
    assert len(short.read(cut=CUT).interactions) == 25


@pytest.fixture
def s3(monkeypatch):
    """A bucket that is reached by the environment alone."""
    with s3_server.running_apart() as endpoint:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
            monkeypatch.setenv(name, "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        filesystem = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
        filesystem.mkdir(s3_server.BUCKET)
        monkeypatch.setenv("SASREC_LAKE_URL", f"s3://{s3_server.BUCKET}/shop/lake")
        yield filesystem


def test_a_lake_in_s3_holds_the_same(site, tmp_path, s3):
    log = EventLog(site.log)
    log.append([event(), slate()]).result()
    log.close()
    assert site.take_in(write_shop(tmp_path / "shop", 9)).added == {
        "imported": 9,
        "logged": 1,
        "slots": 2,
    }
    assert site.take_in().added == {}
    assert not (site.home / "lake").exists()
    read = site.read(cut=CUT)
    assert (len(read.interactions), len(read.impressions)) == (10, 4)
    site.lake.forget("u1")
    assert site.lake.rows_of("u1") == 0
    assert rows(site) == {"interactions": 7, "items": 2, "impressions": 2}
    [gone, *_] = s3.glob(f"{s3_server.BUCKET}/shop/lake/interactions/day=*/*.parquet")
    s3.rm_file(gone)
    with pytest.raises(DataError, match="vanished"):
        site.read(cut=CUT)
