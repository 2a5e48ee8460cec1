"""One team at one storefront: it serves with its champion, learns from its log, and gates."""

import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.feedback_loop.truth import Round, Truth, best_items
from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.schema import TIMESTAMP
from sasrec.data.simulated import Storefront
from sasrec.data.simulated.logging_policy import SLOTS, PopularityPolicy, Served, draw_slots
from sasrec.data.simulated.storefront import Events
from sasrec.data.vocabulary import Vocabulary
from sasrec.evaluation.catalogue import Catalogue
from sasrec.evaluation.evaluate import evaluate
from sasrec.gates import GateConfig, decide
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.off_policy.calibration import Calibration
from sasrec.off_policy.replay import Requests, served_scores
from sasrec.training.config import TrainConfig
from sasrec.training.loop import train
from sasrec.training.losses import inverse_propensity_weights

HELD_OUT_DAYS = 2  # newest of a round: choose the epoch, judge the candidate, calibrate it
RESAMPLES = 200
MODEL = ModelConfig(dim=32, blocks=1, heads=1, max_length=50, dropout=0.2)
FIRST = TrainConfig(learning_rate=3e-3, batch_tokens=1024, warmup_steps=50, epochs=40, patience=12)
LATER = FIRST.model_copy(update={"epochs": 6, "patience": 2})
GATES = GateConfig.model_validate(
    {
        "gates": [
            {
                "name": "holds up against the champion",
                "check": "non_inferior",
                "metric": "ndcg@10",
                "margin": 0.2,  # some 800 users: a narrower margin would hold equal models back
                "when_missing": "refuse",
            }
        ]
    }
)


@dataclass(frozen=True)
class Team:
    """A way to serve and to learn.

    Attributes:
        temperature: of the Plackett-Luce slots over the model's scores; 0 is greedy.
        epsilon: share of slots drawn uniformly.
        weighted: whether training and calibration use the logged propensities.
    """

    name: str
    temperature: float
    epsilon: float
    weighted: bool


TEAMS = (
    Team("greedy, naive", 0.0, 0.0, weighted=False),
    Team("exploring, naive", 0.5, 0.1, weighted=False),
    Team("exploring, weighted", 0.5, 0.1, weighted=True),
    Team("uniform", 0.0, 1.0, weighted=False),
)


@dataclass
class Site:
    """A storefront and the model that serves it; a team changes both."""

    shop: Storefront
    champion: Recommender
    calibration: Calibration


def open_site(shop: Storefront, days: int, seed: int) -> Site:
    """The site as every team finds it: a first model, from `days` under the popularity policy."""
    policy = PopularityPolicy(shop.crowd, np.random.default_rng(seed))
    for _ in range(days):
        policy.learn(shop.run_day(policy))
    cut = _held_out_from(shop)
    histories, weights, validation = _folds(shop, cut, weighted=False)
    model = _fit(shop, histories, weights, validation, FIRST, seed, None)
    return Site(shop, model, _calibrate(model, shop, cut, weighted=True))


def play_round(site: Site, team: Team, days: int, seed: int) -> Round:
    """Serve for `days`, then train a candidate on the log and let the gate decide.

    Returns:
        What truly happened while the round's champion served.
    """
    truth = Truth(site.shop.crowd, np.random.default_rng(seed))

    def serve(users: np.ndarray, eligible: np.ndarray) -> Served:
        scores = _scores(site, users)
        lists = _choose(team, scores, eligible, truth.rng)
        truth.observe(users, eligible, scores, lists.items, site.calibration)
        return lists

    for _ in range(days):
        site.shop.run_day(serve)
    cut = _held_out_from(site.shop)
    histories, weights, validation = _folds(site.shop, cut, team.weighted)
    candidate = _fit(site.shop, histories, weights, validation, LATER, seed, site.champion)
    evaluation = evaluate(
        candidate,
        validation,
        Catalogue.build(candidate.vocabulary, histories, site.shop.items()),
        split={"kind": "newest days"},
        champion=site.champion,
        resamples=RESAMPLES,
        seed=seed,
    )
    promoted = decide(evaluation, GATES).decision == "promote"
    if promoted:
        site.champion = candidate
        site.calibration = _calibrate(candidate, site.shop, cut, team.weighted)
    return truth.round(promoted)


