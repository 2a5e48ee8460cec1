"""The soak: steady load for long, and what memory does meanwhile."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.serving.systems import Running
from benchmarks.serving.throughput import OPEN_CONNECTIONS

SAMPLE_SECONDS = 2.0


def soak(
    server: Running, bodies: Path, *, rate: float, seconds: float, warm_up: float
) -> dict[str, Any]:
    """Serve `rate` requests per second, and fit a line through the memory of all workers.

    The slope is Theil and Sen's, the median over all pairs of samples, with a 95 % interval: a
    page that comes and goes does not move it. Memory is what the workers alone hold (USS).
    """
    samples: list[tuple[float, int]] = []
    stop = threading.Event()
    workers = server.workers()

    def watch() -> None:
        tick = 0
        while not stop.wait(SAMPLE_SECONDS):
            tick += 1
            held = sum(worker.memory_full_info().uss for worker in workers)
            samples.append((tick * SAMPLE_SECONDS, held))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = server.load(bodies, connections=OPEN_CONNECTIONS, rate=rate, seconds=seconds)
    finally:
        stop.set()
        watcher.join()
    times, held = np.array(samples, dtype=float).T
    late = times >= warm_up
    slope, _, low, high = stats.theilslopes(held[late] / 2**20, times[late] / 3600)
    return {
        "seconds": seconds,
        "warm_up_seconds": warm_up,
        "rate": rate,
        "load": result,
        "uss_mib": {"first": round(held[0] / 2**20, 1), "last": round(held[-1] / 2**20, 1)},
        "slope_mib_per_hour": {
            "estimate": round(float(slope), 2),
            "low": round(float(low), 2),
            "high": round(float(high), 2),
        },
        "samples_mib": [round(value / 2**20, 2) for value in held[:: max(1, len(held) // 100)]],
    }
