"""The join of lists and events, against a second one in SQL from the event log itself."""

import os

import duckdb
import numpy as np
import pandas as pd
import pytest

from feature_repo.event_log import read_log
from serving.monitoring.log_tail import SETTLE_MICROSECONDS, LogTail, arrival
from serving.monitoring.outcomes import Window
from serving.monitoring.quality import next_item
from tests.monitoring.records import MINUTE, START, impression, traffic, write_log

HOUR = 60 * MINUTE

NEXT_ITEM = """
WITH shown AS (
    SELECT *, lead(served_at) OVER (PARTITION BY user_id ORDER BY served_at) AS replaced_at
    FROM lists WHERE user_id IS NOT NULL
), first_event AS (
    SELECT shown.request_id, arg_min(events.item_id, events.arrived_at) AS item_id
    FROM shown JOIN events ON events.user_id = shown.user_id
        AND events.arrived_at >= shown.served_at
        AND events.arrived_at < coalesce(shown.replaced_at, 9e18)
        AND events.arrived_at <= shown.served_at + getvariable('length')
    GROUP BY shown.request_id
)
SELECT model_version, request_id, list_position(item_ids, item_id) AS place
FROM first_event JOIN shown USING (request_id)
"""
CLICKS = """
SELECT DISTINCT lists.request_id, list_position(lists.item_ids, events.item_id) AS place
FROM events JOIN lists ON events.request_id = lists.request_id AND events.user_id = lists.user_id
WHERE list_contains(lists.item_ids, events.item_id) AND events.arrived_at >= lists.served_at
    AND events.arrived_at <= lists.served_at + getvariable('length')
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    write_log(folder, traffic())
    return folder


@pytest.fixture(scope="module")
def window(folder):
    """Followed in steps of ten minutes, as the exporter does."""
    window, tail = Window(length=HOUR), LogTail(folder)
    for now in range(START, START + 3 * HOUR, 10 * MINUTE):
        window.add(tail.read(now=now))
    return window


@pytest.fixture(scope="module")
def sql(folder):
    records = sorted(read_log(folder), key=arrival)
    lists = pd.DataFrame([r for r in records if r["type"] == "impression"])
    lists = lists.drop_duplicates("request_id").rename(columns={"timestamp": "served_at"})
    events = pd.DataFrame([r for r in records if r["type"] == "event"])
    events = events.drop_duplicates(["user_id", "event_id"])
    events = events.rename(columns={"received_at": "arrived_at"})
    connection = duckdb.connect()
    connection.register("lists", lists)
    connection.register("events", events)
    connection.execute(f"SET VARIABLE length = {HOUR}")
    return connection


def test_delayed_figures_equal_a_recomputation_from_the_log(window, sql):
    places = sql.execute(NEXT_ITEM).df()
    assert len(places) > 150
    for version, found in places.groupby("model_version"):
        lists = [served for served in window.lists.values() if served.model_version == version]
        for k in (1, 10):
            place = found["place"].fillna(0).to_numpy()
            hit = (place > 0) & (place <= k)
            gain = np.where(hit, 1 / np.log2(1 + np.maximum(place, 1)), 0)
            measured_hit, measured_ndcg = next_item(lists, k)
            assert measured_hit.value == hit.sum() / len(hit)
            assert measured_ndcg.value == pytest.approx(gain.mean(), rel=1e-12)


def test_clicks_equal_a_recomputation_from_the_log(window, sql):
    expected = {(r, int(place)) for r, place in sql.execute(CLICKS).fetchall()}
    clicked = {
        (request_id, int(slot) + 1)
        for request_id, served in window.lists.items()
        for slot in np.flatnonzero(served.clicked)
    }
    assert len(expected) > 50
    assert clicked == expected


def test_a_restart_says_the_same(window, folder):
    again = Window(length=HOUR)
    again.add(LogTail(folder).read(now=START + 3 * HOUR))
    assert [s.next_rank for s in again.lists.values()] == [
        s.next_rank for s in window.lists.values()
    ]


def test_what_is_older_than_the_window_is_forgotten(folder):
    window = Window(length=HOUR)
    window.add(LogTail(folder).read(now=START + 3 * HOUR))
    window.forget(now=START + 3 * HOUR)
    assert window.lists
    assert all(served.served_at >= START + 2 * HOUR for served in window.lists.values())


def test_records_wait_until_slower_workers_had_their_turn(tmp_path):
    late = impression("r1", "anna", ["i1"], START, "aaaa")
    early = impression("r0", "anna", ["i1"], START - 1, "aaaa")
    write_log(tmp_path, [late], writers=1)
    tail = LogTail(tmp_path)
    assert tail.read(now=START + SETTLE_MICROSECONDS - 1) == []
    (tmp_path / f"{START:016d}-other.log").write_bytes(b"")
    write_log(tmp_path / "other", [early], writers=1)
    segment = next((tmp_path / "other").iterdir())
    (tmp_path / f"{START + 1:016d}-00000009.log").write_bytes(segment.read_bytes())
    assert tail.read(now=START + SETTLE_MICROSECONDS) == [early, late]
    assert tail.read(now=START + 10 * HOUR) == []


def test_a_frame_that_is_half_written_is_read_when_it_is_whole(tmp_path):
    write_log(tmp_path, [impression("r0", "anna", ["i1"], START, "aaaa")], writers=1)
    path = next(tmp_path.iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    tail = LogTail(tmp_path)
    assert tail.read(now=START + HOUR) == []
    path.write_bytes(whole)
    assert [record["request_id"] for record in tail.read(now=START + HOUR)] == ["r0"]


def test_segments_that_ended_before_the_window_are_passed_over(tmp_path):
    for name, at in (("old", START - 3 * HOUR), ("new", START)):
        write_log(tmp_path / name, [impression(name, "anna", ["i1"], at, "aaaa")], writers=1)
        [segment] = (tmp_path / name).iterdir()
        moved = segment.rename(tmp_path / f"{at:016d}-{name}.log")
        os.utime(moved, (at / 1e6, at / 1e6))
    tail = LogTail(tmp_path, window=HOUR)
    assert [r["request_id"] for r in tail.read(now=START + HOUR // 2)] == ["new"]
    assert tail.read(now=START + 9 * HOUR) == []
