"""Training sequences never see the cutoff or anything after it."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from feature_repo import extract
from feature_repo.extract import (
    SEQUENCES,
    current_entities,
    sequences_as_of,
    stream_sequences,
)
from feature_repo.publish import publish
from sasrec.data.schema import TIMESTAMP
from sasrec.errors import DataError
from tests.feature_repo.small_history import END, START


def brute_force(interactions: pa.Table, entities: pa.Table) -> pa.Table:
    """Filter the raw events of each (user, cutoff), in plain Python."""
    events = sorted(interactions.to_pylist(), key=lambda e: e["timestamp"])
    rows = []
    for row in entities.to_pylist():
        past = [
            e for e in events if e["user_id"] == row["user_id"] and e["timestamp"] < row["cutoff"]
        ]
        rows.append(
            {
                "user_id": row["user_id"],
                "cutoff": row["cutoff"],
                "item_ids": [e["item_id"] for e in past],
                "event_types": [e["event_type"] for e in past],
                "timestamps": [e["timestamp"] for e in past],
            }
        )
    return pa.Table.from_pylist(rows, schema=SEQUENCES)


@pytest.fixture(scope="module")
def moments(interactions) -> pa.Table:
    """1,000 random (user, t); half of the t lie exactly on, or 1 us beside, an event."""
    rng = np.random.default_rng(1)
    times = interactions["timestamp"].cast(pa.int64()).to_numpy()
    span = int(START.timestamp() * 1e6), int(END.timestamp() * 1e6)
    anywhere = rng.integers(*span, 500)
    rows = rng.integers(0, len(times), 500)
    on_events = times[rows] + rng.integers(-1, 2, 500)
    owners = interactions["user_id"].to_numpy(zero_copy_only=False)
    users = np.concatenate([[f"u{u}" for u in rng.integers(0, 130, 500)], owners[rows]])
    return pa.table(
        {
            "user_id": pa.array(users.tolist(), pa.string()),
            "cutoff": pa.array(np.concatenate([anywhere, on_events])).cast(TIMESTAMP),
        }
    )


@pytest.mark.parametrize("every_event", [False, True])
def test_a_thousand_random_moments_equal_a_filter_of_the_raw_events(
    tmp_path, interactions, moments, every_event
):
    cutoffs = None if every_event else moments
    publish(
        tmp_path,
        interactions=interactions,
        items=None,
        impressions=None,
        cutoffs=cutoffs,
        as_of=END,
    )
    found = sequences_as_of(tmp_path, moments)
    assert found.equals(brute_force(interactions, moments))
    assert any(len(items) == 0 for items in found["item_ids"].to_pylist())


def test_pieces_of_a_stream_are_the_whole(tmp_path, interactions, moments, monkeypatch):
    asked = moments.slice(0, 40)
    publish(
        tmp_path,
        interactions=interactions,
        items=None,
        impressions=None,
        cutoffs=asked,
        as_of=END,
    )
    whole = sequences_as_of(tmp_path, asked)
    monkeypatch.setattr(extract, "EVENTS_PER_PIECE", 400)
    pieces = list(stream_sequences(tmp_path, asked))
    assert len(pieces) == 3
    assert pa.concat_tables(pieces).equals(whole)


def test_now_is_everybody_s_whole_history(tmp_path, interactions):
    publish(
        tmp_path,
        interactions=interactions,
        items=None,
        impressions=None,
        cutoffs=pa.table(
            {"user_id": ["u1"], "cutoff": pa.array([START + timedelta(days=20)], TIMESTAMP)}
        ),
        as_of=END,
    )
    as_of, everybody = current_entities(tmp_path)
    assert as_of == END
    now = sequences_as_of(tmp_path, everybody)
    everybody = pa.table(
        {
            "user_id": sorted(set(interactions["user_id"].to_pylist())),
            "cutoff": pa.repeat(pa.scalar(END + timedelta(microseconds=1), TIMESTAMP), len(now)),
        }
    )
    assert now.equals(brute_force(interactions, everybody))


def test_a_cutoff_that_was_not_published_is_refused(tmp_path, interactions):
    user = interactions["user_id"][0].as_py()
    asked = pa.table({"user_id": [user], "cutoff": pa.array([END - timedelta(days=9)], TIMESTAMP)})
    publish(
        tmp_path,
        interactions=interactions,
        items=None,
        impressions=None,
        cutoffs=asked.slice(0, 0),
        as_of=END,
    )
    with pytest.raises(DataError, match="nothing was published"):
        sequences_as_of(tmp_path, asked)


def test_nothing_published_is_said_in_one_line(tmp_path):
    with pytest.raises(DataError, match="no feature store is published"):
        sequences_as_of(
            tmp_path, pa.table({"user_id": ["u"], "cutoff": pa.array([END], TIMESTAMP)})
        )
