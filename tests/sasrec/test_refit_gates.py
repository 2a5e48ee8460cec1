"""What holds a refit."""

from dataclasses import asdict

import pytest

from sasrec.gates import Verdict
from sasrec.gates.refit import judge_refit

GOOD = {
    "refit": {"finite": 1.0, "overlap": 0.5, "overlap_users": 500, "new_items": 3},
    "cost": {"weights_mib": 1.0, "score_ms": 2.0},
    "serving_parity": {"agreement": 1.0, "users": 200, "differing": []},
}


def judge(**findings):
    return judge_refit(GOOD | findings, minimum_overlap=0.1, maximum_overlap=0.9, max_score_ms=50)


def test_a_sound_refit_may_serve():
    verdict = judge()
    assert verdict.decision == "promote"
    assert verdict.counts == "4 gates passed, 0 failed, 0 not evaluated"


@pytest.mark.parametrize(
    ("findings", "gate"),
    [
        ({"refit": GOOD["refit"] | {"finite": 0.0, "overlap": float("nan")}}, "weights are finite"),
        ({"refit": GOOD["refit"] | {"overlap": 0.02}}, "recommends as the evaluated model"),
        ({"refit": GOOD["refit"] | {"overlap": 0.95}}, "recommends as the evaluated model"),
        ({"refit": GOOD["refit"] | {"overlap": float("nan")}}, "recommends as the evaluated"),
        ({"serving_parity": {"agreement": 0.995}}, "service answers as the refit"),
        ({"cost": {"score_ms": 51.0}}, "answers in time"),
        ({"cost": {}}, "answers in time"),
    ],
)
def test_each_check_holds_and_says_so(findings, gate):
    verdict = judge(**findings)
    assert verdict.decision == "hold"
    assert gate in verdict.summary


def test_a_site_whose_service_cannot_be_asked_is_not_held_by_that():
    assert judge(serving_parity={"missing": "no user has a history"}).decision == "promote"


def test_a_verdict_survives_being_told_in_a_manifest():
    assert Verdict.of(asdict(judge())) == judge()
