"""What a site gains that is alive between its runs."""

from typing import Any

from benchmarks.results_page.files import RESULTS, read, source
from benchmarks.results_page.table import Row, Subject, number, share, times

DATASETS = {
    "ml-100k": "MovieLens-100K",
    "amazon-beauty-5core": "Amazon Beauty, 5-core",
    "simulated": "simulated shop",
}
WITH_TREND = "with the trend"


def trend() -> Subject:
    """The score with and without recent counts."""
    rows = []
    for dataset, label in DATASETS.items():
        name = f"alive-{dataset}"
        if not (RESULTS / f"{name}.json").exists():
            continue
        found = read(name)
        reached = found["rows"][WITH_TREND]
        count = len(found["seeds"])
        seeds = "three seeds" if count == 3 else f"seeds {found['seeds']}"
        for row, gain in found["gain_over"].items():
            before = found["rows"][row]
            told = "; ".join(
                f"{_signed(low)} to {_signed(high)}" for low, high in gain["intervals"]
            )
            rows.append(
                Row(
                    f"{label}, {found['users']:,} users ({seeds}), the trend's gain: {told}",
                    f"{share(reached['mean'])} ± {share(reached['std'])}",
                    source(*found["provenance"]),
                    f"{row} {share(before['mean'])} ± {share(before['std'])}",
                    times(reached["mean"] / before["mean"]) if before["mean"] else "",
                )
            )
    return Subject(
        "Alive: the score knows the day",
        "NDCG@10 of each user's first event after t2, full catalogue, seen items excluded; cut in "
        "time; mean ± standard deviation over the seeds. *This project* is the model with the "
        "trend, whose weights validation fitted by the counts at t1; the test users are asked with "
        "the counts at t2. The gain is the paired difference of each seed with its interval of "
        "95 %, 1,000 resamples of users.",
        rows,
    )


def trend_cost() -> Subject:
    """What a trend costs a server."""
    name, rows = "alive-trend-cost", []
    if (RESULTS / f"{name}.json").exists():
        found = read(name)
        for items, row in found["sizes"].items():
            plain, trending = row["without"]["median"], row["with"]["median"]
            rows.append(
                Row(
                    f"A list of ten over {int(items):,} items, ms of CPU",
                    number(trending),
                    source(found),
                    f"without the trend {number(plain)}",
                    times(plain / trending),
                )
            )
            rows.append(
                Row(
                    f"A look at the counts of {int(items):,} items, each second, ms of CPU",
                    number(row["look"]["mean"]),
                    source(found),
                )
            )
    return Subject(
        "Alive: what the trend costs a server",
        "CPU of one thread: median from a history of 50 events to a drawn list, without HTTP, the "
        "two in turns; mean of a look, which takes in 1,000 events of other people and every five "
        "seconds renews all items. From 200,000 items on an index finds the best.",
        rows,
    )


def launches() -> Subject:
    """What new items get on their first day."""
    name, rows = "alive-launches", []
    if (RESULTS / f"{name}.json").exists():
        found = read(name)
        here = found["rows"][ON_PURPOSE]
        told = source(*found["provenance"])
        count = sum(map(int, here["launches"]["values"]))
        seeds = f"seeds {found['seeds']}"
        for way, other in found["rows"].items():
            if way == ON_PURPOSE:
                continue
            for figure, label in FIGURES.items():
                rows.append(
                    Row(
                        f"{label}; {count} launches, {seeds}",
                        _of_launches(figure, here),
                        told,
                        f"{way} {_of_launches(figure, other)}",
                    )
                )
    return Subject(
        "Alive: the first day of new items",
        "Simulated shop, six days after the model was trained; items launched meanwhile have a row "
        "from their features. *This project* gives them 5 % of the slots "
        "(`SASREC_NEW_ITEM_SHARE`); beside it 5 % of all slots drawn uniformly, and neither. True "
        "click-through is the simulator's, of all slots. Mean over the seeds.",
        rows,
    )


ON_PURPOSE = "new items on purpose"
FIGURES = {
    "thirty_within_a_day": "Share of launches with thirty impressions within a day",
    "hours_to_first_median": "Median hours to the first impression",
    "true_click_through": "True click-through of all lists",
}


def _of_launches(figure: str, row: dict[str, Any]) -> str:
    mean = row[figure]["mean"]
    if mean is None:
        return "never in some seed"
    return number(mean) if figure == "hours_to_first_median" else share(mean)


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("0.", ".", 1)
