"""Evaluation, off-policy estimates, the worth of exploring, and the search for presets."""

from typing import Any

from benchmarks.results_page.files import read, source
from benchmarks.results_page.subjects.quality import DATASETS
from benchmarks.results_page.table import Row, Subject, number, share

GREEDY = "greedy, naive"
MEASURES = {
    "calibration_error": "error of P(interacted \\| served)",
    "model_click_through": "click-through of the model's ten best items",
    "click_through": "click-through of what is served",
    "coverage": "coverage of the catalogue",
}


def metrics() -> Subject:
    """Agreement with other libraries; time of an evaluation."""
    agreement, speed, scale = (read(f"evaluation-{n}") for n in ("agreement", "speed", "scale"))
    largest = max(d for case in agreement["largest_difference"].values() for d in case.values())
    libraries = ", ".join(f"{name} {v}" for name, v in agreement["versions"].items())
    return Subject(
        "Evaluation",
        "Hit rate, recall, NDCG, MRR and MAP at 1, 5, 10 and 20 beside three libraries, distinct "
        "and tied scores; the "
        "whole of an evaluation with its intervals, slices and gates.",
        [
            Row(
                f"largest difference of a metric, {agreement['users']} users",
                f"{largest:.1e}",
                source(agreement),
                libraries,
            ),
            *(
                Row(
                    f"seconds, {r['users']:,} users, {r['items']:,} items, {len(r['roles'])} "
                    "models, "
                    f"{r['resamples']:,} resamples (peak memory, MiB)",
                    f"{number(r['seconds'])} ({r['peak_memory_mib']:,})",
                    source(r),
                )
                for r in (speed, scale)
            ),
        ],
    )


def coverage() -> Subject:
    """How often a 95 % interval holds the true value of a policy."""
    record = read("evaluation-coverage")
    rows = [
        Row(
            f"intervals of {record['seeds']} that hold the truth, {name}: quoted / IPS / SNIPS / "
            "DR",
            " / ".join(
                str(v)
                for v in (
                    case["covered_by_quoted_estimate"],
                    *(case["covered"][e] for e in ("ips", "snips", "dr")),
                )
            ),
            source(record),
            f"mean of the log {case['covered']['logged']}",
        )
        for name, case in record["policies"].items()
    ]
    return Subject(
        "Off-policy estimates",
        f"95 % intervals on simulated logs of {record['slots_per_log']:,} slots whose truth is "
        "known.",
        rows,
    )


def exploring() -> Subject:
    """Four teams over eight rounds of serve, log, train, gate."""
    record = read("feedback_loop")
    greedy = record["teams"][GREEDY]
    rows = [
        Row(
            f"{label}, {team}",
            f"{share(own[measure]['rounds'][-1]['mean'], 3)} "
            f"({_interval(own[measure]['last_minus_reference'])})",
            source(record),
            f"greedy {share(greedy[measure]['rounds'][-1]['mean'], 3)}",
        )
        for measure, label in MEASURES.items()
        for team, own in record["teams"].items()
        if team != GREEDY
    ]
    return Subject(
        "What exploring is worth",
        f"The last of eight rounds, means over {len(record['seeds'])} simulated shops; in brackets "
        "the difference to the greedy team, which never explores, with its 95 % interval.",
        rows,
        plot="feedback-loop.png",
        notes="Certain: exploring halves the error of P(interacted | served). Likely, not shown: "
        "better best items. "
        "Weights by inverse propensity changed nothing here that exploring alone had not.",
    )


def search() -> Subject:
    """How the presets were chosen, all runs."""
    rows = [
        Row(
            f"{DATASETS[dataset]}: " + ", ".join(f"{k}={v}" for k, v in run["settings"].items()),
            f"{share(run['validation']['ndcg@10'])} / {share(run['validation']['hr@10'])}",
            source(run, command=f"python -m benchmarks.search --dataset {dataset}"),
        )
        for dataset in DATASETS
        for run in read(f"search-{dataset}")
    ]
    return Subject(
        "The search for presets",
        "NDCG@10 / HR@10 on validation, one seed, settings beside those of the model at that "
        "commit. "
        "What came of it stands in the [log](log.md).",
        rows,
        notes="Some runs were stopped by a time limit, and some trained a copy that was not "
        "committed; the file says which.",
    )


def _interval(difference: dict[str, Any]) -> str:
    mean, low, high = (_signed(difference[k]) for k in ("mean", "low", "high"))
    return f"{mean}, {low} to {high}"


def _signed(value: float) -> str:
    sign = "−" if value < 0 else "+"
    return sign + share(abs(value), 3)
