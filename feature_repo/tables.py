"""The offline tables, each one SQL statement over `events`, `items`, `impressions`, `cutoffs`.

`events` are the accepted interactions, `cutoffs` (user_id, cutoff) the moments at which features
are wanted. A row's `event_timestamp` is the moment from which its values hold.
"""

from pathlib import Path

import duckdb

HISTORY_LIMIT = 10_000
"""Events kept per sequence, newest first to stay: above any history of the public sets (the
longest of MovieLens-1M is 2,277), and a bound on what one user can cost."""

MAX_GLOBAL_CUTS = 32
"""Item statistics exist per distinct cutoff. More cutoffs than this are per-user ones
(leave-one-out), and only the newest is kept."""

# One list per user, then a slice per cutoff: n events are sorted once, however many cutoffs.
USER_SEQUENCE = f"""
WITH numbered AS (
    SELECT user_id, timestamp,
           row_number() OVER (PARTITION BY user_id ORDER BY timestamp) AS n
    FROM events
), points AS (
    SELECT DISTINCT numbered.user_id, numbered.timestamp, numbered.n
    FROM cutoffs ASOF JOIN numbered
      ON cutoffs.user_id = numbered.user_id AND cutoffs.cutoff > numbered.timestamp
), whole AS (
    SELECT user_id,
           list(item_id ORDER BY timestamp) AS item_ids,
           list(event_type ORDER BY timestamp) AS event_types,
           list(epoch_us(timestamp) ORDER BY timestamp) AS timestamps
    FROM events GROUP BY user_id
)
SELECT points.user_id,
       points.timestamp AS event_timestamp,
       item_ids[greatest(1, n - {HISTORY_LIMIT} + 1):n] AS item_ids,
       event_types[greatest(1, n - {HISTORY_LIMIT} + 1):n] AS event_types,
       timestamps[greatest(1, n - {HISTORY_LIMIT} + 1):n] AS timestamps
FROM points JOIN whole USING (user_id)
ORDER BY points.user_id, event_timestamp
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
), counted AS (
    SELECT item_id, cutoff,
           min(timestamp) AS first_event,
           count(*) FILTER (timestamp >= cutoff - INTERVAL 1 DAY) AS popularity_1d,
           count(*) FILTER (timestamp >= cutoff - INTERVAL 7 DAY) AS popularity_7d,
           count(*) FILTER (timestamp >= cutoff - INTERVAL 30 DAY) AS popularity_30d,
           count(*) AS popularity_total
    FROM cuts JOIN events ON timestamp < cutoff
    GROUP BY item_id, cutoff
), catalogue AS (
    SELECT item_id, cutoff, category, created_at
    FROM items CROSS JOIN cuts
    WHERE created_at IS NULL OR created_at < cutoff
)
SELECT item_id,
       cutoff - INTERVAL 1 MICROSECOND AS event_timestamp,
       coalesce(category, '') AS category,
       greatest(0, epoch(cutoff) - epoch(coalesce(created_at, first_event))) / 86400 AS age_days,
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

TABLES = {
    "user_sequence": USER_SEQUENCE,
    "user_stats": USER_STATS,
    "item_stats": ITEM_STATS,
    "served_impressions": SERVED_IMPRESSIONS,
}


def build(connection: duckdb.DuckDBPyConnection, generation: Path) -> dict[str, int]:
    """Write each table as Parquet into `generation`; returns the rows of each."""
    rows = {}
    for name, query in TABLES.items():
        path = str(generation / f"{name}.parquet")
        rows[name] = connection.execute(
            f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
        ).fetchall()[0][0]
        connection.read_parquet(path).create_view(name)
    return rows
