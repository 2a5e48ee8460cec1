"""Splits as queries: the folder that `sasrec.data.splits.Split.save` writes, from any size.

A test holds both to equal bytes.
"""

import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

from feature_repo.lake.clean import from_microseconds, microseconds
from feature_repo.lake.engine import Engine
from sasrec.data.source import Clock
from sasrec.data.splits import (
    CUTOFFS_FILE,
    DESCRIPTION_FILE,
    KNOWN_ITEMS_FILE,
    TARGETS_FILE,
    NothingNewer,
    SplitKind,
    describe,
    digest_of,
    refuse_empty_folds,
    refuse_fractions,
    refuse_row_order,
)
from sasrec.errors import DataError

SECOND = 1_000_000
FOLDS = ("train", "validation", "test")

# Events up to each second: cuts are looked for among whole seconds, so that none parts a tie.
SECONDS = """
SELECT second, sum(events) OVER (ORDER BY second) AS events
FROM (
    SELECT time - mod(mod(time, 1000000) + 1000000, 1000000) AS second, count(*) AS events
    FROM events WHERE time > {since} GROUP BY time - mod(mod(time, 1000000) + 1000000, 1000000)
) AS counted
"""

# One row a fold and user; `place` orders the folds. Filled in: a query per fold.
CUTOFFS = """
SELECT fold, user_id, {timestamp} AS cutoff
FROM ({folds}) AS folds
ORDER BY place, user_id
"""
TARGETS = """
SELECT fold, user_id, item_id, timestamp
FROM ({folds}) AS folds
ORDER BY place, user_id, timestamp
"""

# Of the users with three events and more: the times of the last two.
LAST_TWO = """
SELECT users.user_id, users.last AS last, max(events.time) AS before
FROM events JOIN users ON events.user_id = users.user_id
WHERE users.events >= 3 AND events.time < users.last
GROUP BY users.user_id, users.last
"""


# Targets whose item their user had before the cut, and all targets.
REPEATED = """
SELECT sum(CASE WHEN firsts.first < cutoffs.cutoff THEN 1 ELSE 0 END), count(*)
FROM written_targets AS targets
JOIN cutoffs ON targets.fold = cutoffs.fold AND targets.user_id = cutoffs.user_id
JOIN (
    SELECT user_id, item_id, min(time) AS first FROM events
    WHERE user_id IN (SELECT user_id FROM written_targets) GROUP BY user_id, item_id
) AS firsts ON targets.user_id = firsts.user_id AND targets.item_id = firsts.item_id
"""


def write_split(
    engine: Engine,
    directory: Path,
    *,
    name: str,
    kind: SplitKind,
    clock: Clock,
    validation_fraction: float,
    test_fraction: float,
    since: datetime | None = None,
) -> dict[str, Any]:
    """Cut the events that `clean` left in the engine, beside the relation `items`.

    Args:
        directory: made if absent.
        name: of the data, for messages.
        since: count both fractions among the events after this moment.

    Returns:
        The split's description.

    Raises:
        DataError: there is no clock that a global cut could use, or a fold is empty.
    """
    directory.mkdir(parents=True, exist_ok=True)
    t1 = t2 = None
    if kind == "leave-one-out":
        if since is not None:
            raise DataError(
                "split: leave-one-out knows no moment after which events are new; use --split "
                "global-time"
            )
        cutoffs, targets, known, counts = _leave_one_out(engine)
    else:
        refuse_row_order(clock, name)
        refuse_fractions(validation_fraction, test_fraction)
        t1, t2 = _cuts(engine, validation_fraction, test_fraction, since)
        cutoffs, targets, known, counts = _global_time(engine, t1, t2)
    engine.table("cutoffs", cutoffs)
    for fold in FOLDS:
        [(users,)] = engine.rows(f"SELECT count(*) FROM cutoffs WHERE fold = '{fold}'")
        counts[f"{fold}_users"] = users
    refuse_empty_folds(kind, counts, since)
    engine.write(
        CUTOFFS.format(timestamp=engine.timestamp.format("cutoff"), folds="SELECT * FROM cutoffs"),
        directory / CUTOFFS_FILE,
    )
    engine.write(TARGETS.format(folds=targets), directory / TARGETS_FILE)
    known_items = [item for (item,) in engine.rows(f"{known} ORDER BY item_id")]
    counts["known_items"] = len(known_items)
    (directory / KNOWN_ITEMS_FILE).write_text(json.dumps(known_items))
    description = describe(
        kind,
        digest_of(directory / CUTOFFS_FILE, directory / TARGETS_FILE),
        _moment(t1),
        _moment(t2),
        counts,
    )
    if since is not None:
        description["since"] = since.isoformat()
    (directory / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2))
    return description


