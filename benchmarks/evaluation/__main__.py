"""Measure the evaluation itself: time, memory, and the coverage of off-policy intervals.

    python -m benchmarks.evaluation                # all three parts
    python -m benchmarks.evaluation --parts speed

Each part writes `benchmarks/results/evaluation-<part>.json`. Nothing is downloaded.
"""

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.evaluation.off_policy import measure_coverage
from benchmarks.evaluation.speed import measure_scale, measure_speed
from benchmarks.provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
PARTS = {"speed": measure_speed, "coverage": measure_coverage, "scale": measure_scale}


def main() -> None:
    """Run the parts, each in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for part in arguments.parts:
        result = PARTS[part]() | {"provenance": provenance()}
        (RESULTS / f"evaluation-{part}.json").write_text(json.dumps(result, indent=1) + "\n")
        Console().print(part, result)


if __name__ == "__main__":
    main()
