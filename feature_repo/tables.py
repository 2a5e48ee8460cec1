"""The offline tables, each one SQL statement.

They read these relations of the DuckDB connection (`feature_repo.inputs` makes them):

    events       (user_id, item_id, event_type, timestamp): the interactions to add
    histories    (user_id, item_ids, event_types, timestamps): what the last publish knew, or empty
    cutoffs      (user_id, cutoff): the moments at which features are wanted
    items, impressions: of `sasrec.data.schema`

A row's `event_timestamp` is the moment from which its values hold.
"""

import math
from pathlib import Path

import duckdb

from feature_repo.connection import no_pattern, parquet_in, text

HISTORY_LIMIT = 10_000
"""Events kept per sequence, the newest: above any history of the public sets (the longest of
MovieLens-1M is 2,277), and a bound on what one user can cost."""

MAX_GLOBAL_CUTS = 32
"""Item statistics exist per distinct cutoff. More cutoffs than this are per-user ones
(leave-one-out), and only the newest is kept."""

EVENTS_PER_PART = 4_000_000
"""Users are built in ranges of about this many events, so that memory does not grow with data:
DuckDB spills sorts and joins to disk, but not the lists that it aggregates."""

ROWS_PER_GROUP = 20_480
"""Of a table's file: what a reader of few users has to read at least."""

SPILL = "spill"
"""Folder of a generation for what does not fit in memory; removed before it is published."""

# One sorted list per user, then a slice per cutoff: events are sorted once, however many cutoffs.
# A user's new events are appended to the known history, or sorted into it if one came late.
USER_SEQUENCE = f"""
WITH fresh AS (
    SELECT user_id,
           list(item_id ORDER BY timestamp) AS item_ids,
           list(event_type ORDER BY timestamp) AS event_types,
           list(epoch_us(timestamp) ORDER BY timestamp) AS timestamps
    FROM part_events GROUP BY user_id
), both_halves AS (
    SELECT coalesce(old.user_id, fresh.user_id) AS user_id,
           coalesce(fresh.timestamps[1] < old.timestamps[-1], false) AS late,
           list_concat(old.item_ids, fresh.item_ids) AS item_ids,
           list_concat(old.event_types, fresh.event_types) AS event_types,
           list_concat(old.timestamps, fresh.timestamps) AS timestamps
    FROM fresh FULL JOIN (FROM histories SEMI JOIN part_users USING (user_id)) AS old
      USING (user_id)
), whole AS (
    SELECT * EXCLUDE late FROM both_halves WHERE NOT late
    UNION ALL
    SELECT user_id,
           list_select(item_ids, list_grade_up(timestamps)) AS item_ids,
           list_select(event_types, list_grade_up(timestamps)) AS event_types,
           list_sort(timestamps) AS timestamps
    FROM both_halves WHERE late
), points AS (
    SELECT DISTINCT user_id,
           len(list_filter(timestamps, lambda t: t < epoch_us(cutoff))) AS n
    FROM cutoffs JOIN whole USING (user_id)
)
SELECT user_id,
       make_timestamptz(timestamps[n]) AS event_timestamp,
       item_ids[greatest(1, n - {HISTORY_LIMIT} + 1):n] AS item_ids,
       event_types[greatest(1, n - {HISTORY_LIMIT} + 1):n] AS event_types,
       timestamps[greatest(1, n - {HISTORY_LIMIT} + 1):n] AS timestamps
FROM points JOIN whole USING (user_id)
WHERE n > 0
ORDER BY user_id, n
"""

USER_STATS = """
SELECT user_id,
       event_timestamp,
       len(item_ids) AS events,
       len(list_distinct(item_ids)) AS distinct_items,
       (timestamps[-1] - timestamps[1]) / 86400e6 AS tenure_days
FROM user_sequence
"""

