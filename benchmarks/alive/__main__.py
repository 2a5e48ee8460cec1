"""What a site gains that is alive between its runs, part by part.

    python -m benchmarks.alive trend                                   # the simulated shop
    python -m benchmarks.alive trend --dataset ml-100k --data-dir DATA
    python -m benchmarks.alive trend --dataset amazon-beauty-5core --data-dir DATA
    python -m benchmarks.alive trend-cost
    python -m benchmarks.alive launches                                # the simulated shop

Each (data set, seed) is one result file; a finished one is not run again and a killed one resumes
from its checkpoint, so the command can be stopped and repeated.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.alive import launches, trend
from benchmarks.alive.trend_cost import main as trend_cost

PARTS = {"trend": trend.main, "trend-cost": trend_cost, "launches": launches.main}


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--dataset", choices=trend.PRESETS, default="simulated")
    parser.add_argument("--data-dir", help="folder of the raw data; downloaded without it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="train no longer; by default as the preset does")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/alive"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    PARTS[arguments.part](arguments)


if __name__ == "__main__":
    main()
