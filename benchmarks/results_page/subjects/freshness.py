"""Worth of refits, warm starts, item features and weights, of the parts that were measured."""

from typing import Any

from benchmarks.results_page.files import RESULTS, read, source
from benchmarks.results_page.table import Row, Subject, number, share, times

DATASETS = {
    "amazon-beauty-5core": "Amazon Beauty, 5-core",
    "ml-100k": "MovieLens-100K",
    "simulated": "simulated shop",
}
SPLIT = (
    "Cut in time: trained before t1, the epoch chosen on the tenth of all events after it, tested "
    "from t2 on; full catalogue, seen items excluded; mean ± standard deviation over the seeds"
)


def refits() -> Subject:
    """As evaluated, refit from scratch and by continuing."""
    return Subject(
        "Freshness: what ships, as evaluated or refit",
        "NDCG@10 of each user's first event after t2 / of all their events as one set (seconds of "
        f"training). {SPLIT}. A refit learns from all before t2, the same users are asked.",
        _rows("refit", ("ndcg@10", "window_ndcg@10"), "train_seconds"),
    )


def warm_starts() -> Subject:
    """From scratch and from the model of the run before."""
    return Subject(
        "Freshness: a warm start",
        "NDCG@10 of the first event after t2 / on validation (seconds of training to .98 of what "
        f"validation reaches from scratch). {SPLIT}.",
        _rows("warm-start", ("ndcg@10", "validation_ndcg@10"), "seconds_to_quality"),
    )


def item_features() -> Subject:
    """Ids alone and with features."""
    return Subject(
        "Freshness: features of items",
        "NDCG@10 of the first event after t2 / of those that are an item without a training event "
        f"(how many those are). {SPLIT}.",
        _rows("item-features", ("ndcg@10", "cold_ndcg@10"), "cold_users"),
    )


def weights() -> Subject:
    """Events alike, by propensity, by type."""
    return Subject(
        "Freshness: weights of events",
        "NDCG@10 of the first click / of the first look-up after t2 (true click-through of the "
        f"lists that the model would serve at the end of the log). {SPLIT}.",
        _rows("weights", ("click_ndcg@10", "lookup_ndcg@10"), "true_click_through"),
    )


def live() -> Subject:
    """Days at the simulated shop."""
    return Subject(
        "Freshness: days at the simulated shop",
        "True click-through over ten days / on the last (seconds of training). Tastes drift, items "
        "launch, every way begins from the same model; mean ± standard deviation over the seeds.",
        _rows("live", ("true_click_through", "last_day_click_through"), "train_seconds"),
    )


def _rows(part: str, figures: tuple[str, str], beside: str) -> list[Row]:
    """A row for each that was measured; the first of a data set is what others are compared to."""
    rows = []
    for dataset, label in DATASETS.items():
        name = f"freshness-{dataset}"
        if not (RESULTS / f"{name}.json").exists() or part not in read(name):
            continue
        entry = read(name)[part]
        first, reference = next(iter(entry["rows"].items()))
        seeds = "three seeds" if len(entry["seeds"]) == 3 else f"seeds {entry['seeds']}"
        for row, found in entry["rows"].items():
            told = " / ".join(_figure(found[figure]) for figure in figures)
            value, before = found[figures[0]]["mean"], reference[figures[0]]["mean"]
            compared = row != first and before > 0
            rows.append(
                Row(
                    f"{label}: {row} ({seeds})",
                    f"{told} ({number(found[beside]['mean'])})",
                    source(*entry["provenance"]),
                    f"{first} {share(before)}" if compared else "",
                    times(value / before) if compared else "",
                )
            )
    return rows


def _figure(value: dict[str, Any]) -> str:
    return f"{share(value['mean'])} ± {share(value['std'])}"
