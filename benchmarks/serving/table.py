"""Results as people read them: a table, and each target beside its figure."""

import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from benchmarks.serving.systems import BENTOML, FASTAPI, OURS

# (what, the figure that decides, "at most" or "at least", limit)
Target = tuple[str, float, str, float]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range of a figure over rounds."""
    return {
        "median": round(statistics.median(values), 3),
        "low": round(min(values), 3),
        "high": round(max(values), 3),
    }


def ratios(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Ours over each peer's, round by round, so that what slowed a round slowed both."""
    rate = {name: _rates(runs) for name, runs in results["peak"].items()}
    p99 = {name: _latency(runs, "p99") for name, runs in results["own_70_percent"].items()}
    p99_same = {name: _latency(runs, "p99") for name, runs in results["our_70_percent"].items()}
    return {
        f"{figure}_to_{peer}": spread([o / t for o, t in zip(ours, theirs, strict=True)])
        for peer in (BENTOML, FASTAPI)
        for figure, ours, theirs in (
            ("requests", rate[OURS], rate[peer]),
            ("p99", p99[OURS], p99[peer]),
            ("p99_at_our_rate", p99[OURS], p99_same[peer]),
        )
    }


def overload(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What remains of the peak under three times as much, and how fast the rest is refused."""
    peak = statistics.median(_rates(results["peak"][OURS]))
    runs = results["overload"][OURS]
    refused = [run["milliseconds"].get("refused", {"p50": 0.0, "p99": 0.0}) for run in runs]
    return {
        "goodput_share": spread([rate / peak for rate in _rates(runs)]),
        "refused_p50_ms": spread([run["p50"] for run in refused]),
        "refused_p99_ms": spread([run["p99"] for run in refused]),
    }


def targets(items: int, summary: dict[str, Any]) -> list[Target]:
    """What issue and design ask of one catalogue and history; latency of 100,000 items alone."""
    ratio = {name: figure["median"] for name, figure in summary["ratios"].items()}
    burst = {name: figure["median"] for name, figure in summary["overload"].items()}
    found: list[Target] = [
        ("requests/s over @bentoml.api", ratio[f"requests_to_{BENTOML}"], "at least", 1.3),
        ("p99 over @bentoml.api", ratio[f"p99_to_{BENTOML}"], "at most", 0.1),
        ("requests/s over FastAPI", ratio[f"requests_to_{FASTAPI}"], "at least", 0.6),
        ("goodput at 3x over peak", burst["goodput_share"], "at least", 0.9),
        ("refused, p99 ms", burst["refused_p99_ms"], "at most", 10),
    ]
    if items == 100_000:
        found += [
            ("p99 ms at 70 %", summary["own_70_percent"]["p99"]["median"], "at most", 25),
            ("p99.9 ms at 70 %", summary["own_70_percent"]["p99.9"]["median"], "at most", 100),
        ]
    return found


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """The figures that targets are about."""
    runs = results["own_70_percent"][OURS]
    return {
        "ratios": ratios(results),
        "overload": overload(results),
        "own_70_percent": {name: spread(_latency(runs, name)) for name in ("p50", "p99", "p99.9")},
    }


def met(target: Target) -> bool:
    """Whether the figure is within its limit."""
    _, value, direction, limit = target
    return value <= limit if direction == "at most" else value >= limit


def table(title: str, results: dict[str, Any]) -> Table:
    """Medians over rounds, with their range."""
    view = Table("server", "peak requests/s", "p50 ms at 70 %", "p99", "p99.9", title=title)
    rows = [(name, runs, results["own_70_percent"][name]) for name, runs in results["peak"].items()]
    rows.append(
        ("ours, stored history", results["stored_peak"][OURS], results["stored_70_percent"][OURS])
    )
    for name, peak, steady in rows:
        latencies = [
            _with_range(_latency(steady, quantile)) for quantile in ("p50", "p99", "p99.9")
        ]
        view.add_row(name, _with_range(_rates(peak)), *latencies)
    return view


def runtimes(items: int, found: dict[str, Any]) -> Table:
    """Median milliseconds of each runtime, with quartiles."""
    histories = [name for name in found if name.startswith("history_")]
    columns = [f"ms, {name.removeprefix('history_')} in the history" for name in histories]
    view = Table("runtime", *columns, "s until it answers", title=f"{items:,} items, one thread")
    for name, seconds in found["start_seconds"].items():
        cells = [
            f"{ms['median']:.3g} ({ms['quarter']:.3g}–{ms['three_quarters']:.3g})"
            for ms in (found[history][name] for history in histories)
        ]
        view.add_row(name, *cells, str(seconds))
    return view


def _with_range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g}–{max(values):.4g})"


def _rates(runs: list[dict[str, Any]]) -> list[float]:
    return [run["ok_per_second"] for run in runs]


def _latency(runs: list[dict[str, Any]], quantile: str) -> list[float]:
    return [run["milliseconds"]["ok"][quantile] for run in runs]
