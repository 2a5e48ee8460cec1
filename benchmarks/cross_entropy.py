"""The losses over a large catalogue, streamed, against holding every logit.

    python -m benchmarks.cross_entropy --device cpu
    python -m benchmarks.cross_entropy --device cuda

Forward + backward, each arm in a process of its own, the arms in turns: time (on a GPU by replay
of a CUDA graph), and peak memory beyond the inputs, the gradients included. Results go to
benchmarks/results/cross_entropy-DEVICE.json.
"""

import argparse
import json
import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import stopwatch
from benchmarks.provenance import provenance
from kernels import next_item_cross_entropy, sampled_cross_entropy
from kernels.cross_entropy import reference

RESULTS = Path(__file__).parent / "results"
IMPLEMENTATIONS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "streamed": (next_item_cross_entropy, sampled_cross_entropy),
    "plain": (reference.next_item_cross_entropy, reference.sampled_cross_entropy),
}


@dataclass(frozen=True)
class Size:
    """A batch and its catalogue; with negatives the loss is the sampled one."""

    tokens: int
    items: int
    width: int
    negatives: int = 0


SIZES = {
    "cpu": (Size(2048, 10_000, 64), Size(2048, 100_000, 64), Size(8192, 100_000, 64, 8192)),
    "cuda": (Size(25_600, 100_000, 64), Size(25_600, 1_000_000, 64)),
}


def training_step(name: str, size: Size, device: str) -> Callable[[], tuple[Tensor, ...]]:
    """Loss and gradients of one batch."""
    torch.manual_seed(0)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    hidden = torch.randn(size.tokens, size.width, device=device, dtype=dtype, requires_grad=True)
    table = torch.randn(size.items, size.width, device=device, dtype=dtype) * size.width**-0.5
    table.requires_grad_()
    targets = torch.randint(size.items, (size.tokens,), device=device)
    negatives = torch.randint(size.items, (size.negatives,), device=device)
    whole, sampled = IMPLEMENTATIONS[name]

    def step() -> tuple[Tensor, ...]:
        loss = (
            sampled(hidden, table, targets, negatives)
            if size.negatives
            else whole(hidden, table, targets)
        )
        return torch.autograd.grad(loss, (hidden, table))

    return step


def measured(name: str, size: Size, device: str, repeats: int, threads: int) -> dict[str, Any]:
    """Seconds of each repetition and peak bytes, in this process."""
    torch.set_num_threads(threads)
    training_step(name, Size(64, 64, size.width, 8), device)()
    step = training_step(name, size, device)
    if device == "cuda":
        peak = stopwatch.gpu_peak_bytes(step)
        return {"seconds": stopwatch.gpu_seconds([step], repeats), "peak_bytes": peak}
    before = _peak_rss()
    step()
    peak = _peak_rss() - before
    return {"seconds": [stopwatch.wall_seconds(step) for _ in range(repeats)], "peak_bytes": peak}


def _peak_rss() -> int:
    """Peak resident bytes of this process (unlike getrusage's, not of the one that began it)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def compared(size: Size, arguments: argparse.Namespace) -> dict[str, Any]:
    """All arms in turns, each turn a process."""
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in IMPLEMENTATIONS}
    for _ in range(arguments.turns):
        for name, runs in turns.items():
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as process:
                job = (name, size, arguments.device, arguments.repeats, arguments.threads)
                try:
                    runs.append(process.submit(measured, *job).result())
                except torch.OutOfMemoryError as error:
                    print(f"  {name}: {str(error).splitlines()[0]}")
    report: dict[str, Any] = {"size": asdict(size)}
    for name, runs in turns.items():
        if runs:
            seconds = [second for run in runs for second in run["seconds"]]
            peak = max(run["peak_bytes"] for run in runs)
            report[name] = {"ms": stopwatch.summary(seconds), "peak_bytes": peak}
    if all(name in report for name in IMPLEMENTATIONS):
        plain, streamed = report["plain"], report["streamed"]
        report["times as fast"] = plain["ms"]["median"] / streamed["ms"]["median"]
        report["share of memory"] = streamed["peak_bytes"] / plain["peak_bytes"]
    return report


def show(report: dict[str, Any]) -> None:
    """Two lines and the ratios."""
    print(", ".join(f"{value:,} {name}" for name, value in report["size"].items() if value))
    for name in IMPLEMENTATIONS:
        if name in report:
            arm = report[name]
            print(f"  {name:10}{arm['ms']['median']:10.1f} ms{arm['peak_bytes'] / 1e6:10.1f} MB")
    if "times as fast" in report:
        share = report["share of memory"]
        print(f"  {report['times as fast']:.2f} times as fast in {share:.3f} of the memory")


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--turns", type=int, default=3, help="processes of each arm")
    parser.add_argument("--repeats", type=int, default=3, help="in each process")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="on a CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    reports = []
    for size in SIZES[arguments.device]:
        reports.append(compared(size, arguments))
        show(reports[-1])
    on_cpu = arguments.device == "cpu"
    device = "cpu" if on_cpu else re.sub(r"\W+", "-", torch.cuda.get_device_name()).lower()
    path = RESULTS / f"cross_entropy-{device}.json"
    path.write_text(json.dumps({"provenance": provenance(), "sizes": reports}, indent=1) + "\n")


if __name__ == "__main__":
    main()
