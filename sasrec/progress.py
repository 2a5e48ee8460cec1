"""What a person watches and a machine reads while a model trains or is evaluated."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LOG = "train.jsonl"


@contextmanager
def bar(total: int) -> Iterator[Callable[[str, int], None]]:
    """A bar on a terminal, nothing elsewhere; call it with what is done and how many more."""
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda what, more: progress.update(task, description=what, advance=more)


class TrainingLog:
    """A bar on a terminal, a line per epoch elsewhere, and one JSON object per epoch in a file.

    Args:
        run_dir: `train.jsonl` is written here.
        history: epochs already trained; the file is rewritten to hold exactly these.
        epochs: upper bound of epochs.
        steps: steps per epoch.
        enabled: false on all but one process of a distributed run.
    """

    def __init__(
        self,
        run_dir: Path,
        history: list[dict[str, Any]],
        *,
        epochs: int,
        steps: int,
        enabled: bool = True,
    ) -> None:
        self.path, self.epochs, self.steps, self.enabled = run_dir / LOG, epochs, steps, enabled
        self.console = Console(file=sys.stderr)
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  val NDCG@10 {task.fields[ndcg]:.4f}"),
            TextColumn("{task.fields[rate]:,.0f} tokens/s"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (enabled and self.console.is_terminal),
        )
        self.task = self.bar.add_task(
            "training", total=epochs * steps, epoch=len(history), loss=0.0, ndcg=0.0, rate=0.0
        )
        if enabled:
            self.path.write_text("".join(json.dumps(line) + "\n" for line in history))

    def __enter__(self) -> "TrainingLog":
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def step(self, epoch: int, step: int, loss: float, rate: float) -> None:
        """Show the mean loss so far and the tokens per second of this epoch."""
        self.bar.update(
            self.task, completed=epoch * self.steps + step, epoch=epoch + 1, loss=loss, rate=rate
        )

    def epoch(self, line: dict[str, Any]) -> None:
        """Append one epoch to the file."""
        if not self.enabled:
            return
        with self.path.open("a") as log:
            log.write(json.dumps(line) + "\n")
        self.bar.update(self.task, ndcg=line.get("ndcg@10", 0.0))
        if not self.console.is_terminal:
            scores = f"  val NDCG@10 {line['ndcg@10']:.4f}" if "ndcg@10" in line else ""
            self.console.print(
                f"epoch {line['epoch']}/{self.epochs}  loss {line['loss']:.4f}{scores}"
                f"  {line['tokens_per_second']:,.0f} tokens/s  {line['seconds']:.1f} s",
                highlight=False,
            )