ITEM_STATS = f"""
WITH distinct_cuts AS (
    SELECT DISTINCT cutoff FROM cutoffs
), cuts AS (
    SELECT cutoff FROM distinct_cuts
    WHERE (SELECT count(*) FROM distinct_cuts) <= {MAX_GLOBAL_CUTS}
       OR cutoff = (SELECT max(cutoff) FROM distinct_cuts)
), known AS (
    SELECT unnest(item_ids) AS item_id, make_timestamptz(unnest(timestamps)) AS timestamp
    FROM histories
    UNION ALL
    SELECT item_id, timestamp FROM events
), counted AS (
    SELECT item_id, cutoff,
           min(timestamp) AS first_event,
           count(*) FILTER (timestamp >= cutoff - INTERVAL 1 DAY) AS popularity_1d,
           count(*) FILTER (timestamp >= cutoff - INTERVAL 7 DAY) AS popularity_7d,
           count(*) FILTER (timestamp >= cutoff - INTERVAL 30 DAY) AS popularity_30d,
           count(*) AS popularity_total
    FROM known JOIN cuts ON timestamp < cutoff
    GROUP BY item_id, cutoff
), catalogue AS (
    SELECT item_id, cutoff, category, created_at
    FROM items CROSS JOIN cuts
    WHERE created_at IS NULL OR created_at < cutoff
)
SELECT item_id,
       cutoff - INTERVAL 1 MICROSECOND AS event_timestamp,
       coalesce(category, '') AS category,
       greatest(0, epoch_us(cutoff) - epoch_us(coalesce(created_at, first_event))) / 86400e6
           AS age_days,
       coalesce(popularity_1d, 0) AS popularity_1d,
       coalesce(popularity_7d, 0) AS popularity_7d,
       coalesce(popularity_30d, 0) AS popularity_30d,
       coalesce(popularity_total, 0) AS popularity_total
FROM counted FULL JOIN catalogue USING (item_id, cutoff)
ORDER BY item_id, event_timestamp
"""

SERVED_IMPRESSIONS = """
SELECT user_id, item_id, timestamp AS event_timestamp, request_id,
       position::INTEGER AS position, policy, model_version, score, propensity, candidates, reward
FROM impressions
"""


def build(connection: duckdb.DuckDBPyConnection, generation: Path) -> dict[str, int]:
    """Write each table into the folder of its name in `generation`; returns the rows of each.

    `user_sequence` is written in parts, by ranges of users; all but the impressions are ordered
    by entity, so that a reader of few users skips most of the file.
    """
    rows = {"user_sequence": 0}
    for part in range(_split_users(connection, generation / SPILL)):
        _select_part(connection, generation / SPILL, part)
        rows["user_sequence"] += _write(
            connection, USER_SEQUENCE, generation / "user_sequence", part
        )
    parts = connection.read_parquet(f"{no_pattern(generation / 'user_sequence')}/*.parquet")
    parts.create_view("user_sequence")
    for name, query in (
        ("user_stats", USER_STATS),
        ("item_stats", ITEM_STATS),
        ("served_impressions", SERVED_IMPRESSIONS),
    ):
        rows[name] = _write(connection, query, generation / name)
    return rows


def _write(connection: duckdb.DuckDBPyConnection, query: str, folder: Path, part: int = 0) -> int:
    folder.mkdir(exist_ok=True)
    copy = (
        f"COPY ({query}) TO {text(str(folder / f'{part:04}.parquet'))}"
        f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROWS_PER_GROUP})"
    )
    return connection.execute(copy).fetchall()[0][0]


def _split_users(connection: duckdb.DuckDBPyConnection, spill: Path) -> int:
    """Assign users to parts of about `EVENTS_PER_PART` events, and spill the events by part."""
    [(new,)] = connection.execute("SELECT count(*) FROM events").fetchall()
    [(known,)] = connection.execute("SELECT sum(len(item_ids)) FROM histories").fetchall()
    parts = max(1, math.ceil((new + int(known or 0)) / EVENTS_PER_PART))
    connection.execute(
        f"CREATE TABLE user_parts AS SELECT user_id, ntile({parts}) OVER (ORDER BY user_id) - 1"
        " AS part FROM (SELECT DISTINCT user_id FROM cutoffs)"
    )
    if parts > 1:
        connection.execute(
            "COPY (SELECT events.*, part FROM events JOIN user_parts USING (user_id))"
            f" TO {text(str(spill / 'events'))} (FORMAT parquet, PARTITION_BY (part))"
        )
    return parts


def _select_part(connection: duckdb.DuckDBPyConnection, spill: Path, part: int) -> None:
    """Point the views `part_users` and `part_events` at one part."""
    spilled = spill / "events"
    files = parquet_in(spilled / f"part={part}")
    events = f"read_parquet({files})" if spilled.exists() else "events"
    connection.execute(f"CREATE OR REPLACE VIEW part_events AS SELECT * FROM {events}")
    connection.execute(
        f"CREATE OR REPLACE VIEW part_users AS SELECT user_id FROM user_parts WHERE part = {part}"
    )
