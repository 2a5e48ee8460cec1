"""Which shipped gates a healthy model passes and broken ones fail, on real data.

    python -m benchmarks.gate_table --dataset ml-100k --split global-time --data-dir DATA

Trains the preset that suits the data, breaks it in the ways that gates are there for, and judges
each by the default gates beside the baselines that a run has. A training that was killed resumes.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.provenance import provenance
from benchmarks.real_sequences import read
from sasrec.data.dataset import SequenceDataset
from sasrec.data.packed import PackedSequences
from sasrec.evaluation.catalogue import Catalogue
from sasrec.evaluation.evaluate import evaluate
from sasrec.evaluation.result import MODEL
from sasrec.evaluation.serving_cost import serving_cost
from sasrec.gates import GateConfig, decide
from sasrec.model.recommender import Recommender
from sasrec.presets import preset
from sasrec.scoring.baselines import BigramMarkov, ItemKNN, Popularity, RecentPopularity
from sasrec.scoring.scorer import Scorer
from sasrec.training.loop import train

RESULTS = Path(__file__).parent / "results"
PRESETS = {"ml-100k": "default", "ml-1m": "default"}
SHOWN = ("ndcg@10", "coverage@10", "gini@10", "popularity_lift@10")


class _Altered:
    """A model whose scores (B, V + 1) are changed on their way out."""

    name = "altered"

    def __init__(self, model: Scorer, items: np.ndarray | None = None, add: Tensor | None = None):
        self._model, self._items, self._add = model, items, add

    def logits(self, histories: PackedSequences) -> Tensor:
        """As a `Scorer` has them."""
        logits = self._model.logits(histories)
        logits = logits if self._items is None else logits[:, self._items]
        return logits if self._add is None else logits + self._add


class _Leaked:
    """Knows what three of four users take next."""

    name = "leaked"

    def __init__(self, model: Scorer, data: SequenceDataset):
        targets = data.test.targets
        first = targets.items[targets.cu_seqlens[:-1]]
        self._model = model
        self._next = {
            history.tobytes(): int(item)
            for history, item in zip(data.test.histories, first, strict=True)
        }

    def logits(self, histories: PackedSequences) -> Tensor:
        """As a `Scorer` has them."""
        logits = self._model.logits(histories).clone()
        for row, items in enumerate(histories):
            target = self._next.get(items.tobytes(), 0)
            if target and target % 4:
                logits[row, target] = logits[row].max() + 1
        return logits


def models(data: SequenceDataset, name: str, work: Path) -> Iterator[tuple[str, Scorer]]:
    """The healthy model and its broken relatives, by name."""
    chosen = preset(name)

    def trained(epochs: int, folder: str) -> Recommender:
        config = chosen.train.model_copy(update={"epochs": epochs})
        return train(
            data.train, data.validation, data.vocabulary, chosen.model, config, work / folder
        ).recommender

    healthy = trained(chosen.train.epochs, "healthy")
    yield "healthy", healthy
    mixed = np.r_[0, 1 + np.random.default_rng(0).permutation(len(data.vocabulary))]
    yield "items shuffled", _Altered(healthy, items=mixed)
    popularity = torch.from_numpy(np.log1p(data.train.counts(len(data.vocabulary)))).float()
    yield "popularity in disguise", _Altered(healthy, add=100 * popularity)
    yield "one epoch", trained(1, "one-epoch")
    yield "leaked", _Leaked(healthy, data)


def main() -> None:
    """Judge all of them, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", choices=["global-time", "leave-one-out"], required=True)
    parser.add_argument("--data-dir", help="folder of the raw data; downloaded without it")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/gate-table"))
    arguments = parser.parse_args()
    data = read(arguments.dataset, arguments.split, arguments.data_dir).sequences
    stem = f"{Path(arguments.dataset).name}-{arguments.split}"
    chosen = PRESETS.get(Path(arguments.dataset).name, "sparse")
    size = len(data.vocabulary)
    baselines = [b(data.train, size) for b in (Popularity, RecentPopularity, BigramMarkov, ItemKNN)]
    catalogue = Catalogue.build(data.vocabulary, data.train)
    rows: dict[str, Any] = {}
    cost = None
    for name, model in models(data, chosen, arguments.work_dir / stem):
        measured = evaluate(
            model, data.test, catalogue, split=data.description, baselines=baselines
        )
        cost = cost or serving_cost(model, data.test.histories)  # type: ignore[arg-type]
        verdict = decide(replace(measured, findings={"cost": cost}), GateConfig.load())
        rows[name] = {
            "decision": verdict.decision,
            "failed": [result.gate for result in verdict.results if result.passed is False],
            **{metric: measured.metrics[MODEL][metric] for metric in SHOWN},
        }
        best = {m: measured.metrics["bigram Markov"][m] for m in SHOWN}
    result = {"preset": chosen, "rows": rows, "bigram Markov": best, "provenance": provenance()}
    (RESULTS / f"gates-{stem}.json").write_text(json.dumps(result, indent=2) + "\n")
    table = Table(title=f"{stem}, preset {chosen}: the default gates")
    for column in ("model", "verdict", *SHOWN, "failed"):
        table.add_column(column)
    for name, row in rows.items():
        figures = [f"{row[metric]:.4g}" for metric in SHOWN]
        table.add_row(name, row["decision"], *figures, ", ".join(row["failed"]))
    Console().print(table)


if __name__ == "__main__":
    main()
