"""What Feast alone does: appends by read-modify-write, and its default offline store."""

import multiprocessing
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from benchmarks.features.build import T1
from benchmarks.features.histories import USERS, in_processes, percentiles
from benchmarks.features.simulate import END, simulate, users_of
from feature_repo.publish import publish
from feature_repo.store import current_generation, open_feature_store
from sasrec.data.schema import TIMESTAMP

APPENDS = 200


def measure_push(scratch: Path) -> dict[str, Any]:
    """Appends through `get_online_features` and `write_to_online_store`: `push` does the latter."""
    results = {}
    for processes in (1, 4):
        with TemporaryDirectory(dir=scratch) as folder:
            _publish(Path(folder), 10_000)
            generation = current_generation(Path(folder))
            seconds = np.concatenate(in_processes(processes, _push, generation))
            store = open_feature_store(generation)
            kept = sum(len(_read(store, f"new{user}")) for user in range(USERS))
        results[f"{processes}_processes"] = {
            "append_ms": percentiles(seconds),
            "appended": processes * APPENDS,
            "lost": processes * APPENDS - kept,
        }
    return results


def _push(generation: Path, worker: int) -> np.ndarray:
    store = open_feature_store(generation)
    seconds = np.empty(APPENDS)
    for i in range(APPENDS):
        user = f"new{i % USERS}"
        started = time.perf_counter()
        items = [*_read(store, user), f"{worker}-{i}"]
        row = {
            "user_id": user,
            "event_timestamp": datetime.now(UTC),
            "item_ids": items,
            "event_types": ["view"] * len(items),
            "timestamps": list(range(len(items))),
        }
        store.write_to_online_store("user_sequence", pd.DataFrame([row]))
        seconds[i] = time.perf_counter() - started
    return seconds


def _read(store: Any, user: str) -> list[str]:
    found = store.get_online_features(["user_sequence:item_ids"], [{"user_id": user}])
    return found.to_dict()["item_ids"][0] or []


def measure_default_offline_store(events: int, scratch: Path, time_limit: float) -> dict[str, Any]:
    """Join all users at one cutoff with DuckDB and with the default store (Dask).

    Args:
        time_limit: seconds after which the default store is stopped.
    """
    with TemporaryDirectory(dir=scratch) as folder:
        _publish(Path(folder), events)
        generation = current_generation(Path(folder))
        results: dict[str, Any] = {"events": events, "asked_rows": users_of(events) + 1}
        for name, kind in (("duckdb", "duckdb"), ("default", "dask")):
            config = generation / "feature_store.yaml"
            settings = yaml.safe_load(config.read_text())
            settings["offline_store"] = {"type": kind}
            config.write_text(yaml.safe_dump(settings))
            context = multiprocessing.get_context("spawn")
            here, there = context.Pipe()
            process = context.Process(target=_join, args=(generation, events, there))
            process.start()
            seconds, rows = here.recv() if here.poll(time_limit) else (None, None)
            process.kill()
            process.join()
            results[name] = {"seconds": seconds, "rows": rows, "time_limit_s": time_limit}
        return results


def _join(generation: Path, events: int, pipe: Any) -> None:
    users = [f"u{u}" for u in range(users_of(events) + 1)]
    moment = pd.Timestamp(T1) - timedelta(microseconds=1)
    entities = pd.DataFrame({"user_id": users, "event_timestamp": moment})
    store = open_feature_store(generation)
    started = time.monotonic()
    found = store.get_historical_features(entities, ["user_sequence:item_ids"]).to_arrow()
    pipe.send((time.monotonic() - started, found.num_rows))


def _publish(folder: Path, events: int) -> None:
    simulate(events, folder / "days")
    users = [f"u{u}" for u in range(users_of(events) + 1)]
    moments = pa.array([T1] * len(users), TIMESTAMP)
    publish(
        folder,
        interactions=folder / "days",
        items=None,
        impressions=None,
        cutoffs=pa.table({"user_id": users, "cutoff": moments}),
        as_of=END,
    )
