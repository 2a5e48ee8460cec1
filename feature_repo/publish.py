"""Publish a feature store: build the offline tables, apply the definitions, load the online store.

Everything is written into a new generation folder; readers follow one symbolic link, which moves
last and in one rename. A publish killed at any instant changes nothing that a reader sees, and the
next publish removes what it left.
"""

import json
import shutil
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from feature_repo import spark, tables
from feature_repo.checks import Check, Limits, run_checks
from feature_repo.connection import connect
from feature_repo.definitions import definitions
from feature_repo.inputs import create_latest, find_partitions, load
from feature_repo.online_load import load_online, take_over
from feature_repo.profiles import choose_profile
from feature_repo.store import (
    CUTOFFS,
    GENERATIONS,
    configure,
    let_readers_in,
    make_current,
    only_publisher,
    open_feature_store,
    published_generation,
    remove_unfinished,
)
from feature_repo.tables import HISTORY_LIMIT, SPILL
from sasrec.errors import DataError

REPORT = "report.json"


@dataclass(frozen=True)
class PublishReport:
    """What was published; also `report.json` of the generation.

    Attributes:
        generation: name of the folder under `generations/`.
        as_of: ISO 8601, the moment the online store holds.
        rows: rows of each offline table.
        events: interactions in the offline tables.
        users: with at least one of them.
        longest_history: events of the user with most.
        newest_event: ISO 8601, the latest timestamp among them.
        future_events: interactions after `as_of`, left out.
        incremental: new partitions were added to the last publish; False for a full build.
        folder: of the interactions' files, if they were given as one.
        partitions: the files that are in, by name, each with its size and modification time.
        quarantined: files that could not be read, each with the reason.
        loaded: rows written to the online store; those that had not changed are taken over.
        checks: of quality and freshness, see `feature_repo.checks`.
        seconds: of building the tables, applying the definitions and loading the online store.
    """

    generation: str
    as_of: str
    rows: dict[str, int]
    events: int
    users: int
    longest_history: int
    newest_event: str
    future_events: int
    incremental: bool
    folder: str | None
    partitions: dict[str, str]
    quarantined: dict[str, str]
    loaded: int
    checks: list[Check]
    seconds: dict[str, float] = field(default_factory=dict)


def publish(
    repo_dir: Path,
    *,
    interactions: pa.Table | Path,
    items: pa.Table | Path | None,
    impressions: pa.Table | Path | None,
    cutoffs: pa.Table | None,
    as_of: datetime,
    profile: str | None = None,
    limits: Limits | None = None,
    memory_limit: str | None = None,
    patience: float = 0.0,
) -> PublishReport:
    """Make `repo_dir` serve the features of `interactions`, and of no event after `as_of`.

    Args:
        repo_dir: the feature store's folder; made if absent.
        interactions: of `sasrec.data.schema.INTERACTIONS`, cleaned: within a user, timestamps
            strictly increase. A table, a Parquet file, or a folder of `day=YYYY-MM-DD` partitions
            (`inputs.write_days`), of which only those are read that are new since the last
            publish. The result is the same.
        items: of `sasrec.data.schema.ITEMS`, or None.
        impressions: of `sasrec.data.schema.IMPRESSIONS`, or None.
        cutoffs: (user_id, cutoff): the moments at which `extract.sequences_as_of` will ask, on
            top of `as_of`, which is always kept. None keeps every event of every user, for any
            moment at all: quadratic in the length of a history, so for small data only.
        as_of: the moment the online store holds, with a time zone.
        profile: where features are built and served, see `feature_store.*.yaml`: "local",
            "production" or "cluster"; by default what `profiles.PROFILE_SETTING` says. "cluster"
            builds on Spark, see `feature_repo.spark`, and always in full. The tables are the same.
        limits: what quality checks tolerate; by default `Limits()`.
        memory_limit: of DuckDB, as in `store.connect`.
        patience: seconds to wait for another publish, as in `feature_repo.locks.exclusive`.

    Raises:
        DataError: there are no events, a check failed (its reason is the message), or another
            publish is running. What was published before stays.
    """
    repo_dir = Path(repo_dir).resolve()
    profile = choose_profile(profile)
    on_spark = profile == "cluster"
    with only_publisher(repo_dir, patience=patience):
        remove_unfinished(repo_dir)
        previous = published_generation(repo_dir)
        generation = repo_dir / GENERATIONS / datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        (generation / SPILL).mkdir(parents=True)
        configure(generation, profile)
        seconds = {}

        started = time.monotonic()
        with connect(generation / SPILL, memory_limit) as connection:
            facts = _build(
                connection,
                generation,
                None if on_spark else previous,
                interactions,
                items,
                impressions,
                cutoffs,
                as_of,
                on_spark,
            )
            checks = run_checks(connection, previous, limits or Limits())
        seconds["build"] = time.monotonic() - started
        if failed := [check for check in checks if check.verdict == "fail"]:
            raise DataError(f"feature store: {'; '.join(check.reason for check in failed)}")

        with connect(generation / SPILL, memory_limit) as connection:
            taken_over = None
            if (
                previous
                and facts["incremental"]
                and take_over(connection, generation, previous, as_of)
            ):
                taken_over = previous
            started = time.monotonic()
            store = open_feature_store(generation)
            store.apply(definitions(generation, on_spark))
            seconds["apply"] = time.monotonic() - started

            started = time.monotonic()
            loaded = load_online(connection, store, generation, as_of, taken_over)
            seconds["materialize"] = time.monotonic() - started
        let_readers_in(generation)
        shutil.rmtree(generation / SPILL)

        report = PublishReport(
            generation.name, loaded=loaded, checks=checks, seconds=seconds, **facts
        )
        (generation / REPORT).write_text(json.dumps(asdict(report), indent=2))
        make_current(repo_dir, generation)
        return report


