"""All that needs a GPU, in order of value, within the minutes that one is at hand.

    python -m benchmarks.gpu --plan
    python -m benchmarks.gpu --minutes 25 --data-dir DATA

Prints its plan first. Each part is a command of its own, whose result file it writes itself; what
was run, for how long and how it ended goes to benchmarks/results/gpu-DEVICE.json as each part ends.
A part that ended well at this commit on this device is not run again, and one that would not fit
into the minutes left is not begun: call it again to go on. Needs torch, Triton and the project's
own packages, and no network.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import provenance

RESULTS = Path(__file__).parent / "results"
DATA = "DATA"  # in a command: the folder of the raw data
LAST_LINES = 15


@dataclass(frozen=True)
class Part:
    """One command.

    Attributes:
        minutes: that it takes on an H100, at most; it is stopped after twice as many.
    """

    name: str
    command: tuple[str, ...]
    minutes: float


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return ("-m", name, *arguments)


_TILES = "kernels.tiles.refresh"
PARTS = (
    Part("kernel tests", _module("pytest", "tests/kernels", "-q", "-x"), 3),
    Part(
        "CUDA graph of training",
        _module("pytest", "tests/sasrec/training/test_graphed_update.py", "-q"),
        1,
    ),
    Part(
        "tiles, half precision, heads of 32",
        _module(_TILES, "--dtype", "half", "--block-d", "32", "--processes", "8"),
        4,
    ),
    Part("training to its best", _module("benchmarks.training_gpu", "--data-dir", DATA), 4),
    Part("attention beside others", _module("benchmarks.attention", "--device", "cuda"), 4),
    Part("catalogue losses", _module("benchmarks.cross_entropy", "--device", "cuda"), 2),
    Part(
        "tiles, half precision, heads of 64",
        _module(_TILES, "--dtype", "half", "--block-d", "64", "--processes", "8"),
        4,
    ),
    Part(
        "three seeds of `default` and `large`",
        _module(
            *("benchmarks.quality", "--dataset", "ml-1m", "--data-dir", DATA),
            *("--rows", "default", "large", "--jobs", "3"),
        ),
        6,
    ),
    Part("a million items, histories of 8,192", _module("benchmarks.gpu_extremes"), 4),
    Part(
        "tiles, half precision, heads of 128",
        _module(_TILES, "--dtype", "half", "--block-d", "128", "--processes", "8"),
        5,
    ),
    Part("tiles, float32", _module(_TILES, "--dtype", "float32", "--processes", "8"), 8),
)


def remaining(done: dict[str, Any], commit: str) -> list[Part]:
    """The parts that did not end well at this commit, in order of value."""
    return [
        part
        for part in PARTS
        if done.get(part.name, {}).get("commit") != commit or done[part.name]["exit_status"] != 0
    ]


def run_part(part: Part, data_dir: str | None) -> dict[str, Any]:
    """Run one part to its end, and say how it ended."""
    given = [data_dir or "" if word == DATA else word for word in part.command]
    started = time.monotonic()
    try:
        finished = subprocess.run(
            [sys.executable, *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * 60 * part.minutes,
            check=False,
        )
        status, output = finished.returncode, finished.stdout
    except subprocess.TimeoutExpired as error:
        status, output = -1, (error.stdout or b"").decode(errors="replace")
    return {
        "command": "python " + " ".join(part.command),
        "exit_status": status,
        "minutes": round((time.monotonic() - started) / 60, 2),
        "output_ends": output.splitlines()[-LAST_LINES:],
    }


def show_plan(parts: list[Part], minutes: float) -> None:
    """What will be run, and what will not fit."""
    left = minutes
    for part in parts:
        fits = part.minutes <= left
        left -= part.minutes if fits else 0
        what = "" if fits else "  (in a later call)"
        print(f"{part.minutes:4.0f} min  {part.name}{what}\n          {' '.join(part.command)}")


def main() -> None:
    """Print the plan, run what fits, write how each part ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--data-dir", help="folder of the raw data of MovieLens-1M")
    parser.add_argument("--plan", action="store_true", help="print it and end")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not arguments.plan:
        sys.exit("error: no CUDA GPU is at hand; --plan shows what would be run")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    path = RESULTS / f"gpu-{re.sub('[^a-z0-9]+', '-', device.lower())}.json"
    done: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    origin = provenance()
    parts = remaining(done, origin["commit"])
    show_plan(parts, arguments.minutes)
    if arguments.plan:
        return
    end = time.monotonic() + 60 * arguments.minutes
    failed = []
    for part in parts:
        if time.monotonic() + 60 * part.minutes > end:
            print(f"not begun, for {part.minutes:.0f} minutes are not left: {part.name}")
            continue
        print(f"running: {part.name} ...", flush=True)
        done[part.name] = run_part(part, arguments.data_dir) | origin
        path.write_text(json.dumps(done, indent=2) + "\n")
        ended = done[part.name]
        print(*ended["output_ends"], sep="\n")
        print(f"exit status {ended['exit_status']} after {ended['minutes']} minutes", flush=True)
        failed += [part.name] if ended["exit_status"] else []
    if failed:
        sys.exit(f"error: did not end well: {', '.join(failed)}; {path} has their last lines")


if __name__ == "__main__":
    main()
