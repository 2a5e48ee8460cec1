"""Figures inside other documents: a few of the page's rows, between markers that name them."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.published import BEST_SASREC
from benchmarks.results_page.files import read
from benchmarks.results_page.subjects import freshness, kernels, serving, training
from benchmarks.results_page.subjects.quality import DATASETS, best_first, figures, published
from benchmarks.results_page.table import Subject, lines, number, share, times

QUALITY_ROWS = (
    "large",
    "default",
    "sparse",
    "best published SASRec",
    "paper",
    "bigram Markov",
    "popularity",
)


@dataclass(frozen=True)
class Picked:
    """A row of the page that the README shows.

    Attributes:
        label: what the README calls it; empty for the row's own words.
        what: how the row's own `what` begins.
        peer: how the row's peer begins.
    """

    label: str
    subject: Callable[[], Subject]
    what: str
    peer: str = ""


PICKED = (
    Picked(
        "a refit on everything, simulated shop: NDCG@10 of the next event / of all after (s)",
        freshness.refits,
        "simulated shop: refit from scratch, the same epochs",
    ),
    Picked(
        "training, full softmax: seconds an epoch (peak GiB)",
        training.epochs,
        "seconds an epoch, softmax, one process",
    ),
    Picked(
        "training: seconds to validation NDCG@10 .17 (reached)",
        training.epochs,
        "seconds to validation NDCG@10 .17",
    ),
    Picked(
        "attention with dropout, forward + backward: ms",
        kernels.attention_cpu,
        "ms, MovieLens-like users, dropout",
        "padded SDPA",
    ),
    Picked(
        "attention in bfloat16, forward + backward: ms",
        kernels.attention_gpu,
        "ms, MovieLens-like users, no dropout",
        "FlashAttention-2",
    ),
    Picked(
        "serving 100,000 items at 70 % load: p50 / p99 / p99.9 ms",
        serving.load,
        "p50 / p99 / p99.9 ms at 70 % of it, 100,000 items",
        "`@bentoml.api`",
    ),
    Picked(
        "serving 100,000 items: peak requests/s",
        serving.load,
        "peak requests/s, 100,000 items",
        "FastAPI",
    ),
    Picked("", serving.faults, "acknowledged events lost in "),
)


def fill(path: str, text: str) -> str:
    """A document with every block between its markers made anew.

    Args:
        path: of the document, one of `BLOCKS`.

    Raises:
        ValueError: a block's markers are not there.
    """
    for name, block in BLOCKS[path].items():
        begin, end = f"<!-- {name}: python -m benchmarks.results_page -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{path}: {begin} and {end} must enclose the block {name!r}")
        text = f"{before}{begin}\n{block()}\n{end}{after}"
    return text


def quality() -> str:
    """A column per data set."""
    cells = []
    for name in QUALITY_ROWS:
        row = [name if name not in ("large", "default", "sparse", "paper") else f"`{name}`"]
        for dataset in DATASETS:
            if name in best_first(dataset):
                row.append(figures(dataset, name))
            else:
                row.append(published(BEST_SASREC[dataset]) if name.startswith("best") else "")
        cells.append(tuple(row))
    return lines(("", *DATASETS.values()), cells)


def results() -> str:
    """A row for each of `PICKED`, without command and commit."""
    cells = []
    for picked in PICKED:
        row = next(
            row
            for row in picked.subject().rows
            if row.what.startswith(picked.what) and row.peer.startswith(picked.peer)
        )
        cells.append((picked.label or row.what, row.here, row.peer, row.ratio, row.source.hardware))
    return lines(("what", "this project", "peer", "ratio", "hardware"), cells)


def limits() -> str:
    """What serving does not do, with 100,000 items."""
    size = 100_000
    summary = read(f"serving-throughput-{size}")["history_50"]["summary"]
    over = {name: summary["overload"][name]["median"] for name in summary["overload"]}
    ratios = {name: summary["ratios"][name]["median"] for name in summary["ratios"]}
    refusals = (
        f"A refusal takes {number(over['refused_p50_ms'], 2)} ms (p50) to "
        f"{number(over['refused_p99_ms'], 2)} ms (p99)."
        if over["refused_p50_ms"]
        else "Nothing was refused: 96 connections of the load generator had their turn in time."
    )
    return "\n".join(
        (
            f"- Requests/s are {times(ratios['requests_to_bentoml_api'])} of `@bentoml.api`'s and "
            f"{times(ratios['requests_to_fastapi'])} of FastAPI's.",
            f"- p99 is {number(serving.latency(size, 'ours', 'p99'), 2)} ms at 70 % load.",
            f"- At three times the peak, {share(over['goodput_share'], 3)} of the peak is "
            f"answered. {refusals}",
        )
    )


def example_run() -> dict[str, str]:
    """What the committed run of the simulated shop shows: stage to its figures in the README."""
    run = read("pipeline-simulated-global-time")
    said = {stage: f"{seconds:.1f} s" for stage, seconds in run["seconds"].items()}
    said["ingest"] += (
        f"  {run['data']['events']:,} interactions, split {run['split']['sha256'][:12]}"
    )
    said["evaluate"] += f"  test NDCG@10 {run['metrics']['ndcg@10']:.4f}"
    said["gate"] += f"  {run['gate']['verdict']}: {run['gate']['reason']}"
    said["register"] += f"  {run['model_version']}"
    return said


BLOCKS = {
    "README.md": {"quality": quality, "results": results},
    "docs/serving.md": {"limits": limits},
}
