"""Whole pipeline runs: the model beside its baselines, and what the gates said."""

from benchmarks.results_page.files import read, source
from benchmarks.results_page.table import Row, Subject, number, share, times

RUNS = {
    "ml-1m-leave-one-out": "MovieLens-1M, leave-one-out",
    "ml-100k-leave-one-out": "MovieLens-100K, leave-one-out",
    "ml-100k-global-time": "MovieLens-100K, cut in time",
    "simulated-global-time": "simulated shop, cut in time",
}
BASELINES = ("item-kNN", "bigram Markov", "recent popularity", "popularity")


def whole_runs() -> Subject:
    """Test metrics of committed runs."""
    rows = []
    for name, label in RUNS.items():
        run = read(f"pipeline-{name}")
        users = f"{run['split']['counts']['test_users']:,} users"
        rows += [
            Row(
                f"{label}, {users}; verdict: {run['gate']['verdict']}",
                _figures(run["metrics"]),
                source(run),
                f"{baseline} {_figures(run['baselines'][baseline])}",
                times(run["metrics"]["ndcg@10"] / run["baselines"][baseline]["ndcg@10"]),
            )
            for baseline in BASELINES
        ]
    return Subject(
        "Whole pipeline runs beside baselines",
        "NDCG@10 / HR@10 of the next item on test, seen items excluded; the `default` preset of "
        "the commit, one seed, "
        "test looked at once. The ratio is of NDCG@10.",
        rows,
        notes="Under a cut in time MovieLens-100K leaves 90 users to judge by; there the "
        "popularity of the last week "
        "wins, and the gate held the model. The simulated shop says that the system works, nothing "
        "about your data.",
    )


def stage_times() -> Subject:
    """How long each stage of those runs took."""
    rows = []
    for name, label in RUNS.items():
        run = read(f"pipeline-{name}")
        seconds = ", ".join(f"{stage} {number(s)}" for stage, s in run["seconds"].items())
        rows.append(Row(f"{label}, s", seconds, source(run)))
    return Subject("Seconds a stage", "The runs above, on two cores.", rows)


def _figures(metrics: dict[str, float]) -> str:
    return f"{share(metrics['ndcg@10'])} / {share(metrics['hr@10'])}"
