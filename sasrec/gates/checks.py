"""The kinds of gate: each is a schema for its entry in `gates.yaml` and one judgement.

A gate passes only when the whole confidence interval is on the right side of its threshold.
"""

import difflib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sasrec.evaluation import comparison
from sasrec.evaluation.result import (
    CHAMPION,
    METRICS,
    MODEL,
    UNBOUNDED_METRICS,
    USER_METRICS,
    Evaluation,
)


def _one_of(metrics: Collection[str], kind: str) -> Callable[[str], str]:
    """A validator: a misspelt metric would else be a gate that is never evaluated."""

    def check(name: str) -> str:
        if name not in metrics:
            near = difflib.get_close_matches(name, metrics, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {sorted(metrics)}"
            raise ValueError(f"'{name}' is not {kind}{hint}")
        return name

    return check


Effect = Literal["promote", "hold", "refuse"]
Missing = Literal["ignore", "hold", "refuse"]
Share = Annotated[float, Field(ge=0, lt=1)]
Metric = Annotated[str, AfterValidator(_one_of(METRICS, "a metric"))]
UserMetric = Annotated[str, AfterValidator(_one_of(USER_METRICS, "a metric of each user"))]


@dataclass(frozen=True)
class GateResult:
    """What one gate found.

    Attributes:
        gate: its name in the file.
        passed: None when it could not be evaluated.
        value, low, high: the figure judged and its interval, where there is one.
        threshold: in words.
        reason: one sentence.
        effect: what this result asks of the verdict.
    """

    gate: str
    passed: bool | None
    value: float | None
    low: float | None
    high: float | None
    threshold: str
    reason: str
    effect: Effect

    @property
    def outcome(self) -> str:
        """`passed` in words."""
        return {True: "passed", False: "failed", None: "not evaluated"}[self.passed]


class Gate(BaseModel):
    """What every entry has.

    Attributes:
        name: shown in the verdict.
        when_missing: what a missing input asks of the verdict; "ignore" must be written down.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    when_missing: Missing

    def judge(self, evaluation: Evaluation) -> GateResult:
        """Compare what was measured with the threshold."""
        raise NotImplementedError

    def _result(
        self,
        passed: bool,
        threshold: str,
        reason: str,
        value: float,
        low: float | None = None,
        high: float | None = None,
    ) -> GateResult:
        effect: Effect = "promote" if passed else "hold"
        return GateResult(self.name, passed, value, low, high, threshold, reason, effect)

    def _not_evaluated(self, threshold: str, why: str) -> GateResult:
        effect: Effect = "promote" if self.when_missing == "ignore" else self.when_missing
        return GateResult(
            self.name, None, None, None, None, threshold, f"not evaluated: {why}", effect
        )


class _Bounded(Gate):
    minimum: float | None = None
    maximum: float | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> "_Bounded":
        if self.minimum is None and self.maximum is None:
            raise ValueError("give 'minimum', 'maximum' or both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self

    @property
    def _threshold(self) -> str:
        parts = [("at least", self.minimum), ("at most", self.maximum)]
        return " and ".join(f"{word} {bound:g}" for word, bound in parts if bound is not None)

    def _judge_bounds(self, what: str, value: float, low: float, high: float) -> GateResult:
        above = self.minimum is None or low >= self.minimum
        below = self.maximum is None or high <= self.maximum
        passed = above and below
        reason = f"{what} is {value:.4g}" + (
            "" if passed else f", and its interval leaves the range ({self._threshold})"
        )
        return self._result(passed, self._threshold, reason, value, low, high)


class MetricBound(_Bounded):
    """A metric of the model within absolute bounds."""

    check: Literal["metric_bound"]
    metric: Metric

    @model_validator(mode="after")
    def _bounds_can_be_met(self) -> "MetricBound":
        for bound in (self.minimum, self.maximum):
            if bound is None or self.metric in UNBOUNDED_METRICS or 0 <= bound <= 1:
                continue
            raise ValueError(f"{self.metric} lies in [0, 1], so {bound:g} is no threshold for it")
        return self

    def judge(self, evaluation: Evaluation) -> GateResult:
        """The interval of the metric, or its value where it is not a mean over users."""
        if absent := _absent(evaluation, MODEL, self.metric):
            return self._not_evaluated(self._threshold, absent)
        value = evaluation.metrics[MODEL][self.metric]
        interval = evaluation.intervals[MODEL].get(self.metric)
        low, high = (interval.low, interval.high) if interval else (value, value)
        return self._judge_bounds(self.metric, value, low, high)


class MeasurementBound(_Bounded):
    """A figure of the findings (calibration, cost, parity) within absolute bounds."""

    check: Literal["measurement_bound"]
    measurement: str

    def judge(self, evaluation: Evaluation) -> GateResult:
        """As `judge_findings`, of the evaluation's."""
        return self.judge_findings(evaluation.findings)

    def judge_findings(self, findings: Mapping[str, Any]) -> GateResult:
        """Look `measurement` up, dots stepping into nested findings."""
        found: Any = findings
        why = f"'{self.measurement}' was not measured"
        for key in self.measurement.split("."):
            why = found.get("missing", why)
            found = found.get(key, {})
        if not isinstance(found, int | float) or math.isnan(found):
            return self._not_evaluated(self._threshold, why)
        return self._judge_bounds(self.measurement, found, found, found)


class BetterThan(Gate):
    """The model beats another role by a paired, user-clustered bootstrap."""

    check: Literal["better_than"]
    role: str
    metric: UserMetric

    def judge(self, evaluation: Evaluation) -> GateResult:
        """Passed when the interval of model − role lies above 0."""
        threshold = f"above {self.role}"
        if absent := _absent(evaluation, self.role, self.metric):
            return self._not_evaluated(threshold, absent)
        gain = comparison.difference(evaluation, self.role, self.metric)
        passed = gain.low > 0
        verb = "beats" if passed else "is not shown to beat"
        reason = f"{verb} {self.role} in {self.metric} ({gain.value:+.4f})"
        return self._result(passed, threshold, reason, gain.value, gain.low, gain.high)


class NonInferior(Gate):
    """The model loses at most `margin` of the champion's metric, relative."""

    check: Literal["non_inferior"]
    metric: UserMetric
    margin: Share

    def judge(self, evaluation: Evaluation) -> GateResult:
        """Passed when the interval of model / champion − 1 lies above −margin."""
        threshold = f"at most {self.margin:.1%} below the champion"
        if absent := _absent(evaluation, CHAMPION, self.metric):
            return self._not_evaluated(threshold, absent)
        if not evaluation.metrics[CHAMPION][self.metric]:
            return self._not_evaluated(
                threshold, f"{self.metric} of the champion is 0, so no loss is relative to it"
            )
        ratio = comparison.ratio(evaluation, CHAMPION, self.metric)
        value, low, high = ratio.value - 1, ratio.low - 1, ratio.high - 1
        passed = low > -self.margin
        reason = (
            f"{self.metric} against the champion: {value:+.1%} [{low:+.1%}, {high:+.1%}]"
            + ("" if passed else f": a loss of {self.margin:.1%} is not ruled out")
            + _compared(evaluation, CHAMPION)
        )
        return self._result(passed, threshold, reason, value, low, high)


class NoWorseSlice(Gate):
    """No slice of users is shown to lose more than its tolerance, relative to the reference.

    Intervals are simultaneous, so the chance of accusing any slice wrongly is 1 − confidence.
    """

    check: Literal["no_worse_slice"]
    role: str
    metric: UserMetric
    slicings: list[str] = Field(min_length=1)
    tolerance: Share
    tolerances: dict[str, Share] = {}
    minimum_users: int = Field(default=100, ge=2)

    def judge(self, evaluation: Evaluation) -> GateResult:
        """Failed when a slice's interval lies wholly below its tolerance."""
        threshold = f"no slice more than {self.tolerance:.0%} below {self.role}"
        if absent := _absent(evaluation, self.role, self.metric):
            return self._not_evaluated(threshold, absent)
        slices = comparison.slice_differences(
            evaluation,
            self.role,
            self.metric,
            slicings=self.slicings,
            minimum_users=self.minimum_users,
            allowance={s: self.tolerances.get(s, self.tolerance) for s in self.slicings},
        )
        if not slices:
            return self._not_evaluated(
                threshold, f"no slice has {self.minimum_users:,} users or more"
            )
        worst = min(slices, key=lambda s: s.difference.high)
        passed = worst.difference.high >= 0
        where = f"{worst.slicing} '{worst.label}' ({worst.difference.users:,} users)"
        reason = (
            f"none of {len(slices)} slices is shown to be worse; the closest is {where}"
            if passed
            else f"worse than allowed in {where}"
        ) + _compared(evaluation, self.role)
        spread = worst.difference
        return self._result(passed, threshold, reason, spread.value, spread.low, spread.high)


class ShortOf(Gate):
    """The model goes only part of the way from what useful baselines do to what another role does.

    Attributes:
        role: the extreme, such as popularity for a metric of popularity.
        baselines: of these, the one nearest to the extreme is where the way begins.
        share: of the way that is allowed.
    """

    check: Literal["short_of"]
    metric: UserMetric
    role: str
    baselines: list[str] = Field(min_length=1)
    share: Share

    def judge(self, evaluation: Evaluation) -> GateResult:
        """Passed when the whole interval is short of that point, or not above the champion's."""
        threshold = f"{self.share:.0%} of the way from {' or '.join(self.baselines)} to {self.role}"
        known = [r for r in self.baselines if not _absent(evaluation, r, self.metric)]
        absent = [_absent(evaluation, role, self.metric) for role in (MODEL, self.role)]
        if not known:
            absent.append(_absent(evaluation, self.baselines[0], self.metric))
        if why := next(filter(None, absent), None):
            return self._not_evaluated(threshold, why)
        figures = {role: found[self.metric] for role, found in evaluation.metrics.items()}
        start = max(known, key=lambda role: figures[role])
        weights = {MODEL: 1.0, start: self.share - 1, self.role: -self.share}
        passed = comparison.contrast(evaluation, weights, self.metric).high <= 0
        reason = (
            f"{self.metric} is {figures[MODEL]:.3g}, of {start} {figures[start]:.3g}, "
            f"of {self.role} {figures[self.role]:.3g}"
        )
        if not passed and not _absent(evaluation, CHAMPION, self.metric):
            passed = comparison.difference(evaluation, CHAMPION, self.metric).low <= 0
            reason += f", of the champion {figures[CHAMPION]:.3g}"
        found = evaluation.intervals[MODEL][self.metric]
        return self._result(passed, threshold, reason, found.value, found.low, found.high)


class Plausible(Gate):
    """The model is not impossibly good: a sign that it was shown the future."""

    check: Literal["plausible"]
    metric: UserMetric
    maximum: Annotated[float, Field(gt=0, le=1)]
    times_best_baseline: Annotated[float, Field(gt=1)]

    def judge(self, evaluation: Evaluation) -> GateResult:
        """Passed below the absolute and up to the relative ceiling."""
        threshold = (
            f"below {self.maximum:g} and at most {self.times_best_baseline:g}x the best baseline"
        )
        if not evaluation.baselines:
            return self._not_evaluated(threshold, "no baseline was evaluated")
        if absent := _absent(evaluation, MODEL, self.metric):
            return self._not_evaluated(threshold, absent)
        best = max(evaluation.metrics[role][self.metric] for role in evaluation.baselines)
        value = evaluation.metrics[MODEL][self.metric]
        passed = value < self.maximum and value <= self.times_best_baseline * best
        reason = f"{self.metric} is {value:.4f}, the best baseline {best:.4f}" + (
            "" if passed else ": look for the future in the histories"
        )
        return self._result(passed, threshold, reason, value)


class OffPolicyValue(Gate):
    """The model's estimated value on logged traffic is not below that of the policy that logged it.

    Attributes:
        policy: the name of the policy whose value was estimated.
        margin: relative loss that is allowed.
        when_refused: what an estimate that its own checks refuse asks of the verdict.
    """

    check: Literal["off_policy_value"]
    policy: str
    margin: Share
    when_refused: Missing

    def judge(self, evaluation: Evaluation) -> GateResult:
        """Passed when the interval of the estimate lies above (1 − margin) · logged value."""
        threshold = f"at most {self.margin:.1%} below the logging policy"
        estimates = evaluation.findings.get("off_policy", {"missing": "there are no impressions"})
        if self.policy not in estimates:
            why = estimates.get("missing", f"policy '{self.policy}' was not estimated")
            return self._not_evaluated(threshold, why)
        finding = estimates[self.policy]
        if finding["refusals"]:
            refused = self.model_copy(update={"when_missing": self.when_refused})
            return refused._not_evaluated(threshold, "; ".join(finding["refusals"]))
        value, low, high = (finding[key] for key in ("value", "low", "high"))
        passed = low >= (1 - self.margin) * finding["logged_value"]
        reason = (
            f"{finding['estimator']} estimates {value:.4f} a slot; "
            f"the logging policy earned {finding['logged_value']:.4f}"
        )
        return self._result(passed, threshold, reason, value, low, high)


AnyGate = Annotated[
    MetricBound
    | MeasurementBound
    | BetterThan
    | NonInferior
    | NoWorseSlice
    | ShortOf
    | Plausible
    | OffPolicyValue,
    Field(discriminator="check"),
]


def _compared(evaluation: Evaluation, role: str) -> str:
    """How the champion was compared, to follow a reason; empty for other roles."""
    how = evaluation.findings.get(CHAMPION, {}).get("compared") if role == CHAMPION else None
    return f" ({how})" if how else ""


def _absent(evaluation: Evaluation, role: str, metric: str) -> str | None:
    """Why `metric` of `role` cannot be judged, or None."""
    if role not in evaluation.metrics:
        why = "there is no champion" if role == CHAMPION else f"'{role}' was not evaluated"
        return evaluation.findings.get(role, {}).get("missing", why)
    if metric not in evaluation.metrics[role]:
        return f"the evaluation has no metric '{metric}'"
    if math.isnan(evaluation.metrics[role][metric]):
        return f"{metric} of {role} is not defined for any user"
    return None
