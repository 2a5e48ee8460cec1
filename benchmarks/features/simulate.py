"""Interactions of any number, as day files, made by DuckDB without holding them in memory."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_repo.store import connect

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 60
END = START + timedelta(days=DAYS)
EVENTS_PER_USER = 100
ITEMS = 50_000


def users_of(events: int) -> int:
    """Users that `events` interactions are spread over."""
    return max(1, events // EVENTS_PER_USER)


def simulate(events: int, folder: Path) -> None:
    """Write `events` interactions of `events` / 100 users into `folder/day=.../*.parquet`.

    Activity and popularity are skewed (powers of a uniform draw; no user exceeds the limit of a
    history), and events come one after another over 60 days, so that no two share a time.
    """
    step = DAYS * 86_400_000_000 // events
    with connect(folder.with_name("spill"), "4GB") as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(
            f"""
            COPY (
                SELECT 'u' || (pow(hash(i, 1) / 18446744073709551616.0, 1.3)
                               * {users_of(events)})::BIGINT AS user_id,
                       'i' || (pow(hash(i, 2) / 18446744073709551616.0, 3)
                               * {ITEMS})::BIGINT AS item_id,
                       make_timestamptz({int(START.timestamp()) * 1_000_000} + i * {step})
                           AS timestamp,
                       CASE WHEN hash(i, 3) % 10 = 0 THEN 'purchase' ELSE 'view' END
                           AS event_type,
                       NULL::FLOAT AS value,
                       i AS sequence,
                       strftime(timestamp, '%Y-%m-%d') AS day
                FROM range({events}) AS numbers (i)
            ) TO '{folder}' (FORMAT parquet, PARTITION_BY (day))
            """
        )
