"""A site small enough to run the whole pipeline on in seconds, and the command that runs it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sasrec.data.simulated import Storefront

ROOT = Path(__file__).parent.parent
# Promotes whatever was trained at all: these tests are about the pipeline, not about the model.
EASY_GATES = """
gates:
  - name: accuracy floor
    check: metric_bound
    metric: ndcg@10
    minimum: 0.01
    when_missing: refuse
"""
QUICK = (
    "model.dim=32",
    "model.blocks=1",
    "model.max_length=50",
    "train.epochs=8",
    "train.learning_rate=0.01",
    "train.batch_tokens=512",
)


@dataclass(frozen=True)
class Site:
    """Where a small site's data, gates and state are."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "Site":
        """Write the data of a small storefront."""
        source = Storefront(seed=1, users=300, days=30).source()
        data = folder / "shop"
        data.mkdir()
        for name in ("interactions", "items", "impressions"):
            pq.write_table(getattr(source, name), data / f"{name}.parquet")
        (folder / "gates.yaml").write_text(EASY_GATES)
        return cls(folder)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def run_dir(self, name: str) -> Path:
        return self.folder / "runs" / name

    def command(
        self, name: str, *extra: str, settings: tuple[str, ...] = QUICK, imports: bool = True
    ) -> list[str]:
        """The command line of a run whose files go to `run_dir(name)`.

        Args:
            imports: name the shop's files; else the run lives on what the site has and logged.
        """
        options = [f"--set={setting}" for setting in settings]
        dataset = ["--dataset", str(self.folder / "shop")] if imports else []
        return [
            *(sys.executable, "pipeline.py", "run", *dataset),
            *("--gates", str(self.folder / "gates.yaml"), "--home", str(self.home)),
            *("--run-dir", str(self.run_dir(name)), *options, *extra),
        ]

    def run(self, name: str, *extra: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(name, *extra, **kwargs), cwd=ROOT, capture_output=True, text=True
        )

    def start(self, name: str, *extra: str) -> subprocess.Popen[str]:
        """Start a run in a process group of its own."""
        return subprocess.Popen(
            self.command(name, *extra),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | {"TERM": "dumb"},
        )

    def summary(self, name: str) -> dict[str, Any]:
        return json.loads((self.run_dir(name) / "summary.json").read_text())
