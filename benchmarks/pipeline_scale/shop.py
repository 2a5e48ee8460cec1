"""A shop of any size as Parquet, made by DuckDB: no event passes through Python."""

from datetime import UTC, datetime
from pathlib import Path

from feature_repo.store import connect

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 60
ITEMS = 50_000
EVENTS_PER_USER = 100
NIGHTS = ("first", "second")
_DAY = 86_400_000_000  # microseconds


def write_shop(rows: int, folder: Path) -> None:
    """Write what two nights find: `folder/first` of `rows` events, `folder/second` of a day more.

    Activity and popularity follow power laws (powers of a uniform draw), so that the most active
    user stays below the limit of a history; events are spread evenly over `DAYS` days, and no two
    share a time.
    """
    a_day = rows // DAYS
    with connect(folder / "spill", "2GB") as connection:
        connection.execute("SET preserve_insertion_order = false")
        for night, events in zip(NIGHTS, (rows, rows + a_day), strict=True):
            (folder / night).mkdir(parents=True, exist_ok=True)
            partial = folder / night / "partial"
            connection.execute(f"COPY ({_events(events, rows)}) TO '{partial}' (FORMAT parquet)")
            connection.execute(
                f"COPY ({_ITEMS}) TO '{folder / night / 'items.parquet'}' (FORMAT parquet)"
            )
            partial.rename(folder / night / "interactions.parquet")


def _events(events: int, rows: int) -> str:
    def uniform(draw: int) -> str:
        return f"hash(i, {draw}) / 18446744073709551616.0"

    start = int(START.timestamp()) * 1_000_000
    users = max(1, rows // EVENTS_PER_USER)
    return f"""
        SELECT 'u' || (pow({uniform(1)}, 1.3) * {users})::BIGINT AS user_id,
               'i' || least({ITEMS - 1}, (pow({uniform(2)}, 3) * {ITEMS})::BIGINT) AS item_id,
               make_timestamptz({start} + i * {DAYS * _DAY // rows}) AS timestamp,
               CASE WHEN hash(i, 3) % 10 = 0 THEN 'purchase' ELSE 'view' END AS event_type
        FROM range({events}) AS numbers (i)
    """


_ITEMS = f"""
    SELECT 'i' || i AS item_id, 'Item ' || i AS title, 'c' || i % 40 AS category,
           make_timestamptz({int(START.timestamp()) * 1_000_000}) AS created_at
    FROM range({ITEMS}) AS numbers (i)
"""
