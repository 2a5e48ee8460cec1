"""The results as a Markdown table: each target beside what was measured, missed ones included."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

Results = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        target: the largest value that meets it, in `unit`; None for what is only compared.
        value: of the results; a KeyError means that it was not measured.
    """

    what: str
    target: float | None
    unit: str
    value: Callable[[Results], float | None]


def _figure(*path: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        found: Any = results
        for name in path:
            found = found[name]
        return found

    return value


def table(results: Results) -> str:
    """One line per target and comparison; `results` as `features.json` holds them."""
    measured = {name: part["result"] for name, part in results.items()}
    lines = ["| what | target | measured | |", "|---|---|---|---|"]
    lines += [_line(row, measured) for row in ROWS]
    return "\n".join(lines)


def _line(row: Row, measured: Results) -> str:
    target = "" if row.target is None else f"{row.target:g} {row.unit}"
    try:
        value = row.value(measured)
    except KeyError:
        return f"| {row.what} | {target} | not measured | |"
    if value is None:
        return f"| {row.what} | {target} | did not end in time | |"
    verdict = "" if row.target is None else "met" if value <= row.target else "missed"
    return f"| {row.what} | {target} | {value:,.4g} {row.unit} | {verdict} |"


def _builds() -> list[Row]:
    rows = []
    for name, size, target in (
        ("1 M", "1e+06", 5.0),
        ("10 M", "1e+07", None),
        ("100 M", "1e+08", None),
    ):
        part = f"build {size}"
        rows += [
            Row(
                f"build + extraction, {name} interactions",
                target,
                "s",
                _figure(part, "build_and_extract_s"),
            ),
            Row(
                f"peak memory, {name}",
                12,
                "GiB",
                _figure(part, "peak_memory_gib"),
            ),
        ]
    for small, large, name in (
        ("1e+06", "1e+07", "1 M to 10 M"),
        ("1e+07", "1e+08", "10 M to 100 M"),
    ):
        rows.append(
            Row(
                f"time per interaction, {name}",
                1.2,
                "×",
                partial(_growth, f"build {small}", f"build {large}"),
            )
        )
    return rows


def _growth(small: str, large: str, results: Results) -> float:
    """Time per event at the larger size against the smaller: 1 is linear."""
    smaller, larger = results[small], results[large]
    key = "build_and_extract_s"
    return float((larger[key] / larger["events"]) / (smaller[key] / smaller["events"]))


def _lost_or_repeated(part: str, results: Results) -> float:
    appends = results[part]["4_processes"]
    return appends["lost"] + appends["repeated"]


def _histories() -> list[Row]:
    rows = [Row("the disk alone: 4 KiB and fdatasync, p99", None, "ms", lambda r: r["disk"]["p99"])]
    for store, append_target in (
        ("sqlite", 2.0),
        ("sqlite in memory", None),
        ("redis everysec", 1.0),
        ("redis always", None),
    ):
        part = f"history {store}"
        for processes in ("1_processes", "4_processes"):
            who = f"{store}, {processes[0]} process{'es' if processes[0] != '1' else ''}"
            for name, target in (("append_ms", append_target), ("latest_200_ms", 1.0)):
                what = "append" if name == "append_ms" else "latest(200)"
                rows += [
                    Row(
                        f"{what}, {who}, p50",
                        None,
                        "ms",
                        _figure(part, processes, name, "p50"),
                    ),
                    Row(
                        f"{what}, {who}, p99",
                        target,
                        "ms",
                        _figure(part, processes, name, "p99"),
                    ),
                ]
        rows += [
            Row(
                f"lost or repeated of 4 × 1,000 appends, {store}",
                0,
                "events",
                partial(_lost_or_repeated, part),
            ),
            Row(
                f"append here to visible there, {store}, p99",
                20,
                "ms",
                _figure(part, "freshness_ms", "p99"),
            ),
        ]
    return rows


def _beside() -> list[Row]:
    push = "plain feast push"
    return [
        Row(
            "Feast's push after reading, 1 process, p99",
            None,
            "ms",
            lambda r: r[push]["1_processes"]["append_ms"]["p99"],
        ),
        Row(
            "Feast's push after reading, 4 processes, p99",
            None,
            "ms",
            lambda r: r[push]["4_processes"]["append_ms"]["p99"],
        ),
        Row(
            "Feast's push after reading, lost of 4 × 200",
            None,
            "events",
            lambda r: r[push]["4_processes"]["lost"],
        ),
        Row(
            "one cut of 1 M, DuckDB offline store",
            None,
            "s",
            lambda r: r["offline stores"]["duckdb"]["seconds"],
        ),
        Row(
            "one cut of 1 M, Feast's default offline store",
            None,
            "s",
            lambda r: r["offline stores"]["default"]["seconds"],
        ),
        Row("build, 1 M, Spark on this machine", None, "s", lambda r: r["spark 1e+06"]["build_s"]),
        Row("build, 10 M, Spark on this machine", None, "s", lambda r: r["spark 1e+07"]["build_s"]),
    ]


ROWS = _builds() + _histories() + _beside()
