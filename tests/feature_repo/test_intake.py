"""Logged events and slates become interactions and impressions; bad records are counted."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from feature_repo.intake import take_in
from sasrec.data import cleaning as quality
from sasrec.data import sources
from serving.events.writer import EventLog

NOW = datetime(2024, 6, 1, tzinfo=UTC)
HOUR = 3_600_000_000


def at(hours_ago: float) -> int:
    return int(NOW.timestamp() * 1e6 - hours_ago * HOUR)


def event(**changes) -> dict:
    record = {
        "type": "event",
        "event_id": "e1",
        "request_id": "r1",
        "user_id": "u",
        "item_id": "a",
        "event_type": "view",
        "timestamp": at(48),
        "received_at": at(48),
    }
    return record | changes


def slate(**changes) -> dict:
    record = {
        "type": "impression",
        "request_id": "r1",
        "user_id": "u",
        "timestamp": at(49),
        "policy": "champion",
        "model_version": "v1",
        "degraded": None,
        "seed": 1,
        "history_length": 3,
        "history_hash": "0" * 16,
        "candidates": 20,
        "eligible": 30,
        "item_ids": ["a", "b"],
        "scores": [1.5, None],
        "propensities": [0.5, 0.25],
        "explored": [False, True],
    }
    return record | changes


def rewards_of(*records, **options) -> list[float | None]:
    return take_in(records, now=NOW, **options).impressions["reward"].to_pylist()


def test_a_slot_is_rewarded_by_an_event_on_its_item_in_its_window():
    assert rewards_of(slate(), event()) == [1.0, 0.0]
    assert rewards_of(event(), slate()) == [1.0, 0.0], "the order in the log does not matter"


@pytest.mark.parametrize(
    "other",
    [
        event(timestamp=at(50)),
        event(timestamp=at(49 - 24) + 1),
        event(request_id=None),
        event(request_id="r2"),
        event(user_id="someone else"),
        event(item_id="c"),
    ],
    ids=["before", "after the window", "no request", "other request", "other user", "other item"],
)
def test_other_events_are_not_attributed(other):
    intake = take_in([slate(), other], now=NOW)
    assert intake.impressions["reward"].to_pylist() == [0.0, 0.0]
    assert intake.interactions.num_rows == 1


def test_while_the_window_is_open_the_reward_is_unknown_until_an_event_comes():
    recent = slate(timestamp=at(2))
    assert rewards_of(recent) == [None, None]
    assert rewards_of(recent, event(timestamp=at(1))) == [1.0, None]


def test_slots_keep_their_position_propensity_and_policy():
    rows = take_in([slate()], now=NOW).impressions.to_pylist()
    assert [(r["item_id"], r["position"], r["propensity"], r["score"]) for r in rows] == [
        ("a", 0, 0.5, 1.5),
        ("b", 1, 0.25, None),
    ]
    assert {(r["policy"], r["model_version"], r["candidates"]) for r in rows} == {
        ("champion", "v1", 20)
    }


def test_repeats_count_once_and_ties_are_ordered_by_event_id():
    records = [event(event_id="b"), event(event_id="a", item_id="x"), event(event_id="b")]
    found = take_in(records, now=NOW).interactions
    assert found["item_id"].to_pylist() == ["x", "a"]
    assert found["sequence"].to_pylist() == [0, 1]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (event(timestamp=at(-1)), "event: from the future"),
        (event(timestamp=at(24 * 4000)), "event: older than the retention"),
        (event(event_type="hover"), "event: unknown event_type"),
        (event(item_id="x" * 257), "event: id empty or oversized"),
        (event(user_id=""), "event: id empty or oversized"),
        (event(timestamp="today"), "event: schema changed ('timestamp' is missing or no int)"),
        (slate(user_id=None), "impression: anonymous"),
        (slate(scores=[1.0]), "impression: schema changed (lists of unequal length)"),
        (slate(propensities=[0.0, 1.0]), "impression: propensity outside (0, 1]"),
        ({"type": "heartbeat"}, "unknown record type"),
    ],
)
def test_bad_records_are_left_out_with_a_reason_and_the_rest_kept(record, reason):
    good = event(event_id="good")
    intake = take_in([record, good], now=NOW, event_types=frozenset({"view"}))
    assert intake.quarantined == {reason: 1}
    assert intake.interactions.num_rows == 1
    assert intake.impressions.num_rows == 0


def test_an_empty_log_gives_empty_tables_of_the_contract():
    intake = take_in([], now=NOW, attribution_window=timedelta(hours=1))
    assert intake.interactions.num_rows == intake.impressions.num_rows == 0


def run_command(*arguments):
    command = [sys.executable, "-m", "feature_repo.intake", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_adds_the_log_to_what_the_last_run_was_trained_on(tmp_path, interactions):
    """The folder that it writes is a data set, and taking the same log in again adds nothing."""
    base, into = tmp_path / "base.parquet", tmp_path / "next"
    pq.write_table(interactions, base)
    now = time.time_ns() // 1000
    log = EventLog(tmp_path / "site" / "event_log")
    log.append([slate(timestamp=now - HOUR), event(user_id="u", timestamp=now)]).result()
    log.append([event(event_id="e2", timestamp=now + HOUR)]).result()
    log.close()

    done = run_command("--home", tmp_path / "site", "--dataset", base, "--into", into)
    assert done.returncode == 0, done.stderr
    assert "3,001 interactions, 1 of them from the log; 2 impressions" in done.stdout
    assert "left out: 1 × event: from the future" in done.stdout

    again = run_command("--home", tmp_path / "site", "--dataset", into, "--into", tmp_path / "n2")
    assert again.returncode == 0, again.stderr
    for folder in (into, tmp_path / "n2"):
        source, _ = quality.clean(sources.load(str(folder)))
        assert source.interactions.num_rows == interactions.num_rows + 1
        assert source.impressions["reward"].to_pylist() == [1.0, None]
        newest = max(source.interactions.to_pylist(), key=lambda row: row["timestamp"])
        assert (newest["user_id"], newest["item_id"]) == ("u", "a")


def test_the_command_refuses_a_base_without_times_in_one_line(tmp_path):
    (tmp_path / "order.txt").write_text("1 1\n1 2\n")
    done = run_command(
        "--home", tmp_path, "--dataset", tmp_path / "order.txt", "--into", tmp_path / "next"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "no time" in done.stderr
    assert len(done.stderr.splitlines()) == 1
