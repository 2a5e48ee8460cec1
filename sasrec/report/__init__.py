"""The report of one run: a single HTML page that needs nothing else, verdict first."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sasrec.evaluation.comparison import ratio, slice_differences
from sasrec.evaluation.result import CHAMPION, CONTROLS, MODEL, ORDER_SHUFFLED, Evaluation
from sasrec.gates import Verdict
from sasrec.report import charts

HEADLINE = "ndcg@10"
SLICE_REFERENCES = (CHAMPION, "bigram Markov", "popularity")
MINIMUM_SLICE_USERS = 50
TABLE = {
    "Next item": ("ndcg@10", "hr@10", "mrr@10", "ndcg@20", "hr@20", "debiased_ndcg@10"),
    "Everything that came later": ("window_ndcg@10", "window_recall@10", "window_map@10"),
    "Beyond accuracy": (
        "coverage@10",
        "gini@10",
        "novelty@10",
        "average_popularity@10",
        "popularity_lift@10",
        "diversity@10",
        "serendipity@10",
    ),
}


def render_report(
    evaluation: Evaluation,
    verdict: Verdict,
    *,
    title: str,
    training: Sequence[Mapping[str, Any]] = (),
    data: Mapping[str, Any] | None = None,
    facts: Mapping[str, str] | None = None,
    refit: Mapping[str, Any] | None = None,
) -> str:
    """HTML of the report.

    Args:
        evaluation: what was measured.
        verdict: what the gates made of it.
        title: of the page, such as the run's name.
        training: one mapping per epoch with `epoch`, `loss` and metrics named `name@k`.
        data: the data report, `DataReport.to_dict()`.
        facts: further lines for the foot of the page: versions, code, command.
        refit: how what ships was refit (`how`, `epochs`, `events`, `seconds`, `ndcg@10`) and the
            `verdict` of its checks, as `dataclasses.asdict` gives it.
    """
    environment = Environment(
        loader=PackageLoader("sasrec.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    return environment.get_template("report.html.j2").render(
        title=title,
        verdict=verdict,
        evaluation=evaluation,
        model=MODEL,
        table=TABLE,
        order=_use_of_order(evaluation),
        policies=_policies(evaluation),
        charts=_charts(evaluation, training),
        data=data or {},
        facts=facts or {},
        refit=refit,
    )


def _use_of_order(evaluation: Evaluation) -> str:
    """What shuffling every history costs the model, in words."""
    with_order = evaluation.metrics[MODEL][HEADLINE]
    without = evaluation.metrics[ORDER_SHUFFLED][HEADLINE]
    if not with_order:
        return f"{HEADLINE} is 0 with the order of each history and {without:.4f} without"
    change = ratio(evaluation, MODEL, HEADLINE, of=ORDER_SHUFFLED)
    value, low, high = (bound - 1 for bound in (change.value, change.low, change.high))
    return (
        f"With the items of each history in another order, {HEADLINE} is {without:.4f} in place of "
        f"{with_order:.4f}: {value:+.1%} ({low:+.1%} to {high:+.1%})"
    )


def _policies(evaluation: Evaluation) -> list[Mapping[str, Any]] | str:
    """The off-policy estimates, or why there are none."""
    found = evaluation.findings.get("off_policy", {"missing": "no impressions were given"})
    return found["missing"] if "missing" in found else list(found.values())


def _charts(evaluation: Evaluation, training: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Caption -> SVG, for what there is."""
    drawn = {
        f"{HEADLINE} of the model and what it has to beat": charts.role_intervals(
            {role: intervals[HEADLINE] for role, intervals in evaluation.intervals.items()},
            HEADLINE,
        )
    }
    if training:
        drawn["Training"] = charts.training_curves(training)
    reference = next((role for role in SLICE_REFERENCES if role in evaluation.per_user), None)
    if reference:
        slices = slice_differences(
            evaluation,
            reference,
            HEADLINE,
            slicings=[name for name in evaluation.users.column_names if name != "user_id"],
            minimum_users=MINIMUM_SLICE_USERS,
        )
        if slices:
            caption = f"Gain over {reference} by slice of users, intervals corrected for all slices"
            drawn[caption] = charts.slice_lift(slices, reference, HEADLINE)
    curves = {role: curve for role, curve in evaluation.exposure.items() if role not in CONTROLS}
    if curves:
        drawn["How recommendations spread over the catalogue"] = charts.exposure(curves)
    bins = evaluation.findings.get("calibration", {}).get("reliability")
    if bins and bins["predicted"]:
        drawn["Reliability of P(interacted | served)"] = charts.reliability(
            bins["predicted"], bins["observed"]
        )
    return drawn


def figure(value: float | None) -> str:
    """Three significant digits, whole from 1,000 on, a dash for what is not defined."""
    if value is None or value != value:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
