"""A site's data as one run uses it: taken in, cleaned, split, and written as Parquet."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from feature_repo.event_log import cut_left, drop_read
from feature_repo.lake.clean import Window, clean, from_microseconds, microseconds
from feature_repo.lake.engine import DuckDB, Engine
from feature_repo.lake.imports import import_dataset
from feature_repo.lake.intake import recover, take_in
from feature_repo.lake.lake import Lake, day_of
from feature_repo.lake.relations import relations
from feature_repo.lake.snapshot import write_impressions, write_items
from feature_repo.lake.split import repeated_targets, write_split
from sasrec.data.cleaning import DataReport, told_ahead
from sasrec.data.repeats import Repeats, choose_repeats, told
from sasrec.data.roles import Roles
from sasrec.data.splits import DESCRIPTION_FILE
from sasrec.errors import DataError


@dataclass(frozen=True)
class Taken:
    """What taking in added to the site's data, and what it left out.

    Attributes:
        added: rows by what they are: "imported", "logged", "slots", "items".
        left_out: records of the log by the reason.
        notes: one sentence each, for the data report.
    """

    added: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def take_all_in(
    lake: Lake,
    log: Path,
    *,
    dataset: str | None,
    data_dir: Path | None,
    columns: Mapping[str, str],
    seed: int,
    now: datetime,
    retention: timedelta,
) -> Taken:
    """Import `dataset`, if there is one, then take in the log, then drop what is too old.

    What `forget` could not cut out of the log is cut first.

    Raises:
        DataError: the site has no data and none is given, or something that is to be taken in is
            broken. What was taken in before stays.
    """
    if dataset is None and not lake.exists() and not log.is_dir():
        raise DataError(f"{lake}: the site has no data yet; name some with --dataset")
    cut_left(log)
    recovered = recover(lake, log, now=now, retention=retention)
    imported = None
    if dataset is not None:
        imported = import_dataset(
            lake, dataset, data_dir=data_dir, columns=columns, seed=seed, now=now
        )
    intake = take_in(lake, log, now=now, retention=retention)
    lake.drop_days_before(_oldest_day(lake, retention))
    drop_read(log, lake.state.segments, written_before=now.timestamp() - retention.total_seconds())
    added = {
        "imported": imported.added if imported else 0,
        "logged": recovered.events + intake.events,
        "slots": recovered.slots + intake.slots,
        "items": recovered.items + intake.items,
    }
    repeated = recovered.repeated + intake.repeated
    left_out = recovered.quarantined + intake.quarantined
    return Taken(
        {what: count for what, count in added.items() if count},
        {**({"repeated": repeated} if repeated else {}), **left_out},
        intake.notes,
    )


def write_site_data(
    lake: Lake,
    *,
    interactions: Path,
    items: Path,
    impressions: Path,
    split: Path,
    name: str,
    roles: Roles,
    window: Window,
    now: datetime,
    attribution: timedelta,
    cut: Mapping[str, Any],
    taken: Taken,
    profile: str = "local",
    repeats: Repeats | None = None,
) -> tuple[DataReport, dict[str, Any]]:
    """Write the artifacts of a run from one state of the lake.

    Args:
        interactions, items, impressions, split: where to.
        name: of the data, for messages.
        now: the run's moment; impressions whose window is over by then have a reward.
        cut: the settings of the split, as `write_split` takes them.
        repeats: whether items of a history may be recommended; None to let the data say.
        taken: for the report.
        profile: "cluster" for Spark.

    Returns:
        The data report, and the description of the split.

    Raises:
        DataError: a part of the lake is gone, or the data does not suffice.
    """
    state = lake.state
    clock = state.clock or "real"
    notes = [note for known in state.imports for note in known.notes]
    if window.until is not None:
        if clock == "row-order":
            raise DataError(f"{name}: rows have an order but no time; leave out data.as_of")
        notes.append(f"Only what happened before {window.until} is used.")
    with _engine(lake, interactions.parent, profile) as engine:
        report = clean(
            engine,
            interactions,
            name=name,
            clock=clock,
            notes=[*notes, *taken.notes],
            roles=roles,
            window=window,
        )
        catalogue = write_items(engine, items, window)
        slots, click_through = write_impressions(
            engine, impressions, window, now=now, attribution=attribution
        )
        description = write_split(engine, split, name=name, clock=clock, **cut)
        micros = microseconds(now)
        [(ahead, latest)] = engine.rows(
            f"SELECT sum(CASE WHEN time > {micros} THEN 1 ELSE 0 END), max(time) FROM events"
        )
        found = choose_repeats(repeated_targets(engine, split), repeats)
        description["repeats"] = found
        (split / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2))
    report = replace(
        report,
        catalogue=catalogue,
        impressions=slots,
        click_through=click_through,
        left_out=taken.left_out,
        taken_in=taken.added,
        repeated_targets=found["targets"],
        notes=[
            *report.notes,
            *told_ahead(from_microseconds(int(latest)), now, int(ahead)),
            told(found, repeats),
        ],
    )
    return report, description


@contextmanager
def _engine(lake: Lake, folder: Path, profile: str) -> Iterator[Engine]:
    if profile == "cluster":
        from feature_repo.lake.spark import open_spark

        with open_spark(lake) as engine:
            yield engine
    else:
        with relations(lake, folder=folder) as connection:
            yield DuckDB(connection)


def _oldest_day(lake: Lake, retention: timedelta) -> str:
    """The day of the oldest event to keep: the retention counts back from the newest day."""
    newest = max((day_of(path) for path in lake.files("interactions")), default=None)
    if newest is None:
        return ""
    try:
        return str((datetime.fromisoformat(newest) - retention).date())
    except OverflowError:  # longer than there are years
        return ""
