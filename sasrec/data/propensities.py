"""With which probability the item of an event had been served, where a served slot led to it."""

from collections.abc import Sequence
from datetime import timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.packed import PackedSequences
from sasrec.data.schema import PLACED_BY_RULE
from sasrec.errors import DataError
from sasrec.resources import duckdb_settings

FILE = "propensities.npy"

_LOGGED = f"""
WITH slots AS (
  SELECT request_id, user_id, item_id, timestamp, reward,
         CASE WHEN NOT starts_with(policy, '{PLACED_BY_RULE}') THEN propensity END AS propensity
  FROM impressions
), by_request AS (
  SELECT row, max(propensity) AS propensity
  FROM events JOIN slots USING (request_id, user_id, item_id) GROUP BY row
), by_time AS (
  SELECT row, CASE WHEN e.timestamp - s.timestamp <= $within THEN s.propensity END AS propensity
  FROM (FROM events WHERE request_id IS NULL) e
  ASOF JOIN (FROM slots WHERE reward IS NULL OR reward > 0) s
    ON e.user_id = s.user_id AND e.item_id = s.item_id AND e.timestamp >= s.timestamp
)
SELECT row, propensity FROM by_request WHERE propensity IS NOT NULL
UNION ALL SELECT row, propensity FROM by_time WHERE propensity IS NOT NULL
"""


def logged_propensities(
    interactions: pa.Table, impressions: pa.Table, *, within: timedelta
) -> np.ndarray:
    """The propensity of the slot that each interaction came from.

    An event with a request is of that request's slot of its item; one without, of the newest slot
    in which that user was served that item, if this was not longer ago than `within` and, where its
    reward is known, was rewarded. A slot that a rule has placed says nothing of how seldom an item
    is served, so an event of one counts as one of none.

    Args:
        interactions: `user_id`, `item_id`, `timestamp`, and `request_id` where it is known.
        impressions: schema `IMPRESSIONS`.

    Returns:
        (N,) float32; NaN where no slot led to the event.
    """
    asked = interactions.select(["user_id", "item_id", "timestamp"])
    request = (
        interactions["request_id"]
        if "request_id" in interactions.column_names
        else pa.nulls(len(asked), pa.string())
    )
    events = asked.append_column("request_id", request)
    events = events.append_column("row", pa.array(np.arange(len(asked))))
    found = np.full(len(asked), np.nan, dtype=np.float32)
    with duckdb.connect(config=duckdb_settings()) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", events)
        connection.register("impressions", impressions)
        rows = connection.execute(_LOGGED, {"within": within}).fetchnumpy()
    found[rows["row"]] = rows["propensity"]
    return found


def of_histories(
    values: np.ndarray,
    interactions: pa.Table,
    users: Sequence[str] | pa.ChunkedArray,
    histories: PackedSequences,
) -> np.ndarray:
    """The value of each event of packed histories, from the value of each interaction.

    Args:
        values: (N,) of `interactions`.
        interactions: `user_id` and `timestamp`, in canonical order: no user has two events at one
            time.
        users: one id per history.
        histories: events of `interactions`, all or some.

    Returns:
        (T,) of the type of `values`.

    Raises:
        DataError: a history holds an event that is not among the interactions.
    """
    encoded = interactions["user_id"].combine_chunks().dictionary_encode()
    asked = pc.index_in(pa.array(users, pa.string()), value_set=encoded.dictionary)
    owner = np.repeat(asked.fill_null(-1).to_numpy().astype(np.int64), histories.lengths)
    # User and time in one key: each time is replaced by its rank among all.
    times, rank = np.unique(
        interactions["timestamp"].cast(pa.int64()).to_numpy(), return_inverse=True
    )
    key = encoded.indices.to_numpy().astype(np.int64) * len(times) + rank
    order = np.argsort(key)
    wanted = owner * len(times) + np.searchsorted(times, histories.timestamps)
    place = np.searchsorted(key, wanted, sorter=order).clip(max=max(len(key) - 1, 0))
    row = order[place] if len(key) else place
    if len(wanted) and (not len(key) or (key[row] != wanted).any()):
        raise DataError(
            "propensities: the sequences hold events that the interactions do not; "
            "extract the sequences of these interactions again"
        )
    return values[row]
