"""What one evaluation found: every figure with its protocol, as gates and reports read it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sasrec.evaluation.bootstrap import Interval

MODEL = "model"
CHAMPION = "champion"
ORDER_SHUFFLED = "model, order shuffled"
WITHOUT_TREND = "model, without its trend"
CONTROLS = (ORDER_SHUFFLED, WITHOUT_TREND)
"""Roles that say what a part of the model is worth; they are nothing that it has to beat."""
CUTOFFS = (5, 10, 20)
LIST_LENGTH = 10

# Every metric of a role, so that what names one can be checked before anything is measured.
_ACCURACY = ("hr", "ndcg", "mrr", *(f"window_{n}" for n in ("hr", "recall", "ndcg", "mrr", "map")))
_OF_LISTS = ("novelty", "average_popularity", "popularity_lift", "diversity", "serendipity")
USER_METRICS = frozenset(
    [f"{name}@{k}" for name in _ACCURACY for k in CUTOFFS]
    + [f"{name}@{LIST_LENGTH}" for name in ("debiased_ndcg", *_OF_LISTS)]
)
METRICS = USER_METRICS | {f"coverage@{LIST_LENGTH}", f"gini@{LIST_LENGTH}"}
UNBOUNDED_METRICS = frozenset(
    f"{name}@{LIST_LENGTH}"
    for name in ("debiased_ndcg", "novelty", "average_popularity", "popularity_lift")
)


@dataclass(frozen=True)
class Protocol:
    """What a figure must be quoted with.

    Attributes:
        split: the split's own description (kind, sha256, counts).
        fold: "validation" or "test".
        candidates: the candidate set, in words.
        filter_seen: whether items of the history were left out.
        users, targets: how many.
        resamples, seed, confidence: of the bootstrap.
    """

    split: dict[str, Any]
    fold: str
    candidates: str
    filter_seen: bool
    users: int
    targets: int
    resamples: int
    seed: int
    confidence: float

    def __str__(self) -> str:
        seen = "seen items left out" if self.filter_seen else "seen items kept"
        kind, digest = self.split.get("kind", "split"), str(self.split.get("sha256", ""))[:12]
        return (
            f"{kind} split {digest}, {self.fold} fold, next item of {self.users:,} users among "
            f"{self.candidates}, {seen}; {self.confidence:.0%} intervals from {self.resamples:,} "
            f"user-level resamples, seed {self.seed}"
        )


@dataclass(frozen=True)
class Example:
    """One user as a reader sees them; titles, oldest event first, best recommendation first."""

    user_id: str
    history: list[str]
    recommended: list[str]
    came_next: list[str]
    rank: float | None


@dataclass(frozen=True)
class Evaluation:
    """Everything that gates and the report read.

    Attributes:
        protocol: of every figure below.
        metrics: role -> metric -> value; roles are "model", "champion", baseline names, and
            the `CONTROLS`, "model, order shuffled" and, where a trend is part of the model's
            scores, "model, without its trend".
        intervals: role -> metric -> interval, for metrics that are means over users.
        users: a row per user: `user_id` and one string column per slicing.
        per_user: role -> table of float64 metric columns, row for row with `users`.
        exposure: role -> `metrics.exposure_curve` of its lists, for roles that recommend anything.
        examples: a few users drawn at random.
        findings: further measurements by name (calibration, off-policy, ...), JSON values.
    """

    protocol: Protocol
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval]]
    users: pa.Table
    per_user: dict[str, pa.Table]
    exposure: dict[str, list[float]]
    examples: list[Example]
    findings: dict[str, Any] = field(default_factory=dict)

    @property
    def baselines(self) -> list[str]:
        """The roles that know nothing of the model."""
        return [role for role in self.metrics if role not in (MODEL, CHAMPION, *CONTROLS)]

    def save(self, directory: Path) -> None:
        """Write `evaluation.json`, `users.parquet` and `per_user.parquet` (long, by role)."""
        directory.mkdir(parents=True, exist_ok=True)
        summary = {
            "protocol": asdict(self.protocol),
            "metrics": self.metrics,
            "intervals": {
                role: {name: asdict(interval) for name, interval in intervals.items()}
                for role, intervals in self.intervals.items()
            },
            "exposure": self.exposure,
            "examples": [asdict(example) for example in self.examples],
            "findings": self.findings,
        }
        text = json.dumps(_without_nan(summary), indent=1, ensure_ascii=False, allow_nan=False)
        (directory / "evaluation.json").write_text(text)
        pq.write_table(self.users, directory / "users.parquet")
        by_role = [
            table.add_column(0, "role", pa.array([role] * len(table)).dictionary_encode())
            for role, table in self.per_user.items()
        ]
        pq.write_table(
            pa.concat_tables(by_role, promote_options="default"), directory / "per_user.parquet"
        )

    @classmethod
    def load(cls, directory: Path) -> "Evaluation":
        """Read what `save` wrote."""
        summary = json.loads((directory / "evaluation.json").read_text())
        long = pq.read_table(directory / "per_user.parquet")
        return cls(
            protocol=Protocol(**summary["protocol"]),
            metrics={
                role: {name: _number(value) for name, value in values.items()}
                for role, values in summary["metrics"].items()
            },
            intervals={
                role: {name: _interval(interval) for name, interval in intervals.items()}
                for role, intervals in summary["intervals"].items()
            },
            users=pq.read_table(directory / "users.parquet"),
            per_user={
                role: long.filter(pc.equal(long["role"].cast(pa.string()), role)).drop(["role"])
                for role in summary["metrics"]
            },
            exposure=summary["exposure"],
            examples=[Example(**example) for example in summary["examples"]],
            findings=summary["findings"],
        )


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: an undefined figure is null."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _interval(fields: dict[str, Any]) -> Interval:
    numbers = {name: _number(fields[name]) for name in ("value", "low", "high", "confidence")}
    return Interval(**numbers, users=fields["users"])
