"""Measure the evaluation itself: time, memory, agreement, and coverage of off-policy intervals.

    python -m benchmarks.evaluation                # all parts but agreement
    python -m benchmarks.evaluation --parts speed
    python -m benchmarks.evaluation --parts agreement --reference-python VENV/bin/python

`agreement` compares with RecTools and ranx, which live in an environment of their own:
`pip install rectools ranx`. Each part writes `benchmarks/results/evaluation-<part>.json`.
"""

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.evaluation.agreement import measure_agreement
from benchmarks.evaluation.off_policy import measure_coverage
from benchmarks.evaluation.speed import measure_scale, measure_speed
from benchmarks.provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
PARTS = {"speed": measure_speed, "coverage": measure_coverage, "scale": measure_scale}
AGREEMENT = "agreement"


def main() -> None:
    """Run the parts, each in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, AGREEMENT], default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reference-python", help="an interpreter with RecTools and ranx")
    arguments = parser.parse_args()
    if AGREEMENT in arguments.parts and not arguments.reference_python:
        parser.error("agreement needs --reference-python")
    torch.set_num_threads(arguments.threads)
    parts = PARTS | {AGREEMENT: lambda: measure_agreement(arguments.reference_python)}
    for part in arguments.parts:
        result = parts[part]() | {"provenance": provenance()}
        (RESULTS / f"evaluation-{part}.json").write_text(json.dumps(result, indent=1) + "\n")
        Console().print(part, result)


if __name__ == "__main__":
    main()
