"""Logged events and slates become the site's data, each once; bad records are counted."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from feature_repo.event_codec import frame
from feature_repo.lake import intake
from feature_repo.lake.clean import microseconds
from feature_repo.lake.records import to_rows
from feature_repo.lake.relations import relations
from sasrec.errors import DataError
from serving.events.writer import EventLog
from tests.feature_repo.lake.kills import Killed, kill_at
from tests.feature_repo.lake.site import HOUR, NOW, SPLIT, LakeSite, at, event, slate

RETENTION = timedelta(days=3650)
CUT = SPLIT | {"kind": "leave-one-out"}
# Enough events for any split; they are in no request.
CROWD = [
    event(
        event_id=f"c{n}",
        user_id=f"c{n % 3}",
        item_id=f"i{n}",
        request_id=None,
        timestamp=at(100 - n),
    )
    for n in range(12)
]


@pytest.fixture
def site(tmp_path):
    return LakeSite(tmp_path)


@pytest.fixture
def log(site):
    log = EventLog(site.log)
    yield log
    log.close()


def held(site) -> tuple[list, list]:
    """(user, event id) and (request, position) of all rows in the lake."""
    with relations(site.lake, "1GB") as connection:
        events = connection.sql("SELECT user_id, event_id FROM lake_interactions ORDER BY ALL")
        slots = connection.sql("SELECT request_id, position FROM lake_impressions ORDER BY ALL")
        return events.fetchall(), slots.fetchall()


def rewards(site, **options) -> list[float | None]:
    found = site.read(cut=CUT, **options).impressions
    return found.sort_by([("request_id", "ascending"), ("position", "ascending")])[
        "reward"
    ].to_pylist()


def test_a_slot_is_rewarded_by_an_event_on_its_item_in_its_window_however_late_it_comes(site, log):
    log.append([*CROWD, slate(), slate(request_id="r0", item_ids=["c", "d"])]).result()
    site.take_in()
    assert rewards(site) == [0.0, 0.0, 0.0, 0.0]
    log.append([event(), event(event_id="e0", request_id="r0", item_id="d")]).result()
    site.take_in()
    assert rewards(site) == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "other",
    [
        event(timestamp=at(50)),
        event(timestamp=at(49 - 24) + 1),
        event(request_id=None),
        event(request_id="r2"),
        event(user_id="someone else"),
        event(item_id="c"),
        event(event_type="dislike"),
    ],
    ids=["before", "late", "no request", "other request", "other user", "other item", "negative"],
)
def test_other_events_are_not_attributed(site, log, other):
    log.append([*CROWD, slate(), other]).result()
    site.take_in()
    assert rewards(site, roles={"dislike": "negative"}) == [0.0, 0.0]


def test_while_the_window_is_open_the_reward_is_unknown_until_an_event_comes(site, log):
    log.append([*CROWD, slate(timestamp=at(2))]).result()
    site.take_in()
    assert rewards(site) == [None, None]
    log.append([event(timestamp=at(1))]).result()
    site.take_in()
    assert rewards(site) == [1.0, None]
    assert rewards(site, now=NOW + timedelta(days=2)) == [1.0, 0.0]


def test_slots_keep_their_position_propensity_and_policy_and_events_their_request(site, log):
    log.append([*CROWD, slate(), event(event_id="e2"), event()]).result()
    site.take_in()
    read = site.read(cut=CUT)
    rows = read.impressions.to_pylist()
    assert [(r["item_id"], r["position"], r["propensity"], r["score"]) for r in rows] == [
        ("a", 0, 0.5, 1.5),
        ("b", 1, 0.25, None),
    ]
    assert {(r["policy"], r["model_version"], r["candidates"]) for r in rows} == {
        ("champion", "v1", 20)
    }
    assert [r["request_id"] for r in read.interactions.to_pylist() if r["user_id"] == "u"] == ["r1"]
    assert set(read.items["item_id"].to_pylist()) == {"a", *(f"i{n}" for n in range(12))}


def test_a_slot_that_a_rule_has_placed_is_one_of_that_rule(site, log):
    log.append([slate(rules=[None, "pin"], remaining=[30, 29]), *CROWD]).result()
    site.take_in()
    found = site.read(cut=CUT).impressions.sort_by("position")
    assert found["policy"].to_pylist() == ["champion", "rule:pin"]


def test_repeats_count_once_within_and_across_batches(site, log):
    log.append(
        [event(event_id="b"), event(event_id="a", item_id="x"), event(event_id="b")]
    ).result()
    log.append([slate(), slate()]).result()
    assert site.take_in().left_out == {"repeated": 2}
    log.append([event(event_id="b", timestamp=at(1)), slate(), event(event_id="c")]).result()
    taken = site.take_in()
    assert (taken.added, taken.left_out) == ({"logged": 1}, {"repeated": 2})
    assert held(site) == ([("u", "a"), ("u", "b"), ("u", "c")], [("r1", 0), ("r1", 1)])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (event(timestamp=at(-1)), "event: from the future"),
        (event(timestamp=at(24 * 4000)), "event: older than the retention"),
        (event(item_id="x" * 257), "event: id empty or oversized"),
        (event(user_id=""), "event: id empty or oversized"),
        (event(timestamp="today"), "event: schema changed ('timestamp' is missing or no int)"),
        (event(request_id=3), "event: schema changed ('request_id' is no str)"),
        (slate(user_id=None), "impression: anonymous"),
        (slate(scores=[1.0]), "impression: schema changed (lists of unequal length)"),
        (slate(scores=["a", 1]), "impression: schema changed (a score is no number)"),
        (slate(item_ids=[1, 2]), "impression: schema changed (an item id is no str)"),
        (slate(propensities=[0.0, 1.0]), "impression: propensity outside (0, 1]"),
        (slate(rules=["pin"]), "impression: schema changed (lists of unequal length)"),
        (slate(rules=[None, 3]), "impression: schema changed (a rule is no str)"),
        (slate(candidates=2**31), "impression: candidates outside the range"),
        ({"type": "heartbeat"}, "unknown record type"),
    ],
)
def test_bad_records_are_left_out_with_a_reason_and_the_rest_kept(record, reason):
    good = event(event_id="good")
    rows = to_rows([record, good], now=NOW, retention=RETENTION, batch=1, first_sequence=0)
    assert rows.quarantined == Counter({reason: 1})
    assert rows.interactions["event_id"].to_pylist() == ["good"]
    assert rows.impressions.num_rows == 0


def test_an_event_from_ahead_of_its_arrival_counts_as_of_then():
    ahead = event(timestamp=at(-24 * 2000), received_at=at(48))
    rows = to_rows([ahead], now=NOW, retention=RETENTION, batch=1, first_sequence=0)
    assert rows.interactions["timestamp"].cast(pa.int64()).to_pylist() == [at(48)]
    assert not rows.quarantined


def test_an_empty_log_gives_tables_of_the_contract():
    rows = to_rows([], now=NOW, retention=RETENTION, batch=1, first_sequence=0)
    assert rows.interactions.num_rows == rows.impressions.num_rows == 0


def test_a_segment_that_is_still_written_and_a_torn_end_are_read_on(site, log):
    log.append([event(event_id="a")]).result()
    site.take_in()
    log.append([event(event_id="b")]).result()
    [segment] = site.log.glob("*.log")
    whole = frame(event(event_id="c"))
    with segment.open("ab") as file:
        file.write(whole[:20])
    [note] = site.take_in().notes
    assert "20 bytes that are no whole record" in note
    with segment.open("ab") as file:
        file.write(whole[20:])
    assert site.take_in().notes == []
    assert held(site)[0] == [("u", "a"), ("u", "b"), ("u", "c")]


def test_a_large_log_is_taken_in_parts(site, log, monkeypatch):
    monkeypatch.setattr(intake, "BATCH_BYTES", 1500)
    for part in range(3):
        log.append([event(event_id=f"{part}-{n}") for n in range(10)]).result()
    assert site.take_in().added == {"logged": 30}
    assert site.lake.state.batch > 2
    assert len(set(held(site)[0])) == 30


@pytest.mark.parametrize("cut", ["shorter", "damaged"])
def test_a_segment_that_was_cut_or_damaged_is_refused_by_name_and_nothing_is_lost(site, cut):
    log = EventLog(site.log)
    log.append([event(event_id="a"), event(event_id="b")]).result()
    log.close()
    [segment] = site.log.glob("*.log")
    good = segment.read_bytes()
    if cut == "shorter":
        site.take_in()
        segment.write_bytes(good[:50])
    else:
        segment.write_bytes(good[:30] + b"x" + good[31:])
    with pytest.raises(DataError, match=f"{segment.name}: .*restore.* from a backup") as caught:
        site.take_in()
    assert "\n" not in str(caught.value)
    segment.write_bytes(good)
    site.take_in()
    assert held(site)[0] == [("u", "a"), ("u", "b")]


INSTANTS = range(8)


@pytest.mark.parametrize("instant", INSTANTS)
def test_killed_at_any_instant_every_record_is_there_once(site, log, monkeypatch, instant):
    log.append([event(event_id="a"), slate()]).result()
    site.take_in()
    log.append([event(event_id="b"), event(event_id="a"), slate(request_id="r2")]).result()
    with monkeypatch.context() as patch:
        kill_at(patch, instant)
        with pytest.raises(Killed):
            site.take_in()
    log.append([event(event_id="c")]).result()
    site.take_in()
    assert held(site) == (
        [("u", "a"), ("u", "b"), ("u", "c")],
        [("r1", 0), ("r1", 1), ("r2", 0), ("r2", 1)],
    )
    assert site.lake.state.complete


def test_those_are_all_instants(site, log, monkeypatch):
    log.append([event(event_id="a"), slate()]).result()
    passed = kill_at(monkeypatch, 1000)
    site.take_in()
    assert len(passed) == len(INSTANTS)


def test_a_forgotten_user_of_a_segment_that_is_open_is_not_taken_in(site, log):
    from feature_repo.event_log import forget

    log.append([event(event_id="a"), event(event_id="b", user_id="v")]).result()
    forget(site.log, "u")
    site.take_in()
    log.close()
    forget(site.log, "nobody")  # rewrites the segment, each record at its place
    later = EventLog(site.log)
    later.append([event(event_id="c", user_id="v")]).result()
    later.close()
    site.take_in()
    assert held(site)[0] == [("v", "b"), ("v", "c")]


def test_the_command_says_what_it_took_and_left_out(site, log):
    now = microseconds(datetime.now(UTC))
    log.append([slate(timestamp=now - HOUR), event(timestamp=now)]).result()
    log.append([event(event_id="e2", timestamp=now + HOUR)]).result()
    command = [sys.executable, "-m", "feature_repo.intake", "--home", str(site.home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "taken in: 1 events, 2 slots",
        "left out: 1 × event: from the future",
    ]