def _choose(
    team: Team, scores: np.ndarray, eligible: np.ndarray, rng: np.random.Generator
) -> Served:
    if team.temperature == 0 and team.epsilon == 0:
        items = best_items(scores, eligible)
        propensity = np.ones(items.shape)
    else:
        log_weights = scores / team.temperature if team.temperature else scores
        epsilon = np.full(len(scores), team.epsilon)
        items, propensity = draw_slots(log_weights, eligible, epsilon, SLOTS, rng)
    served = np.take_along_axis(scores, items, axis=1).astype(np.float32)
    return Served(items, propensity, served, np.full(len(items), team.name))


def _scores(site: Site, users: np.ndarray) -> np.ndarray:
    """(n, I) of the champion; log-popularity for a user without a history."""
    events = site.shop.events()
    histories = _pack(events, len(site.shop.user_ids)).select(users, MODEL.max_length)
    scores = site.champion.logits(histories).numpy()[:, 1:].astype(float)
    popularity = np.bincount(events.item, minlength=scores.shape[1])
    scores[histories.lengths == 0] = np.log1p(popularity)
    return scores


def _pack(events: Events, users: int) -> PackedSequences:
    """One history per user, empty ones included; item number i is vocabulary index i + 1."""
    cu_seqlens = np.concatenate([[0], np.cumsum(np.bincount(events.user, minlength=users))])
    return PackedSequences(events.item + 1, cu_seqlens.astype(np.int32), events.time)


def _held_out_from(shop: Storefront) -> int:
    """The instant, in microseconds, from which a round's newest days are held out."""
    return shop.midnight(shop.day - HELD_OUT_DAYS)


def _folds(
    shop: Storefront, cut: int, weighted: bool
) -> tuple[PackedSequences, np.ndarray | None, EvaluationSet]:
    """Histories before the cut, a weight for each of their events, and what came after."""
    events, users = shop.events(), len(shop.user_ids)
    before = events.time < cut
    histories = _pack(events.where(before), users)
    futures = _pack(events.where(~before), users)
    weights = inverse_propensity_weights(events.propensity[before]) if weighted else None
    known = np.flatnonzero((histories.lengths > 0) & (futures.lengths > 0))
    validation = EvaluationSet(
        "validation",
        [shop.user_ids[user] for user in known],
        histories.select(known),
        futures.select(known),
    )
    return histories, weights, validation


def _fit(
    shop: Storefront,
    histories: PackedSequences,
    weights: np.ndarray | None,
    validation: EvaluationSet,
    settings: TrainConfig,
    seed: int,
    warm_start: Recommender | None,
) -> Recommender:
    vocabulary = Vocabulary(shop.item_ids)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        result = train(
            histories,
            validation,
            vocabulary,
            MODEL,
            settings.model_copy(update={"seed": seed}),
            Path(folder),
            weights=weights,
            warm_start=warm_start,
        )
    return result.recommender


def _calibrate(model: Recommender, shop: Storefront, cut: int, weighted: bool) -> Calibration:
    """P(interacted | served) from the held-out days, which the model has not learned from."""
    log = shop.impressions()
    log = log.filter(pc.greater_equal(log["timestamp"], pa.scalar(cut).cast(TIMESTAMP)))
    requests = Requests.build(log, shop.interactions(), model.vocabulary)
    filled = requests.filled
    propensity = requests.propensity if weighted else np.ones(filled.shape)
    return Calibration.fit(
        served_scores(model, requests)[filled],
        np.nonzero(filled)[1],
        requests.reward[filled],
        propensity[filled],
    )