def read_report(generation: Path) -> dict[str, Any]:
    """The `PublishReport` of a generation, as a dictionary."""
    return json.loads((generation / REPORT).read_text())


def _build(
    connection: duckdb.DuckDBPyConnection,
    generation: Path,
    previous: Path | None,
    interactions: pa.Table | Path,
    items: pa.Table | Path | None,
    impressions: pa.Table | Path | None,
    cutoffs: pa.Table | None,
    as_of: datetime,
    on_spark: bool,
) -> dict[str, Any]:
    """Build the offline tables; returns the fields of `PublishReport` that this settles."""
    partitions = None
    if isinstance(interactions, Path) and interactions.is_dir():
        partitions = find_partitions(interactions, _reusable(previous, as_of))
    incremental = partitions is not None and partitions.incremental
    load(
        connection,
        interactions=interactions if partitions is None else partitions.new,
        items=items,
        impressions=impressions,
        cutoffs=cutoffs,
        as_of=as_of,
        histories=previous if incremental else None,
    )
    if cutoffs is not None:
        connection.table("cutoffs").write_parquet(str(generation / CUTOFFS))
    if on_spark:
        files = partitions.new if partitions else None
        rows = spark.build(connection, generation, files, as_of)
    else:
        rows = tables.build(connection, generation)
    create_latest(connection, "current_sequence", generation)
    [(events, users, longest, newest)] = connection.execute(
        "SELECT coalesce(sum(len(item_ids)), 0)::BIGINT, count(*), max(len(item_ids)),"
        " max(event_timestamp) FROM current_sequence"
    ).fetchall()
    if not events:
        raise DataError(f"interactions: no event at or before {as_of.isoformat()}")
    [(future_events,)] = connection.execute(
        "SELECT count(*) FROM interactions WHERE timestamp > getvariable('as_of')"
    ).fetchall()
    return {
        "as_of": as_of.isoformat(),
        "rows": rows,
        "events": events,
        "users": users,
        "longest_history": longest,
        "newest_event": newest.isoformat(),
        "future_events": future_events,
        "incremental": incremental,
        "folder": str(interactions) if partitions else None,
        "partitions": partitions.known if partitions else {},
        "quarantined": partitions.broken if partitions else {},
    }


def _reusable(previous: Path | None, as_of: datetime) -> dict[str, str]:
    """The partitions whose events the last publish holds in full; empty if it left any out."""
    if previous is None:
        return {}
    report = read_report(previous)
    complete = (
        report["future_events"] == 0
        and report["longest_history"] < HISTORY_LIMIT
        and datetime.fromisoformat(report["as_of"]) <= as_of
    )
    return report["partitions"] if complete else {}
