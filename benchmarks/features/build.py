"""Building the offline tables and extracting training sequences, at growing sizes."""

import multiprocessing
import resource
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore

from benchmarks.features.simulate import DAYS, END, simulate, users_of
from feature_repo.extract import sequences_as_of
from feature_repo.publish import publish
from sasrec.data.schema import TIMESTAMP

T1 = END - timedelta(days=DAYS // 5)
T2 = END - timedelta(days=DAYS // 10)


LARGEST_ONLINE = 10_000_000
"""Events above which Feast's loading of the online store is left out: its time is linear in users
and all its own, and a site of that size has another profile."""


def measure(events: int, scratch: Path, profile: str = "local") -> dict[str, Any]:
    """Build and extract `events` interactions in a fresh process, whose memory is measured."""
    with TemporaryDirectory(dir=scratch) as folder:
        days = Path(folder) / "days"
        simulate(events, days)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_measure, (events, days, Path(folder) / "feature_store", profile))


def _measure(events: int, days: Path, repo_dir: Path, profile: str) -> dict[str, Any]:
    users = [f"u{u}" for u in range(users_of(events) + 1)]
    cutoffs = [
        pa.table({"user_id": users, "cutoff": pa.array(np.full(len(users), t), TIMESTAMP)})
        for t in (T1.replace(tzinfo=None), T2.replace(tzinfo=None))
    ]
    online = profile == "local" and events <= LARGEST_ONLINE
    before = resource.getrusage(resource.RUSAGE_SELF)
    with nullcontext() if online else mock.patch.object(FeatureStore, "materialize"):
        report = publish(
            repo_dir,
            interactions=days,
            items=None,
            impressions=None,
            cutoffs=pa.concat_tables(cutoffs),
            as_of=END,
            profile=profile,
        )
    started = time.monotonic()
    sequences = sequences_as_of(repo_dir, cutoffs[0])
    extract = time.monotonic() - started
    extracted = int(pc.sum(pc.list_value_length(sequences["item_ids"])).as_py())
    after = resource.getrusage(resource.RUSAGE_SELF)
    if report.events != events:
        raise AssertionError(f"{report.events} of {events} events were published")
    return {
        "events": events,
        "users": report.users,
        "build_s": report.seconds["build"],
        "extract_s": extract,
        "build_and_extract_s": report.seconds["build"] + extract,
        "apply_s": report.seconds["apply"],
        "materialize_s": report.seconds["materialize"] if online else None,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        # Spark's memory is its Java process's.
        "peak_memory_gib": after.ru_maxrss / 2**20 if profile == "local" else None,
        "extracted_rows": sequences.num_rows,
        "extracted_events": extracted,
    }
