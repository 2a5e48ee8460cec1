"""A site's lake in a test: what is put in, and what a run would read out of it."""

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.lake.clean import Window
from feature_repo.lake.lake import Lake, open_lake
from feature_repo.lake.site_data import Taken, take_all_in, write_site_data
from sasrec.data.cleaning import DataReport
from sasrec.data.roles import Roles
from sasrec.data.splits import Split

NOW = datetime(2024, 6, 1, tzinfo=UTC)
HOUR = 3_600_000_000
SPLIT = {"kind": "global-time", "validation_fraction": 0.1, "test_fraction": 0.1}


def at(hours_ago: float) -> int:
    """Microseconds since the epoch."""
    return int(NOW.timestamp() * 1e6 - hours_ago * HOUR)


def event(**changes: Any) -> dict[str, Any]:
    return {
        "type": "event",
        "event_id": "e1",
        "request_id": "r1",
        "user_id": "u",
        "item_id": "a",
        "event_type": "view",
        "timestamp": at(48),
        "received_at": changes.get("timestamp", at(48)),
    } | changes


def slate(**changes: Any) -> dict[str, Any]:
    return {
        "type": "impression",
        "request_id": "r1",
        "user_id": "u",
        "timestamp": at(49),
        "policy": "champion",
        "model_version": "v1",
        "degraded": None,
        "seed": 1,
        "history_length": 3,
        "history_hash": "0" * 16,
        "candidates": 20,
        "eligible": 30,
        "item_ids": ["a", "b"],
        "scores": [1.5, None],
        "propensities": [0.5, 0.25],
        "explored": [False, True],
    } | changes


def item(**changes: Any) -> dict[str, Any]:
    return {
        "type": "item",
        "update_id": "1",
        "item_id": "a",
        "title": "A",
        "category": "books",
        "created_at": None,
        "available": True,
        "attributes": {},
        "deleted": False,
        "timestamp": at(48),
    } | changes


@dataclass(frozen=True)
class Read:
    """What a run would train on."""

    interactions: pa.Table
    items: pa.Table
    impressions: pa.Table
    split: Split
    report: DataReport


@dataclass(frozen=True)
class LakeSite:
    home: Path
    retention: timedelta = field(default=timedelta(days=3650))

    @property
    def lake(self) -> Lake:
        return open_lake(self.home)

    @property
    def log(self) -> Path:
        return self.home / "event_log"

    def take_in(self, dataset: Path | str | None = None, now: datetime = NOW) -> Taken:
        return take_all_in(
            self.lake,
            self.log,
            dataset=None if dataset is None else str(dataset),
            data_dir=None,
            columns={},
            seed=0,
            now=now,
            retention=self.retention,
        )

    def read(self, *, now: datetime = NOW, **options: Any) -> Read:
        folder = Path(tempfile.mkdtemp(dir=self.home))
        paths = {name: folder / name for name in ("interactions", "items", "impressions", "split")}
        report, _ = write_site_data(
            self.lake,
            **paths,
            name="shop",
            roles=Roles.parse(options.get("roles", {})),
            window=Window(options.get("until"), self.retention),
            now=now,
            attribution=timedelta(hours=24),
            cut=options.get("cut", SPLIT),
            taken=Taken(),
            profile=options.get("profile", "local"),
            repeats=options.get("repeats"),
        )
        tables = {name: pq.read_table(path) for name, path in paths.items() if name != "split"}
        return Read(**tables, split=Split.load(paths["split"]), report=report)
