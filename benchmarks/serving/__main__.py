"""Serving under load: ours, `@bentoml.api` and FastAPI with the same model, in turns.

    python -m benchmarks.serving                       # every part, about 40 minutes
    python -m benchmarks.serving --part throughput --items 100000
    python -m benchmarks.serving --part soak --soak-seconds 3600

Each part writes `benchmarks/results/serving-<part>.json`; the throughput of each size has its own.
"""

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from benchmarks.provenance import provenance
from benchmarks.serving import systems, table
from benchmarks.serving.best_items import compare_best
from benchmarks.serving.runtimes import compare_runtimes
from benchmarks.serving.shift import GREEDY, event_to_shift
from benchmarks.serving.site import HISTORIES, USERS, build_site, user_name
from benchmarks.serving.soak import soak
from benchmarks.serving.throughput import Effort, compare

RESULTS = Path("benchmarks/results")
SIZES = (3_400, 100_000, 1_000_000)
SHIFT_AND_SOAK_ITEMS = 100_000
console = Console(width=110)


class Part(StrEnum):
    """What can be measured alone."""

    RUNTIMES = "runtimes"
    INDEX = "index"
    THROUGHPUT = "throughput"
    SHIFT = "shift"
    SOAK = "soak"


def main(
    part: Annotated[list[Part] | None, typer.Option(help="What to measure; all parts.")] = None,
    items: Annotated[list[int] | None, typer.Option(help="Items; all of SIZES.")] = None,
    rounds: Annotated[int, typer.Option(help="Turns that every server has.")] = 3,
    seconds: Annotated[float, typer.Option(help="Of steady load in each turn.")] = 10.0,
    soak_seconds: Annotated[float, typer.Option(help="Of the soak.")] = 600.0,
    soak_rate: Annotated[float, typer.Option(help="Requests per second of the soak.")] = 200.0,
    events: Annotated[int, typer.Option(help="Events whose effect is awaited.")] = 500,
) -> None:
    """Measure, print the tables, say which targets are met, and write the results."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the servers have it
    torch.set_num_threads(1)  # and as the results say
    effort = Effort(
        rounds, peak_seconds=seconds / 2, open_seconds=seconds, overload_seconds=seconds / 2
    )
    parts = part or list(Part)
    if Part.RUNTIMES in parts:
        _write("runtimes", {f"items_{size}": _runtimes(size) for size in items or SIZES})
    if Part.INDEX in parts:
        _write("index", {f"items_{size}": _index(size) for size in items or SIZES})
    if Part.THROUGHPUT in parts:
        for size in items or SIZES:
            _write(f"throughput-{size}", _throughput(size, effort))
    if Part.SHIFT in parts:
        _write("shift", _shift(SHIFT_AND_SOAK_ITEMS, events))
    if Part.SOAK in parts:
        _write("soak", _soak(SHIFT_AND_SOAK_ITEMS, soak_rate, soak_seconds))


def _runtimes(items: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        site = build_site(Path(folder), items)
        found = compare_runtimes(site.model, Path(folder), HISTORIES)
    console.print(table.runtimes(items, found))
    return found


def _index(items: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        found = compare_best(build_site(Path(folder), items).model)
    console.print(f"best of {items:,} items: {json.dumps(found)}")
    return found


def _throughput(items: int, effort: Effort) -> dict[str, Any]:
    found: dict[str, Any] = {"items": items, "workers": systems.WORKERS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        site = build_site(Path(folder), items)
        start: list[Callable[..., Any]] = [systems.ours, systems.bentoml_api, systems.fastapi]
        servers = [stack.enter_context(server(site, Path(folder))) for server in start]
        for history in HISTORIES:
            sent, stored = (site.bodies(history, stored=stored) for stored in (False, True))
            results = compare(servers, sent, stored, effort)
            summary = table.summarise(results)
            found[f"history_{history}"] = {"summary": summary, "runs": results}
            console.print(table.table(f"{items:,} items, {history} in the history", results))
            for target in table.targets(items, summary):
                name, value, direction, limit = target
                verdict = "met" if table.met(target) else "[bold]missed[/bold]"
                console.print(f"  {name}: {value:.3g}, {direction} {limit}: {verdict}")
    return found


def _shift(items: int, events: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        site = build_site(Path(folder), items)
        with systems.ours(site, Path(folder), **GREEDY) as server:
            users = [user_name(HISTORIES[0], number) for number in range(USERS)]
            found = event_to_shift(server, users, events)
    console.print(f"event to shift, other worker: {json.dumps(found)}")
    return found


def _soak(items: int, rate: float, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        site = build_site(Path(folder), items)
        with systems.ours(site, Path(folder)) as server:
            bodies = site.bodies(HISTORIES[0], stored=True)
            found = soak(server, bodies, rate=rate, seconds=seconds, warm_up=seconds / 3)
    console.print(f"soak: {found['slope_mib_per_hour']} MiB/h, {found['load']['milliseconds']}")
    return found


def _write(name: str, result: dict[str, Any]) -> None:
    content = {"provenance": provenance(), **result}
    (RESULTS / f"serving-{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
