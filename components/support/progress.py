"""What a person sees while the pipeline runs: a line per stage, and the training's progress."""

import json
import threading
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from components.support.stage import STAGES, read_stages

REFRESH_SECONDS = 0.2
TRAINING = ("train", "evaluate", "refit")  # which may train the champion's recipe, and the rest


def watch(run_dir: Path, console: Console, finished: threading.Event) -> None:
    """Show the stages of `run_dir` until `finished` is set: live on a terminal, else by line."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=8) as live:
            while not finished.wait(REFRESH_SECONDS):
                live.update(_table(run_dir))
            live.update(_table(run_dir))
        return
    printed: set[str] = set()
    while not finished.wait(REFRESH_SECONDS):
        _print_new(run_dir, console, printed)
    _print_new(run_dir, console, printed)


def _table(run_dir: Path) -> Table:
    table = Table.grid(padding=(0, 2))
    records = read_stages(run_dir)
    for name in STAGES:
        if name not in records:
            table.add_row("[dim]·", f"[dim]{name}", "", "")
            continue
        record = records[name]
        mark = {"done": "[green]✓", "failed": "[red]✗"}.get(record["status"])
        table.add_row(
            mark or Spinner("dots"), name, _seconds(record), _detail(name, record, run_dir)
        )
    return table


def _print_new(run_dir: Path, console: Console, printed: set[str]) -> None:
    for name, record in read_stages(run_dir).items():
        if record["status"] != "running" and name not in printed:
            printed.add(name)
            mark = "✓" if record["status"] == "done" else "✗"
            console.print(
                f"{mark} {name:<18} {_seconds(record):>8}  {_detail(name, record, run_dir)}",
                highlight=False,
                soft_wrap=True,
            )


def _seconds(record: dict[str, Any]) -> str:
    return "" if record["status"] == "running" else f"{record['seconds']:.1f} s"


def _detail(name: str, record: dict[str, Any], run_dir: Path) -> str:
    running = record["status"] == "running"
    return _training_line(run_dir) if running and name in TRAINING else record["detail"]


def _training_line(run_dir: Path) -> str:
    """The newest epoch, read from the log that training writes for machines."""
    pointer = run_dir / "training_dir"
    log = Path(pointer.read_text()) / "train.jsonl" if pointer.exists() else None
    if log is None or not log.exists() or not (lines := log.read_text().splitlines()):
        return ""
    epoch = json.loads(lines[-1])
    score = f"NDCG@10 {epoch['ndcg@10']:.4f}  " if "ndcg@10" in epoch else ""
    return (
        f"epoch {epoch['epoch']}  loss {epoch['loss']:.3f}  "
        f"{score}{epoch['tokens_per_second'] / 1e3:.0f}k events/s"
    )
