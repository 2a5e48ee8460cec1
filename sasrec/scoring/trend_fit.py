"""Fitting a trend: how much recent counts add to a model that is as it is.

The weights maximise the likelihood of what validation users did next, under a softmax over the full
catalogue without what they had seen:

    P(i | u) ∝ exp(β · model(i | u) + Σ_j b_j · log(1 + c_ij))

β is fitted too, because a model that was chosen by its ranking may be too sure of itself, and the
weights are a = b / β: the model's own scores stay what they are. The function is concave, so
Newton's method finds the maximum in a few passes over the scores (Boyd and Vandenberghe 2004,
section 9.5). A Gaussian prior on b keeps apart half-lives that say the same.

The weights are kept only where they rank users better that they were not fitted on: each fifth of
the users is ranked with the weights of the other four, one Newton step away from those of all.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sasrec.data.packed import EvaluationSet
from sasrec.scoring.decayed_counts import CountsInTime
from sasrec.scoring.metrics import accuracy
from sasrec.scoring.ranking import ScoreBlock, next_item, score_blocks
from sasrec.scoring.scorer import Scorer
from sasrec.scoring.trend import Trend

MOST_USERS = 5_000
MOST_SCORES = 2**30  # of one pass
KEPT_SCORES = 2**25  # that are held, 128 MiB, instead of computed in every pass
PARTS = 5
PASSES = 30
PRIOR = 1.0  # precision of each b_j
LEAST_BETA = 0.05  # a model that says next to nothing must not make weights without bound
CUTOFF = 10
LEAST_GAIN = 1.0
"""Standard errors by which users who were not fitted on must be ranked better."""


@dataclass(frozen=True)
class TrendFit:
    """A trend, and what validation said of it.

    Attributes:
        trend: of zero weights where counts do not help.
        findings: JSON values: `users`, `beta` and `weights` as fitted, `ndcg@10` of validation
            users `without` and `with` it (by weights that were fitted on others), and the standard
            `error` of the difference.
    """

    trend: Trend
    findings: dict[str, Any]


def fit_trend(
    scorer: Scorer,
    validation: EvaluationSet,
    counts: CountsInTime,
    half_lives: Sequence[float],
) -> TrendFit:
    """Fit the weights of `half_lives`, or find that they do not help.

    Args:
        scorer: the model, which stays as it is.
        validation: users with `histories.asked_at`, until when events are counted; each with at
            least one target, the first of which counts.
        counts: in the vocabulary of `scorer`, of the same half-lives.
        half_lives: (J,) in seconds.
    """
    half_lives = tuple(half_lives)
    users = _Users.of(scorer, next_item(validation), counts)
    theta, parts = _maximum(users, len(half_lives))
    others = np.stack([_without(theta, parts, part) for part in range(PARTS)])
    alone = np.eye(1, len(theta)).repeat(PARTS, axis=0)  # β = 1, b = 0
    without, with_it = users.ndcg(alone), users.ndcg(others)
    gain = with_it - without
    error = float(gain.std() / np.sqrt(len(gain)))
    weights = theta[1:] / theta[0]
    findings = {
        "users": len(gain),
        "beta": float(theta[0]),
        "weights": weights.tolist(),
        f"ndcg@{CUTOFF}": {"without": float(without.mean()), "with": float(with_it.mean())},
        "error": error,
    }
    helps = bool(gain.mean() > LEAST_GAIN * error)
    kept = weights if helps else np.zeros(len(weights))
    return TrendFit(Trend(half_lives, tuple(kept.tolist())), findings | {"helps": helps})


@dataclass(frozen=True)
class _Sums:
    """Log-likelihood (P,), gradient (P, J + 1) and Hessian (P, J + 1, J + 1) of each part."""

    value: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray


def _maximum(users: "_Users", num_half_lives: int) -> tuple[np.ndarray, _Sums]:
    """β and b (J + 1,) at the maximum, and the sums there."""
    size = num_half_lives + 1
    start = np.zeros(size)
    start[0] = 1.0
    theta, sums = start, users.sums(start)
    for _ in range(PASSES):
        gradient, hessian = _with_prior(theta, sums.gradient.sum(0), sums.hessian.sum(0))
        step, before = np.linalg.solve(hessian, -gradient), _objective(theta, sums)
        for _ in range(PASSES):
            tried = _within(theta + step)
            found = users.sums(tried)
            if _objective(tried, found) >= before - 1e-7 * abs(before):
                break
            step = step / 2
        gained = _objective(tried, found) - before
        theta, sums = tried, found
        if gained < 1e-6 * abs(before):
            break
    return theta, sums


def _objective(theta: np.ndarray, sums: _Sums) -> float:
    return float(sums.value.sum() - PRIOR / 2 * (theta[1:] ** 2).sum())


def _with_prior(
    theta: np.ndarray, gradient: np.ndarray, hessian: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    precision = np.full(len(theta), PRIOR)
    precision[0] = 1e-6  # no prior on β; this keeps the system solvable
    pull = precision * theta
    pull[0] = 0.0
    return gradient - pull, hessian - np.diag(precision)


def _within(theta: np.ndarray) -> np.ndarray:
    return np.concatenate([[max(theta[0], LEAST_BETA)], theta[1:]])


def _without(theta: np.ndarray, sums: _Sums, part: int) -> np.ndarray:
    """What the others alone would be fitted to: one Newton step from the fit of all."""
    gradient, hessian = _with_prior(
        theta,
        sums.gradient.sum(0) - sums.gradient[part],
        sums.hessian.sum(0) - sums.hessian[part],
    )
    return _within(theta - np.linalg.solve(hessian, gradient))


class _Users:
    """Validation users and their scores, block by block, held where that is little.

    Args:
        evaluation: each user with one target.
        parts: (B,) in 0..`PARTS` - 1.
    """

    def __init__(
        self, scorer: Scorer, evaluation: EvaluationSet, counts: CountsInTime, parts: np.ndarray
    ) -> None:
        self._scorer, self._evaluation, self._counts = scorer, evaluation, counts
        self._parts, self._targets = parts, evaluation.targets.items
        self._held: list[ScoreBlock] | None = None
        self._logs: tuple[int, Tensor] | None = None

    @classmethod
    def of(cls, scorer: Scorer, evaluation: EvaluationSet, counts: CountsInTime) -> "_Users":
        """Some of the users, drawn at random, where all would take too long."""
        rng = np.random.default_rng(0)
        most = min(MOST_USERS, max(1, MOST_SCORES // counts.num_items))
        rows = np.sort(rng.permutation(len(evaluation))[:most])
        some = EvaluationSet(
            evaluation.name,
            [evaluation.user_ids[row] for row in rows.tolist()],
            evaluation.histories.select(rows),
            evaluation.targets.select(rows),
        )
        return cls(scorer, some, counts, rng.permutation(len(rows)) % PARTS)

    def sums(self, theta: np.ndarray) -> _Sums:
        """Over the users of each part; a next item that cannot be foretold says nothing."""
        size = len(theta)
        found = _Sums(np.zeros(PARTS), np.zeros((PARTS, size)), np.zeros((PARTS, size, size)))
        for block in self._blocks():
            targets = self._targets[block.rows]
            known = np.isfinite(block.scores[np.arange(len(targets)), targets].cpu().numpy())
            for rows, logs in self._by_moment(block):
                for part in range(PARTS):
                    chosen = rows[known[rows] & (self._parts[block.rows][rows] == part)]
                    if len(chosen):
                        one = _of_users(block.scores[chosen], targets[chosen], logs, theta)
                        found.value[part] += one.value
                        found.gradient[part] += one.gradient
                        found.hessian[part] += one.hessian
        return found

    def ndcg(self, thetas: np.ndarray) -> np.ndarray:
        """NDCG@10 (B,) of each user under the `thetas` (PARTS, J + 1) of its part."""
        ranks = np.empty(len(self._evaluation))
        weights = torch.from_numpy(thetas[:, 1:] / thetas[:, :1]).float()
        for block in self._blocks():
            scores = block.scores.clone()
            for rows, logs in self._by_moment(block):
                bonus = weights.to(logs.device) @ logs
                scores[rows] += bonus[self._parts[block.rows][rows]]
            again = ScoreBlock(block.start, scores, block.keys)
            each = np.arange(len(scores))
            ranks[block.rows] = again.ranks(each, self._targets[block.rows])
        return accuracy(ranks, np.arange(len(ranks) + 1), CUTOFF)[f"ndcg@{CUTOFF}"]

    def _blocks(self) -> Iterable[ScoreBlock]:
        if self._held is not None:
            return self._held
        blocks = score_blocks(
            self._scorer, self._evaluation.histories, filter_seen=not self._evaluation.repeats
        )
        if len(self._evaluation) * self._counts.num_items > KEPT_SCORES:
            return blocks
        self._held = list(blocks)
        return self._held

    def _by_moment(self, block: ScoreBlock) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Rows of a block that are asked about at one moment, and log(1 + c) (J, V + 1) then."""
        asked_at = self._evaluation.histories.moments[block.rows]
        moments, row = np.unique(asked_at, return_inverse=True)
        for number, counts in enumerate(self._counts.at(moments)):
            logs = torch.from_numpy(np.log1p(counts)).float().to(block.scores.device)
            yield np.flatnonzero(row == number), logs


