"""Off-policy intervals at the simulated storefront, which knows what each policy truly earns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.packed import PackedSequences
from sasrec.data.schema import TIMESTAMP
from sasrec.data.simulated import Storefront
from sasrec.data.simulated.crowd import position_bias
from sasrec.data.simulated.logging_policy import SLOTS, PopularityPolicy, Served
from sasrec.data.vocabulary import Vocabulary
from sasrec.off_policy.calibration import Calibration
from sasrec.off_policy.estimators import estimate
from sasrec.off_policy.policy import UNIFORM, Policy
from sasrec.off_policy.replay import Requests, replay, served_scores
from sasrec.scoring.baselines import BigramMarkov
from sasrec.scoring.ranking import score_blocks

SEEDS = 100
USERS = 1000
OPENING_DAYS = 15  # the model learns from these, and every item is launched in them
CALIBRATION_DAYS = 5
LOGGED_DAYS = 10
POLICIES = (
    UNIFORM,
    Policy("softened", temperature=1.5),
    Policy("softened, half uniform", temperature=1.0, epsilon=0.5),
)
ESTIMATORS = ("ips", "snips", "dr", "logged")


def measure_coverage() -> dict[str, Any]:
    """How many of 100 logs give intervals that hold the true value of each policy.

    Every seed is another shop, model and log. The truth of a log is what the policy earns in the
    slots that were logged, given those above.
    """
    covered = {p.name: dict.fromkeys(ESTIMATORS, 0) for p in POLICIES}
    refused, quoted, effective = ({p.name: value for p in POLICIES} for value in (0, 0, 0.0))
    truth_of, naive_of = ({p.name: 0.0 for p in POLICIES} for _ in range(2))
    slots = 0
    for seed in range(SEEDS):
        site = _Site(seed)
        requests, click = site.log()
        replays = replay(
            site.model, requests, POLICIES,
            candidates=len(site.vocabulary), calibration=site.calibration,
        )  # fmt: skip
        slots += int(requests.filled.sum()) // SEEDS
        for policy in POLICIES:
            truth = _true_value(site.model, requests, click, policy)
            log = replays[policy.name].logged_slots(requests)
            found = estimate(log, policy=policy.name, seed=seed)
            inside = {
                name: getattr(found, name).low <= truth <= getattr(found, name).high
                for name in ESTIMATORS
            }
            for name in ESTIMATORS:
                covered[policy.name][name] += bool(inside[name])
            refused[policy.name] += bool(found.refusals)
            _, interval = found.best
            quoted[policy.name] += bool(interval.low <= truth <= interval.high)
            effective[policy.name] += found.effective_sample_size / SEEDS
            truth_of[policy.name] += truth / SEEDS
            naive_of[policy.name] += found.logged.value / SEEDS
    return {
        "seeds": SEEDS,
        "users": USERS,
        "slots_per_log": slots,
        "policies": {
            p.name: {
                "covered_by_quoted_estimate": quoted[p.name],
                "covered": covered[p.name],
                "refused": refused[p.name],
                "mean_effective_sample_size": round(effective[p.name]),
                "mean_true_value": truth_of[p.name],
                "mean_logged_value": naive_of[p.name],
            }
            for p in POLICIES
        },
    }


class _Site:
    """A shop with a model that learned from its opening days, and the calibration after them."""

    def __init__(self, seed: int) -> None:
        self.shop = Storefront(seed=seed, users=USERS, days=OPENING_DAYS)
        self.policy = PopularityPolicy(self.shop.crowd, np.random.default_rng(seed))
        self.vocabulary = Vocabulary(self.shop.item_ids)
        self._run(OPENING_DAYS, self.policy)
        events = self.shop.events()
        cu_seqlens = np.concatenate([[0], np.cumsum(np.bincount(events.user, minlength=USERS))])
        train = PackedSequences(events.item + 1, cu_seqlens.astype(np.int32), events.time)
        self.model = BigramMarkov(train, len(self.vocabulary))
        requests = self._run(CALIBRATION_DAYS, self.policy)
        filled = requests.filled
        self.calibration = Calibration.fit(
            served_scores(self.model, requests)[filled],
            np.nonzero(filled)[1],
            requests.reward[filled],
            requests.propensity[filled],
        )

    def log(self) -> tuple[Requests, np.ndarray]:
        """R requests and (R, I) the true click probabilities in slot 0."""
        clicks = []

        def serve(users: np.ndarray, eligible: np.ndarray) -> Served:
            clicks.append(self.shop.crowd.click_probability(users))
            return self.policy(users, eligible)

        requests = self._run(LOGGED_DAYS, serve)
        served = self.shop.impressions()["request_id"].to_numpy()[::SLOTS]
        in_time = np.argsort(np.argsort(served[-len(requests.users) :]))
        return requests, np.concatenate(clicks)[in_time]

    def _run(self, days: int, serve: Callable[[np.ndarray, np.ndarray], Served]) -> Requests:
        begins = pa.scalar(self.shop.midnight(self.shop.day)).cast(TIMESTAMP)
        for _ in range(days):
            self.policy.learn(self.shop.run_day(serve))
        log = self.shop.impressions()
        log = log.filter(pc.greater_equal(log["timestamp"], begins))
        return Requests.build(log, self.shop.interactions(), self.vocabulary)


def _true_value(
    model: BigramMarkov, requests: Requests, click: np.ndarray, policy: Policy
) -> float:
    """Mean over logged slots of Σ_a π(a | slots above) P(click on a), written out once more.

    Independent of `sasrec.off_policy.replay`, whose probabilities the estimates use.
    """
    total = 0.0
    for block in score_blocks(model, requests.histories, filter_seen=True):
        scores = block.scores.numpy()[:, 1:].astype(float)
        free = np.isfinite(scores)
        rows = np.arange(len(scores))
        for slot, looked_at in enumerate(position_bias(SLOTS)):
            pull = np.where(free, np.exp(scores / (policy.temperature or 1.0)), 0.0)
            chance = (1 - policy.epsilon) * pull / pull.sum(axis=1, keepdims=True)
            chance += policy.epsilon * free / free.sum(axis=1, keepdims=True)
            total += float((chance * click[block.rows]).sum()) * looked_at
            free[rows, requests.items[block.rows, slot] - 1] = False
    return float(total / requests.filled.sum())
