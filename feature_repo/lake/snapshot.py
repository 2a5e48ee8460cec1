"""The items and the impressions of a lake as a run uses them, beside the events of `clean`."""

from datetime import datetime, timedelta
from pathlib import Path

from feature_repo.lake.clean import Window, microseconds
from feature_repo.lake.engine import Engine
from sasrec.data.schema import IMPRESSIONS, ITEMS

# The newest row of each item that existed, and the items that have events and no description.
ITEMS_QUERY = """
SELECT {columns}
FROM (
    SELECT *, row_number() OVER (PARTITION BY item_id ORDER BY batch DESC) AS place
    FROM lake_items
) AS described
WHERE place = 1
  AND (
      created_at IS NULL OR {created} < {until} OR item_id IN (SELECT item_id FROM raw)
  )
UNION ALL
SELECT {nothing}
FROM (SELECT DISTINCT item_id FROM raw) AS used
WHERE item_id NOT IN (SELECT item_id FROM lake_items)
ORDER BY item_id
"""

# A slot that was imported twice counts as it was imported last.
SLOTS = """
SELECT {columns}, logged, {micros} AS time
FROM (
    SELECT *, row_number() OVER (PARTITION BY request_id, position ORDER BY batch DESC) AS place
    FROM lake_impressions
) AS slots
WHERE place = 1 AND {micros} < {until}
"""

# The slots whose item their user acted on, positively, within the window after.
REWARDED = """
SELECT DISTINCT slots.request_id, slots.position
FROM slots
JOIN raw ON raw.request_id = slots.request_id
        AND raw.user_id = slots.user_id AND raw.item_id = slots.item_id
JOIN roles ON roles.event_type = raw.event_type AND roles.role = 'positive'
WHERE slots.logged AND raw.time >= slots.time AND raw.time <= slots.time + {window}
"""

IMPRESSIONS_QUERY = """
SELECT {columns},
       CAST(
           CASE WHEN NOT slots.logged THEN slots.reward
                WHEN rewarded.request_id IS NOT NULL THEN 1
                WHEN slots.time + {window} < {now} THEN 0
           END AS FLOAT
       ) AS reward
FROM slots
LEFT JOIN rewarded
    ON rewarded.request_id = slots.request_id AND rewarded.position = slots.position
ORDER BY slots.timestamp, slots.request_id, slots.position
"""


def write_items(engine: Engine, path: Path, window: Window) -> int:
    """Write the items, schema `ITEMS` and free columns; leaves the relation `items`.

    Returns:
        How many there are.
    """
    free = [n for n in engine.columns("lake_items") if n not in (*ITEMS.names, "written", "batch")]
    names = [*ITEMS.names, *(engine.quote(name) for name in free)]
    engine.write(
        ITEMS_QUERY.format(
            columns=", ".join(names),
            nothing=", ".join(["item_id", *(f"NULL AS {name}" for name in names[1:])]),
            created=engine.micros.format("created_at"),
            until=window.end,
        ),
        path,
    )
    engine.read("items", path)
    [(items,)] = engine.rows("SELECT count(*) FROM items")
    return items


def write_impressions(
    engine: Engine, path: Path, window: Window, *, now: datetime, attribution: timedelta
) -> tuple[int, float | None]:
    """Write the impressions, schema `IMPRESSIONS`, each with what is known of its reward.

    Of a logged slot that is 1 if its user acted on the item, under the same request and within
    `attribution`, 0 if that time is over, and null before. An imported one has its own.

    Returns:
        How many slots there are, and their mean reward; None without any.
    """
    names = IMPRESSIONS.names
    micros = engine.micros.format("timestamp")
    length = attribution // timedelta(microseconds=1)
    engine.view("slots", SLOTS.format(columns=", ".join(names), micros=micros, until=window.end))
    engine.table("rewarded", REWARDED.format(window=length))
    columns = ", ".join(f"slots.{name}" for name in names[:-1])
    engine.write(
        IMPRESSIONS_QUERY.format(columns=columns, window=length, now=microseconds(now)), path
    )
    engine.read("impressions", path)
    [(slots, mean)] = engine.rows("SELECT count(*), avg(reward) FROM impressions")
    return slots, mean
