"""Keep the summaries of finished pipeline runs as results, and print them as the README's table.

`python pipeline.py run --run-dir runs/a ...`, then `python -m benchmarks.pipeline_runs runs/a ...`.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.provenance import provenance

RESULTS = Path(__file__).parent / "results"
SHOWN = ("popularity", "recent popularity", "bigram Markov", "item-kNN")


def collect(
    run_dirs: Annotated[list[Path], typer.Argument(help="Directories of finished runs.")],
) -> None:
    """Write benchmarks/results/pipeline-<data set>-<split>.json for each run."""
    print(f"| data, split, users | SASRec | {' | '.join(SHOWN)} | verdict | minutes |")
    print("|---|---|" + "---|" * len(SHOWN) + "---|---|")
    for run_dir in run_dirs:
        summary = json.loads((run_dir / "summary.json").read_text())
        dataset, kind = Path(summary["dataset"]).name, summary["split"]["kind"]
        summary["config"]["data"]["data_dir"] = None  # a folder of one machine
        command = f"python pipeline.py run --dataset {dataset} --split {kind}"
        result = {"provenance": {**provenance(), "command": command}, **summary}
        (RESULTS / f"pipeline-{dataset}-{kind}.json").write_text(
            json.dumps(result, indent=2) + "\n"
        )
        print(_row(summary))


def _row(summary: dict[str, Any]) -> str:
    figures = [summary["metrics"], *(summary["baselines"][name] for name in SHOWN)]
    cells = " | ".join(f"{f['ndcg@10']:.4f} / {f['hr@10']:.4f}" for f in figures)
    kind, users = summary["split"]["kind"], summary["split"]["counts"]["test_users"]
    minutes = sum(summary["seconds"].values()) / 60
    name = Path(summary["dataset"]).name
    return f"| {name}, {kind}, {users:,} | {cells} | {summary['gate']['verdict']} | {minutes:.1f} |"


if __name__ == "__main__":
    typer.run(collect)
