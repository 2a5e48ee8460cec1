"""Checks of freshness and quality between building the tables and letting anybody read them."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import duckdb
import numpy as np

from feature_repo.inputs import COLUMNS, create_latest

Verdict = Literal["pass", "warn", "fail", "not evaluated"]


@dataclass(frozen=True)
class Limits:
    """What is tolerated; beyond it, nothing is published.

    Attributes:
        max_age: of the newest event, before `as_of`; None tolerates any.
        max_null_share: of new events with a null user, item, time or type, which are left out.
        max_unknown_share: of events with an item that the catalogue lacks, if there is one.
        min_volume_ratio: events against the last publish.
        max_psi: of item popularity and of history length against the last publish. The usual
            reading: below 0.1 stable, which is where a warning starts; above 0.25 shifted.
        min_sample: users, or items that users met since, without which a drift is noise and not
            evaluated.
    """

    max_age: timedelta | None = None
    max_null_share: float = 0.01
    max_unknown_share: float = 0.05
    min_volume_ratio: float = 0.5
    max_psi: float = 0.25
    min_sample: int = 1_000


@dataclass(frozen=True)
class Check:
    """One figure against its limit; `reason` is a line for people."""

    name: str
    verdict: Verdict
    value: float | None
    limit: float | None
    reason: str


def run_checks(
    connection: duckdb.DuckDBPyConnection, previous: Path | None, limits: Limits
) -> list[Check]:
    """Check what `tables.build` built.

    Args:
        connection: with `current_sequence`, `interactions`, `items` and the variable `as_of`.
        previous: the generation published before, if any, to compare with.
    """
    checks = [
        _duplicates(connection),
        _freshness(connection, limits),
        _nulls(connection, limits),
        _unknown_items(connection, limits),
    ]
    if previous is None:
        reason = "this is the first publish"
        return checks + [
            Check(name, "not evaluated", None, None, f"{name}: {reason}")
            for name in ("volume", "length_drift", "popularity_drift")
        ]
    create_latest(connection, "previous_sequence", previous)
    return [
        *checks,
        _volume(connection, limits),
        _length_drift(connection, limits),
        _popularity_drift(connection, limits),
    ]


def population_stability_index(expected: np.ndarray, actual: np.ndarray) -> float:
    """PSI = sum over bins of (a - e) ln(a / e), of the bins' shares e and a.

    Yurdakul (2018), "Statistical Properties of Population Stability Index". Empty bins count as
    a share of 1e-4.

    Args:
        expected, actual: (bins,) counts.
    """
    e = np.maximum(expected / expected.sum(), 1e-4)
    a = np.maximum(actual / actual.sum(), 1e-4)
    return float(np.sum((a - e) * np.log(a / e)))


def _duplicates(connection: duckdb.DuckDBPyConnection) -> Check:
    users = connection.execute(
        "SELECT user_id FROM current_sequence"
        " WHERE len(list_distinct(timestamps)) < len(timestamps) LIMIT 1"
    ).fetchall()
    if users:
        reason = (
            f"interactions: user '{users[0][0]}' has two events at the same time; clean the "
            "source first, which drops duplicates and separates ties"
        )
        return Check("duplicates", "fail", None, 0, reason)
    return Check("duplicates", "pass", 0, 0, "duplicates: time orders the events of every user")


def _freshness(connection: duckdb.DuckDBPyConnection, limits: Limits) -> Check:
    [(seconds,)] = connection.execute(
        "SELECT epoch(getvariable('as_of')) - epoch(max(event_timestamp)) FROM current_sequence"
    ).fetchall()
    age = timedelta(seconds=seconds)
    limit = None if limits.max_age is None else limits.max_age.total_seconds()
    reason = f"freshness: the newest event is {age} old, {limits.max_age or 'any age'} is tolerated"
    return Check("freshness", _verdict(limit is None or seconds <= limit), seconds, limit, reason)


def _nulls(connection: duckdb.DuckDBPyConnection, limits: Limits) -> Check:
    [(nulls, events)] = connection.execute(
        "SELECT count(*) FILTER"
        f" ({' OR '.join(f'{name} IS NULL' for name in COLUMNS)}), count(*) FROM interactions"
    ).fetchall()
    share = nulls / max(1, events)
    reason = (
        f"nulls: {nulls:,} of {events:,} new events lack their user, item, time or type and are "
        f"left out, {limits.max_null_share:.2%} are tolerated"
    )
    verdict = _verdict(share <= limits.max_null_share)
    return Check("nulls", verdict, share, limits.max_null_share, reason)


def _unknown_items(connection: duckdb.DuckDBPyConnection, limits: Limits) -> Check:
    [(known_items,)] = connection.execute("SELECT count(*) FROM items").fetchall()
    if not known_items:
        reason = "unknown_items: there is no catalogue to compare with"
        return Check("unknown_items", "not evaluated", None, limits.max_unknown_share, reason)
    [(share,)] = connection.execute(
        "SELECT coalesce(sum(popularity) FILTER (items.item_id IS NULL) / sum(popularity), 0)"
        " FROM (SELECT item_id, count(*) AS popularity"
        "   FROM (SELECT unnest(item_ids) AS item_id FROM current_sequence) GROUP BY item_id)"
        " LEFT JOIN items USING (item_id)"
    ).fetchall()
    reason = (
        f"unknown_items: {share:.2%} of the events have an item that the catalogue lacks, "
        f"{limits.max_unknown_share:.2%} are tolerated"
    )
    verdict = _verdict(share <= limits.max_unknown_share)
    return Check("unknown_items", verdict, share, limits.max_unknown_share, reason)


def _volume(connection: duckdb.DuckDBPyConnection, limits: Limits) -> Check:
    now, before = (
        int(connection.execute(f"SELECT sum(len(item_ids)) FROM {table}").fetchall()[0][0])
        for table in ("current_sequence", "previous_sequence")
    )
    ratio = now / before
    reason = (
        f"volume: {now:,} events after {before:,}, a ratio of {ratio:.2f}, "
        f"at least {limits.min_volume_ratio} is expected"
    )
    verdict = _verdict(ratio >= limits.min_volume_ratio)
    return Check("volume", verdict, ratio, limits.min_volume_ratio, reason)


def _length_drift(connection: duckdb.DuckDBPyConnection, limits: Limits) -> Check:
    """Users by history length, in bins that double: 1, 2-3, 4-7, ..."""
    rows = connection.execute(
        "SELECT coalesce(before.n, 0), coalesce(now.n, 0) FROM"
        " (SELECT floor(log2(len(item_ids))) AS bin, count(*) AS n"
        "  FROM previous_sequence GROUP BY bin) AS before FULL JOIN"
        " (SELECT floor(log2(len(item_ids))) AS bin, count(*) AS n"
        "  FROM current_sequence GROUP BY bin) AS now USING (bin) ORDER BY bin"
    ).fetchall()
    return _drift("length_drift", "history length", np.array(rows, dtype=float), limits)


def _popularity_drift(connection: duckdb.DuckDBPyConnection, limits: Limits) -> Check:
    """Who met what before and since the last publish, by decile of an item's popularity before.

    A user counts once for an item: one who makes a thousand events in a night is no shift. Deciles
    hold a tenth of what was met before each. Items new since then are in none.
    """
    rows = connection.execute(
        "WITH before AS ("
        "  SELECT item_id, count(*) AS n"
        "  FROM (SELECT unnest(list_distinct(item_ids)) AS item_id FROM previous_sequence)"
        "  GROUP BY item_id"
        "), since AS ("
        "  SELECT item_id, count(DISTINCT user_id) AS n FROM ("
        "    SELECT user_id, unnest(item_ids) AS item_id, unnest(timestamps) AS t"
        "    FROM current_sequence)"
        "  WHERE t > (SELECT epoch_us(max(event_timestamp)) FROM previous_sequence)"
        "  GROUP BY item_id"
        "), deciles AS ("
        "  SELECT item_id, n, floor(10 * (sum(n) OVER (ORDER BY n DESC, item_id) - n)"
        "    / sum(n) OVER ()) AS decile FROM before"
        ") SELECT sum(deciles.n), coalesce(sum(since.n), 0) FROM deciles"
        " LEFT JOIN since USING (item_id) GROUP BY decile ORDER BY decile"
    ).fetchall()
    return _drift("popularity_drift", "item popularity", np.array(rows, dtype=float), limits)


def _drift(name: str, what: str, counts: np.ndarray, limits: Limits) -> Check:
    """Args: counts: (bins, 2), before and now."""
    sample = int(counts.sum(axis=0).min())
    if sample < limits.min_sample:
        reason = f"{name}: a sample of {sample:,}, {limits.min_sample:,} are needed"
        return Check(name, "not evaluated", None, limits.max_psi, reason)
    psi = population_stability_index(counts[:, 0], counts[:, 1])
    reason = f"{name}: the PSI of {what} is {psi:.3f}, {limits.max_psi} is tolerated"
    verdict: Verdict = "warn" if 0.1 < psi <= limits.max_psi else _verdict(psi <= limits.max_psi)
    return Check(name, verdict, psi, limits.max_psi, reason)


def _verdict(passed: bool) -> Verdict:
    return "pass" if passed else "fail"
