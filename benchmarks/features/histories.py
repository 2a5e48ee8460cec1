"""Appending to and reading the online history, and how soon another process sees an append."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from feature_repo.history import StoredEvent, open_history

APPENDS = 1_000
USERS = 50
READ_LENGTH = 200


def measure(location: str | Path) -> dict[str, Any]:
    """Latencies in milliseconds with 1 and 4 processes, and what 4 at once lost or repeated."""
    results: dict[str, Any] = {}
    for processes in (1, 4):
        open_history(location).clear()
        appends = np.concatenate(in_processes(processes, _append, location))
        reads = np.concatenate(in_processes(processes, _read, location))
        stored = _stored(location)
        results[f"{processes}_processes"] = {
            "append_ms": percentiles(appends),
            f"latest_{READ_LENGTH}_ms": percentiles(reads),
            "appended": processes * APPENDS,
            "lost": processes * APPENDS - len(set(stored)),
            "repeated": len(stored) - len(set(stored)),
            "in_order": stored == sorted(stored),
        }
    results["freshness_ms"] = percentiles(_freshness(location))
    return results


def measure_disk(folder: Path) -> dict[str, float]:
    """What a durable append costs at least: 4 KiB more in a file, and the wait for the disk."""
    seconds = np.empty(APPENDS)
    with (folder / "floor").open("wb", buffering=0) as file:
        for i in range(APPENDS):
            started = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            seconds[i] = time.perf_counter() - started
    return percentiles(seconds)


def percentiles(seconds: np.ndarray) -> dict[str, float]:
    """p50, p99 and maximum, in milliseconds."""
    p50, p99, maximum = np.quantile(seconds, [0.5, 0.99, 1.0]) * 1e3
    return {"p50": float(p50), "p99": float(p99), "max": float(maximum)}


def in_processes(processes: int, work: Callable[[Any, int], np.ndarray], location: Any) -> list:
    """What `work(location, worker)` returns in each of several processes that run at once."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(_ready, range(processes), chunksize=1)
        return pool.starmap(work, [(location, w) for w in range(processes)], chunksize=1)


def _ready(_: int) -> None:
    """Long enough that every process has started before the work is handed out."""
    time.sleep(1)


def _append(location: str | Path, worker: int) -> np.ndarray:
    """Every process appends to the same users."""
    history = open_history(location)
    seconds = np.empty(APPENDS)
    for i in range(APPENDS):
        event = StoredEvent(f"e{worker}-{i}", f"i{i}", "view", i * 10 + worker)
        started = time.perf_counter()
        history.append(f"u{i % USERS}", event)
        seconds[i] = time.perf_counter() - started
    return seconds


def _read(location: str | Path, worker: int) -> np.ndarray:
    """Read histories that are long enough."""
    history = open_history(location)
    reader = f"reader{worker}"
    history.append_many((reader, StoredEvent(f"e{i}", f"i{i}", "view", i)) for i in range(1_000))
    seconds = np.empty(APPENDS)
    for i in range(APPENDS):
        started = time.perf_counter()
        found = history.latest(reader, READ_LENGTH)
        seconds[i] = time.perf_counter() - started
        if len(found) != READ_LENGTH:
            raise AssertionError(f"{len(found)} of {READ_LENGTH} events were read")
    return seconds


def _stored(location: str | Path) -> list[tuple[str, int, str]]:
    history = open_history(location)
    return [
        (f"{user:03}", event.timestamp, event.event_id)
        for user in range(USERS)
        for event in history.latest(f"u{user}", 10_000)
    ]


def _freshness(location: str | Path) -> np.ndarray:
    """Seconds from before an append here until another process has read it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    watcher = context.Process(target=_watch, args=(location, there, 200))
    watcher.start()
    here.recv()
    history = open_history(location)
    delays = []
    for i in range(200):
        started = time.perf_counter()  # CLOCK_MONOTONIC, shared by the processes of a machine
        history.append("watched", StoredEvent(f"w{i}", "i", "view", i))
        delays.append(here.recv() - started)
        time.sleep(0.005)
    watcher.join()
    return np.array(delays)


def _watch(location: str | Path, pipe: Any, events: int) -> None:
    history = open_history(location)
    history.latest("watched", 1)
    pipe.send("ready")
    for i in range(events):
        while not ((newest := history.latest("watched", 1)) and newest[0].timestamp >= i):
            time.sleep(0.0005)
        pipe.send(time.perf_counter())
