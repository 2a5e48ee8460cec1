"""Medians with spread: wall time on any device, GPU time by replay of a CUDA graph, and memory."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Run = Callable[[], Any]


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and extremes in milliseconds."""
    ms = sorted(second * 1e3 for second in seconds)
    low, _, high = statistics.quantiles(ms, n=4) if len(ms) > 1 else (ms[0],) * 3
    quartiles = {"quarter": low, "three_quarters": high, "least": ms[0], "most": ms[-1]}
    return {"median": statistics.median(ms), **quartiles}


def wall_seconds(run: Run) -> float:
    """One call, from its start until its last result is there."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turns(runs: Mapping[str, Run], repeats: int) -> dict[str, list[float]]:
    """Wall seconds of each, interleaved, so that a disturbance of the machine falls on all."""
    for run in runs.values():
        wall_seconds(run)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(wall_seconds(run))
    return seconds


def gpu_seconds(runs: Sequence[Run], repeats: int) -> list[float]:
    """GPU seconds of a call, from one graph that holds all of ``runs``.

    Pass the same call on as many different inputs as do not fit L2 together: each then finds the
    cache as cold as in a training step.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for run in runs:
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for run in runs:
            run()
    graph.replay()
    seconds = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3 / len(runs))
    return seconds


def gpu_peak_bytes(run: Run) -> int:
    """Most GPU memory allocated during a call beyond what was allocated before it."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