def _of_users(scores: Tensor, targets: np.ndarray, logs: Tensor, theta: np.ndarray) -> _Sums:
    """Log-likelihood and its derivatives by (β, b) over n users, as numbers and without parts.

    Args:
        scores: (n, V + 1) of the model, -inf where an item cannot be next.
        targets: (n,) next items.
        logs: (J, V + 1).
    """
    weights = torch.from_numpy(theta[1:]).to(logs)
    known = torch.isfinite(scores)
    model = torch.where(known, scores, 0.0)
    total = torch.where(known, theta[0] * model + weights @ logs, -torch.inf)
    log_sum = torch.logsumexp(total, dim=1)
    chance = torch.exp(total - log_sum[:, None])
    row, item = torch.arange(len(scores)), torch.from_numpy(targets)
    weighted = chance * model
    of_model = weighted.sum(1)  # (n,) means under the model's own chances
    of_logs = chance @ logs.T  # (n, J)
    value = (total[row, item] - log_sum).double().sum()
    means = torch.cat([of_model[:, None], of_logs], dim=1).double()
    observed = torch.cat([model[row, item][:, None], logs[:, item].T], dim=1).double()
    second = torch.zeros((len(theta), len(theta)), dtype=torch.float64)
    second[0, 0] = (weighted * model).sum().double()
    second[0, 1:] = second[1:, 0] = (weighted @ logs.T).sum(0).double().cpu()
    second[1:, 1:] = ((logs * chance.sum(0)) @ logs.T).double().cpu()
    hessian = (means.T @ means).cpu() - second
    gradient = (observed - means).sum(0).cpu()
    return _Sums(np.array(value.item()), gradient.numpy(), hessian.numpy())
