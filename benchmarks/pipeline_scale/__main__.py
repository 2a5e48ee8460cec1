"""Measure whole stages at growing sizes and write `benchmarks/results/pipeline-scale.json`.

    python -m benchmarks.pipeline_scale --work-dir DIR
    python -m benchmarks.pipeline_scale --work-dir DIR --rows 1e8 --part epoch

Every stage is a process of its own, as in the pipeline. What was measured stays in the work
directory, so a command that was stopped goes on; 100 M rows need some 60 GB there. Parts: `full` is
the first night of a site, `day` the second with one day more, `epoch` a training epoch over what
the first extracted (stopped after `--epoch-seconds`).
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.pipeline_scale.epoch import STARTED
from benchmarks.pipeline_scale.shop import write_shop
from benchmarks.provenance import provenance
from components.support.settings import build_config

RESULTS = Path(__file__).parents[1] / "results" / "pipeline-scale.json"
STAGES = ("ingest", "publish_features", "extract_sequences")
NIGHT = {"full": "first", "day": "second"}
PARTS = (*NIGHT, "epoch")
GIB = 2**30


def main() -> None:
    """Measure what is missing of the parts asked for, keep it, and say which bars are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", type=float, default=[1e6, 1e7])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--epoch-seconds", type=float, default=300)
    arguments = parser.parse_args()
    for rows in map(int, arguments.rows):
        folder = arguments.work_dir / str(rows)
        if not (folder / "shop").exists():
            write_shop(rows, folder / "shop.partial")
            (folder / "shop.partial").rename(folder / "shop")
        for part in arguments.part:
            if part == "epoch":
                measured = _kept(folder / "epoch.json") or _epoch(folder, arguments.epoch_seconds)
                (folder / "epoch.json").write_text(json.dumps(measured))
            else:
                measured = {stage: _stage(folder, part, stage) for stage in STAGES}
            _record(rows, part, measured)
    _print_bars(json.loads(RESULTS.read_text()))


def _config(folder: Path, night: str) -> str:
    data = {"dataset": str(folder / "shop" / night)}
    return build_config(overrides=["train.epochs=1"], sections={"data": data}).model_dump_json()


def _stage(folder: Path, part: str, stage: str) -> dict[str, Any]:
    """Seconds of the process and its peak memory; from an earlier call where it was measured."""
    note = folder / f"{part}-{stage}.json"
    if kept := _kept(note):
        return kept
    run_dir = folder / part
    run_dir.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.pipeline_scale.stage", stage]
    started, cpu_before = time.monotonic(), _cpu_of_children()
    subprocess.run(
        [*command, _config(folder, NIGHT[part]), str(folder / "home"), str(run_dir)], check=True
    )
    seconds = time.monotonic() - started
    record = json.loads((run_dir / "stages" / f"{stage}.json").read_text())
    measured = {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(_cpu_of_children() - cpu_before, 2),
        "peak_gib": round(record["peak_memory_mib"] / 1024, 3),
        "detail": record["detail"],
    }
    note.write_text(json.dumps(measured))
    print(folder.name, part, stage, measured, flush=True)
    return measured


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _epoch(folder: Path, most_seconds: float) -> dict[str, Any]:
    """Start an epoch, and look at its memory until it ends or has run long enough."""
    run_dir = folder / "training"
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.mkdir()
    sequences = folder / "full" / "artifacts" / "sequences"
    command = [sys.executable, "-m", "benchmarks.pipeline_scale.epoch", str(sequences)]
    training = psutil.Popen([*command, _config(folder, "first"), str(run_dir)])
    ends, resident, own = float("inf"), 0, 0
    while training.poll() is None and time.monotonic() < ends:
        time.sleep(0.2)
        with_files, alone = _memory(training)
        resident, own = max(resident, with_files), max(own, alone)
        if ends == float("inf") and (run_dir / STARTED).exists():
            ends = time.monotonic() + most_seconds
    if training.poll() is None:
        training.send_signal(signal.SIGTERM)
    if training.wait() not in (0, 128 + signal.SIGTERM):
        raise SystemExit(f"training ended with {training.returncode}")
    started = json.loads((run_dir / STARTED).read_text())
    measured = {
        "seconds_to_first_step": round(started["seconds"], 2),
        "peak_gib": round(resident / GIB, 3),
        "peak_without_mapped_files_gib": round(own / GIB, 3),
        "model_and_optimiser_gib": round(started["model_mib"] / 1024, 3),
        "epoch_ended": training.returncode == 0,
    }
    print(folder.name, "epoch", measured, flush=True)
    return measured


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Bytes that are resident, and those of them that are no file's."""
    try:
        memory = process.memory_info()
    except psutil.NoSuchProcess:
        return 0, 0
    return memory.rss, memory.rss - memory.shared


def _kept(note: Path) -> dict[str, Any] | None:
    return json.loads(note.read_text()) if note.exists() else None


def _record(rows: int, part: str, measured: dict[str, Any]) -> None:
    """Add to the results of earlier calls, with where it comes from."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    origin = provenance() | {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        **{name: version(name) for name in ("duckdb", "pyarrow", "feast", "kfp")},
    }
    size = results.setdefault(str(rows), {})
    if size.get(part, {}).get("measured") != measured:
        size[part] = {"measured": measured, "provenance": origin}
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def bars(results: dict[str, Any]) -> list[tuple[str, float, float, str]]:
    """(what, most, measured, unit) of each bar whose sizes and parts were measured."""
    found = []

    def part(rows: int, name: str) -> dict[str, Any] | None:
        return results.get(str(rows), {}).get(name, {}).get("measured")

    def seconds(measured: dict[str, Any]) -> float:
        return sum(stage["seconds"] for stage in measured.values())

    def peak(measured: dict[str, Any]) -> float:
        return max(stage["peak_gib"] for stage in measured.values())

    ten, hundred = part(10**7, "full"), part(10**8, "full")
    if ten:
        found += [
            ("10 M, ingest to sequences", 90.0, seconds(ten), "s"),
            ("10 M, memory of a stage", 3.0, peak(ten), "GiB"),
        ]
    if hundred:
        found.append(("100 M, memory of a stage", 6.0, peak(hundred), "GiB"))
    if ten and hundred:
        growth = seconds(hundred) / seconds(ten) / 10
        found.append(("100 M, time per event against 10 M", 1.2, growth, "×"))
    if ten and (day := part(10**7, "day")):
        found.append(("a day on top of 10 M", 0.2, seconds(day) / seconds(ten), "of the full time"))
    if epoch := part(10**8, "epoch"):
        beyond = epoch["peak_gib"] - epoch["model_and_optimiser_gib"]
        found += [
            ("100 M, a training epoch starts", 60.0, epoch["seconds_to_first_step"], "s"),
            ("100 M, memory of training beyond the model", 3.0, beyond, "GiB"),
        ]
    return found


def _print_bars(results: dict[str, Any]) -> None:
    for what, most, measured, unit in bars(results):
        verdict = "met" if measured <= most else "missed"
        print(f"{what}: {measured:.3g} {unit}, at most {most:g}: {verdict}")


if __name__ == "__main__":
    main()
