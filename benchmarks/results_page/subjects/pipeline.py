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


NIGHTS = {"full": "a first night", "day": "the night after, one day more"}


def at_scale() -> Subject:
    """Stages from interactions to training sequences, at growing sizes."""
    record = read("pipeline-scale")
    rows = []
    for size, parts in record.items():
        for part, label in NIGHTS.items():
            if part not in parts:
                continue
            measured = parts[part]["measured"]
            total = sum(stage["seconds"] for stage in measured.values())
            stages = ", ".join(f"{name} {number(s['seconds'])}" for name, s in measured.items())
            peak = max(stage["peak_gib"] for stage in measured.values())
            rows.append(
                Row(
                    f"{label}, {int(size) / 1e6:g} M events: s (largest stage, GiB)",
                    f"{number(total)} ({number(peak)}): {stages}",
                    source(parts[part]),
                )
            )
    return Subject(
        "From interactions to training sequences, by size",
        "A simulated shop of 60 days, 100 events a user, 50,000 items; each stage a process of its "
        "own, SQLite as the online store.",
        rows,
        notes="A day of this shop touches nearly every user, so the night after loads nearly as "
        "many entities as the first, and writes nearly all sequences anew. Nearly half of "
        "`publish_features` is Feast's SQLite store, which takes some 5,000 entities a second.",
    )


def _figures(metrics: dict[str, float]) -> str:
    return f"{share(metrics['ndcg@10'])} / {share(metrics['hr@10'])}"
