"""Quality on public data sets, beside published figures and baselines."""

from typing import Any

from benchmarks.published import BEST_SASREC, SASREC_PAPER
from benchmarks.results_page.files import parts, read, source
from benchmarks.results_page.table import Row, Subject, number, share, times

DATASETS = {"ml-1m": "MovieLens-1M", "amazon-beauty-5core": "Amazon Beauty, 5-core"}
LOSSES = {
    "cross_entropy": "softmax over all items",
    "sampled_softmax": "sampled softmax",
    "bpr": "BPR-max",
    "bce": "BCE",
    "gbce": "gBCE",
}
GLOBAL_TIME = ", global-time"
METRICS = ("ndcg@10", "hr@10")


def next_item() -> Subject:
    """Presets and baselines on test, beside the best published SASRec."""
    rows = [
        _row(dataset, name, "test", BEST_SASREC[dataset], "best published SASRec")
        for dataset in DATASETS
        for name in best_first(dataset)
    ]
    return Subject(
        "Quality: the next item among all items",
        "NDCG@10 / HR@10. Leave-one-out (trained on all but the last two events of each user), "
        "full catalogue, "
        "seen items excluded; epoch and settings chosen on validation; mean ± standard deviation "
        "over three seeds. "
        "The ratio is of NDCG@10.",
        rows,
        plot="quality.svg",
        notes="Test was read a second time where a recipe changed: `paper` and `bpr` since their "
        "negatives are unseen "
        "items, `sparse` since it decays its weights. Each change was decided on validation or by "
        "the paper. The files "
        "of `benchmarks/results/quality-*/` hold the command of each seed.",
    )


def validation() -> Subject:
    """What the epoch and the settings were chosen by."""
    return Subject(
        "Quality on validation",
        "NDCG@10 / HR@10 on the last event but one of each user, otherwise as above.",
        [_row(dataset, name, "validation") for dataset in DATASETS for name in best_first(dataset)],
    )


def among_100() -> Subject:
    """The protocol of the SASRec paper."""
    rows = []
    for dataset in DATASETS:
        for name in best_first(dataset):
            if "test_among_100_negatives" in read(f"quality-{dataset}")[name]:
                theirs = SASREC_PAPER.get(dataset) if name == "paper" else None
                rows.append(
                    _row(dataset, name, "test_among_100_negatives", theirs, "Kang & McAuley", 3)
                )
    return Subject(
        "Quality: the next item among 100 random items",
        "NDCG@10 / HR@10 under the protocol of the SASRec paper: the target among 100 random "
        "unseen items. "
        "The epoch is still chosen on the full catalogue.",
        rows,
    )


def losses() -> Subject:
    """Five losses, everything else equal."""
    rows = [
        _row(
            dataset, f"loss {loss}", "test", BEST_SASREC[dataset], "best published SASRec", 4, name
        )
        for dataset in DATASETS
        for loss, name in LOSSES.items()
    ]
    gbce = "; ".join(
        " / ".join(share(run["test"][metric]) for metric in METRICS)
        for run in parts("quality-amazon-beauty-5core", "loss-gbce-seed*.json")
    )
    return Subject(
        "Losses on the paper's model",
        "NDCG@10 / HR@10 on test, leave-one-out as above; the rate and step of `default`, a "
        "patience of 30 epochs; "
        "a loss that samples takes 512 negatives that a step's events share.",
        rows,
        notes="On Beauty one of three seeds of gBCE had not left popularity when its patience "
        f"ended: {gbce}. Test was read a second time there, since these rows wait 30 epochs.",
    )


def cuts_in_time() -> Subject:
    """A global cut in time."""
    dataset = "amazon-beauty-5core"
    names = [n for n in read(f"quality-{dataset}") if n.endswith(GLOBAL_TIME)]
    names.sort(key=lambda n: -read(f"quality-{dataset}")[n]["test"]["ndcg@10"]["mean"])
    return Subject(
        "Quality under a cut in time",
        "NDCG@10 / HR@10 on test; trained on the first eight tenths of all events, the epoch "
        "chosen on the next tenth, "
        "tested on the first event of each user with a history in the last tenth. MovieLens-1M has "
        "an order, no times.",
        [_row(dataset, name, "test") for name in names],
    )


def best_first(dataset: str) -> list[str]:
    """Rows of the main table: presets and baselines under leave-one-out, by NDCG@10 in test."""
    rows = read(f"quality-{dataset}")
    names = [n for n in rows if not n.endswith(GLOBAL_TIME) and not n.startswith("loss ")]
    return sorted(names, key=lambda name: -rows[name]["test"]["ndcg@10"]["mean"])


def figures(dataset: str, name: str, fold: str = "test", places: int = 4) -> str:
    """NDCG@10 / HR@10 of a row, each with its deviation over seeds if there are several."""
    row = read(f"quality-{dataset}")[name]
    spread = len(row["seeds"]) > 1
    return " / ".join(
        share(row[fold][metric]["mean"], places)
        + (f" ± {share(row[fold][metric]['std'], places)}" if spread else "")
        for metric in METRICS
    )


def published(figures: dict[str, float]) -> str:
    """NDCG@10 / HR@10 as the authors print them."""
    return " / ".join(number(figures[metric]).replace("0.", ".", 1) for metric in METRICS)


def _row(
    dataset: str,
    name: str,
    fold: str,
    theirs: dict[str, float] | None = None,
    peer: str = "",
    places: int = 4,
    label: str = "",
) -> Row:
    row = read(f"quality-{dataset}")[name]
    stem = name.replace(", ", "-").replace(" ", "-")
    runs: list[Any] = [
        run
        for run in parts(f"quality-{dataset}", f"{stem}-seed*.json")
        if run["seed"] in row["seeds"]
    ]
    label = label or (f"`{name.removesuffix(GLOBAL_TIME)}`" if "model" in runs[0] else name)
    return Row(
        f"{DATASETS[dataset]}, {label.removesuffix(GLOBAL_TIME)}",
        figures(dataset, name, fold, places),
        source(*runs, command=f"python -m benchmarks.quality --dataset {dataset} --rows '{name}'"),
        f"{peer} {published(theirs)}" if theirs else "",
        times(row[fold]["ndcg@10"]["mean"] / theirs["ndcg@10"]) if theirs else "",
    )
