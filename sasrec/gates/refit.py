"""What a refit must show before it serves: it has seen every event, so no metric can judge it."""

from collections.abc import Mapping
from typing import Any

from sasrec.gates.checks import MeasurementBound
from sasrec.gates.verdict import Verdict, summarise

PROTOCOL = (
    "a refit has learned from every event, so it is held to the evaluated model that vouches for it"
)


def judge_refit(
    findings: Mapping[str, Any],
    *,
    minimum_overlap: float,
    maximum_overlap: float,
    max_score_ms: float,
) -> Verdict:
    """Promote, or hold where a check fails or could not be made.

    Args:
        findings: `refit` (`finite`, `overlap`), `cost` and `serving_parity`, as in an evaluation.
        minimum_overlap, maximum_overlap: bounds of `refit.overlap`.
        max_score_ms: upper bound of `cost.score_ms`.
    """
    gates = [
        _bound("weights are finite", "refit.finite", minimum=1),
        _bound(
            "recommends as the evaluated model, within the band",
            "refit.overlap",
            minimum=minimum_overlap,
            maximum=maximum_overlap,
        ),
        _bound(
            "service answers as the refit", "serving_parity.agreement", minimum=1, missing="ignore"
        ),
        _bound("answers in time", "cost.score_ms", maximum=max_score_ms),
    ]
    return summarise([gate.judge_findings(findings) for gate in gates], PROTOCOL)


def _bound(
    name: str, measurement: str, *, missing: str = "hold", **bounds: float
) -> MeasurementBound:
    return MeasurementBound.model_validate(
        {
            "name": name,
            "check": "measurement_bound",
            "measurement": measurement,
            "when_missing": missing,
            **bounds,
        }
    )
