"""What logged impressions say of a model: how likely its items are taken, and what it would earn.

Impressions from [t1, t2) fit the calibration, those from t2 on judge it and the policies: neither
was seen in training, and no impression is used twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.repeats import repeats_allowed
from sasrec.data.schema import TIMESTAMP
from sasrec.data.vocabulary import Vocabulary
from sasrec.off_policy.calibration import Calibration, TooFewInteractions, reliability
from sasrec.off_policy.estimators import estimate
from sasrec.off_policy.policy import Policy
from sasrec.off_policy.replay import Requests, replay, served_scores
from sasrec.scoring.scorer import Scorer

UNIFORM_BUCKET = "uniform"
# Slots in proportion to exp(score). Greedy serving agrees with a log too rarely for the log to
# value it; this policy follows the same scores and can be valued from far smaller logs.
SOFTENED = Policy("softened", temperature=1.0)


@dataclass(frozen=True)
class Feedback:
    """What was learned.

    Attributes:
        calibration: to be stored with the model; None where the log is too small.
        findings: `calibration` and `off_policy`, as `Evaluation.findings` holds them; where
            nothing could be measured an entry holds `missing`, the reason.
    """

    calibration: Calibration | None
    findings: dict[str, Any]


def learn_from_impressions(
    model: Scorer,
    vocabulary: Vocabulary,
    impressions: pa.Table,
    interactions: pa.Table,
    *,
    split: Mapping[str, Any],
    policies: Sequence[Policy],
    candidates: int,
) -> Feedback:
    """Calibrate the model and estimate the value of serving it.

    Args:
        model: scores `vocabulary`.
        impressions: schema `IMPRESSIONS`.
        interactions: schema `INTERACTIONS`, for the history before each request.
        split: the split's description; `t1` and `t2` are ISO 8601, or null without times; it
            says whether items of a history may be served.
        policies: how the model's scores might be served; `SOFTENED` is always valued as well.
        candidates: how many of the best items those policies draw from.

    Raises:
        DataError: an impression is out of range or logged twice.
    """
    if not split.get("t1") or not split.get("t2"):
        return _nothing("the split has no cut in time, so training has seen every impression")
    t1, t2 = (datetime.fromisoformat(split[key]) for key in ("t1", "t2"))
    earlier = Requests.build(_between(impressions, t1, t2), interactions, vocabulary)
    repeats = repeats_allowed(split)
    later = Requests.build(_between(impressions, t2, None), interactions, vocabulary)
    try:
        calibration = _calibrate(model, earlier, repeats)
    except TooFewInteractions as error:
        return _nothing(str(error))
    if not later.filled.any():
        return Feedback(calibration, _nothing("no impression was logged after t2").findings)
    replays = replay(
        model,
        later,
        [*policies, SOFTENED],
        candidates=candidates,
        calibration=calibration,
        repeats=repeats,
    )
    values = {
        name: estimate(replayed.logged_slots(later), policy=name).to_finding()
        for name, replayed in replays.items()
    }
    judged = _judge_calibration(calibration, replays[SOFTENED.name].score, later)
    return Feedback(calibration, {"calibration": judged, "off_policy": values})


def _nothing(why: str) -> Feedback:
    return Feedback(None, {"calibration": {"missing": why}, "off_policy": {"missing": why}})


def _calibrate(model: Scorer, requests: Requests, repeats: bool) -> Calibration:
    filled = requests.filled
    return Calibration.fit(
        served_scores(model, requests, repeats=repeats)[filled],
        np.nonzero(filled)[1],
        requests.reward[filled],
        requests.propensity[filled],
    )


def _judge_calibration(
    calibration: Calibration, score: np.ndarray, requests: Requests
) -> dict[str, Any]:
    """Reliability as if items had been served at random, and on the uniform bucket alone."""
    known = requests.filled & np.isfinite(score)
    predicted = calibration.p_interact(score[known], np.nonzero(known)[1])
    reward, weight = requests.reward[known], 1 / requests.propensity[known]
    uniform = requests.policies[known] == UNIFORM_BUCKET
    overall = reliability(predicted, reward, weight)
    return {
        "ece": overall.ece,
        "brier": overall.brier,
        "brier_skill": overall.brier_skill,
        "reliability": asdict(overall),
        "uniform_bucket": asdict(reliability(predicted[uniform], reward[uniform]))
        if uniform.any()
        else None,
        "impressions": int(known.sum()),
        "fitted_on": calibration.impressions,
        "position_decay": calibration.position_decay,
    }


def _between(impressions: pa.Table, start: datetime, stop: datetime | None) -> pa.Table:
    time = impressions["timestamp"]
    inside = pc.greater_equal(time, pa.scalar(start, TIMESTAMP))
    if stop is not None:
        inside = pc.and_(inside, pc.less(time, pa.scalar(stop, TIMESTAMP)))
    return impressions.filter(inside)