def repeated_targets(engine: Engine, directory: Path) -> float:
    """Share of the targets that `write_split` wrote which are items of their user's history."""
    engine.read("written_targets", directory / TARGETS_FILE)
    [(repeated, targets)] = engine.rows(REPEATED)
    return float(repeated) / float(targets)


def _cuts(
    engine: Engine, validation_fraction: float, test_fraction: float, since: datetime | None
) -> tuple[int, int]:
    """Start of validation and of test, microseconds: quantiles of the times, whole seconds."""
    engine.table(
        "seconds", SECONDS.format(since=-(2**62) if since is None else microseconds(since))
    )
    [(events,)] = engine.rows("SELECT max(events) FROM seconds")
    if events is None:
        raise NothingNewer(f"split: nothing is newer than {since}, which the champion has seen")
    cuts = []
    for share in (1 - validation_fraction - test_fraction, 1 - test_fraction):
        rank = math.ceil((int(events) - 1) * share)
        [(cut,)] = engine.rows(f"SELECT min(second) FROM seconds WHERE events > {rank}")
        cuts.append(int(cut))
    t1, t2 = cuts
    if since is not None:
        t1 = max(t1, microseconds(since) // SECOND * SECOND + SECOND)
    return t1, max(t1, t2)


def _global_time(engine: Engine, t1: int, t2: int) -> tuple[str, str, str, dict[str, int]]:
    """Queries of cutoffs, of targets and of known items, and counts."""
    windows = {"validation": (t1, t2), "test": (t2, 2**62)}
    cutoffs = [
        f"SELECT 'train' AS fold, 0 AS place, user_id, {t1} AS cutoff FROM users WHERE first < {t1}"
    ]
    targets, counts = [], {}
    for place, (fold, (start, end)) in enumerate(windows.items(), 1):
        inside = f"time >= {start} AND time < {end}"
        active = f"SELECT DISTINCT user_id FROM events WHERE {inside}"
        has_history = f"SELECT user_id FROM users WHERE first < {start}"
        cutoffs.append(
            f"SELECT '{fold}' AS fold, {place} AS place, user_id, {start} AS cutoff FROM users"
            f" WHERE first < {start} AND user_id IN ({active})"
        )
        targets.append(
            f"SELECT '{fold}' AS fold, {place} AS place, user_id, item_id, timestamp FROM events"
            f" WHERE {inside} AND user_id IN ({has_history})"
        )
        [(found,)] = engine.rows(f"SELECT count(*) FROM ({targets[-1]}) AS targets")
        [(newcomers,)] = engine.rows(
            f"SELECT count(*) FROM ({active}) AS active WHERE user_id NOT IN ({has_history})"
        )
        counts[f"{fold}_targets"] = found
        counts[f"{fold}_users_without_history"] = newcomers
    created = engine.micros.format("created_at")
    known = (
        f"SELECT item_id FROM events WHERE time < {t1}"
        f" UNION SELECT item_id FROM items WHERE {created} < {t1}"
    )
    return " UNION ALL ".join(cutoffs), " UNION ALL ".join(targets), known, counts


def _leave_one_out(engine: Engine) -> tuple[str, str, str, dict[str, int]]:
    """As `_global_time`."""
    engine.table("last_two", LAST_TWO)
    # Exclusive, so "just after the last event" lets the short histories in whole.
    cutoffs = [
        "SELECT 'train' AS fold, 0 AS place, users.user_id, coalesce(before, users.last + 1)"
        " AS cutoff FROM users LEFT JOIN last_two ON users.user_id = last_two.user_id"
    ]
    targets = []
    for place, (fold, column) in enumerate((("validation", "before"), ("test", "last")), 1):
        cutoffs.append(
            f"SELECT '{fold}' AS fold, {place} AS place, user_id, {column} AS cutoff FROM last_two"
        )
        targets.append(
            f"SELECT '{fold}' AS fold, {place} AS place, events.user_id, item_id, timestamp"
            " FROM events JOIN last_two ON events.user_id = last_two.user_id"
            f" AND events.time = last_two.{column}"
        )
    [(users,)] = engine.rows("SELECT count(*) FROM users")
    [(evaluated,)] = engine.rows("SELECT count(*) FROM last_two")
    counts = {
        "validation_targets": evaluated,
        "test_targets": evaluated,
        "users_too_short_to_evaluate": users - evaluated,
    }
    known = "SELECT DISTINCT item_id FROM events"
    return " UNION ALL ".join(cutoffs), " UNION ALL ".join(targets), known, counts


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_microseconds(micros)
