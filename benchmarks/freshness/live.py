"""Days at the simulated shop: what true click-through each way to stay fresh earns.

The shop's tastes drift and its items launch on the way. A day here is six ticks of four hours; the
simulator calls each of them a day. Lists are the ten best of the model that serves; a user's newest
events count at once under every way, an item counts from the first model that knows it.
"""

import contextlib
import copy
import io
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.feedback_loop.truth import best_items
from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.simulated import Storefront
from sasrec.data.simulated.crowd import position_bias
from sasrec.data.simulated.logging_policy import SLOTS, PopularityPolicy, Served
from sasrec.data.simulated.storefront import Events
from sasrec.data.vocabulary import Vocabulary
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.presets import Preset
from sasrec.scoring.vocabulary_adapter import VocabularyAdapter
from sasrec.training.config import TrainConfig
from sasrec.training.loop import TrainResult, train

TICKS = 6  # a day
OPENING_DAYS, PLAYED_DAYS = 40, 10
USERS = 2500
SESSIONS_PER_DAY = 0.13
VALIDATION, TEST = 0.1, 0.1  # newest shares of the events, as the pipeline's split
REFRESH_EPOCHS = 1
REPLAYED = 1.0  # users without a new event, for each that has one

RECIPE = Preset(
    model=ModelConfig(dim=32, blocks=1, heads=1, max_length=50, dropout=0.2),
    train=TrainConfig(
        learning_rate=3e-3, batch_tokens=1024, warmup_steps=50, epochs=40, patience=4
    ),
)


@dataclass(frozen=True)
class Way:
    """How a site stays fresh.

    Attributes:
        nightly: what a night's run ships, if there is one.
        refreshed: whether the model goes on learning after every tick of a day.
    """

    name: str
    nightly: Literal["evaluated", "refit"] | None
    refreshed: bool = False


WAYS = (
    Way("no retraining", None),
    Way("nightly, as evaluated", "evaluated"),
    Way("nightly, refit", "refit"),
    Way("nightly, refit, and a refresh every four hours", "refit", refreshed=True),
)


def play(seed: int, days: int = PLAYED_DAYS, users: int = USERS) -> dict[str, Any]:
    """A row per way, all at the same shop from the same opening; true click-through by day."""
    shop = _open(seed, days, users)
    opening = _night(shop, "evaluated", seed)
    rows, by_day = {}, {}
    for way in WAYS:
        clicks, spent = _play(copy.deepcopy(shop), way, opening, days, seed)
        by_day[way.name] = [float(np.mean(np.concatenate(day))) for day in clicks]
        rows[way.name] = {
            "true_click_through": float(np.mean(by_day[way.name])),
            "last_day_click_through": by_day[way.name][-1],
            "train_seconds": round(spent, 1),
        }
    return {"rows": rows, "by_day": by_day}


def _open(seed: int, days: int, users: int) -> Storefront:
    shop = Storefront(
        seed=seed,
        users=users,
        days=(OPENING_DAYS + days) * TICKS,
        sessions_per_day=SESSIONS_PER_DAY / TICKS,
    )
    policy = PopularityPolicy(shop.crowd, np.random.default_rng(seed))
    for _ in range(OPENING_DAYS * TICKS):
        policy.learn(shop.run_day(policy))
    return shop


def _play(
    shop: Storefront, way: Way, model: Recommender, days: int, seed: int
) -> tuple[list[list[np.ndarray]], float]:
    """The true click probabilities of all slots by day, and the seconds spent on learning."""
    spent = 0.0
    clicks: list[list[np.ndarray]] = []
    for _ in range(days):
        if way.nightly is not None:
            started = time.process_time()
            model = _night(shop, way.nightly, seed)
            spent += time.process_time() - started
        clicks.append([])
        for _ in range(TICKS):
            since = shop.midnight(shop.day)
            shop.run_day(_Lists(shop, model, clicks[-1]))
            if way.refreshed:
                started = time.process_time()
                model = _refresh(shop, model, since, seed)
                spent += time.process_time() - started
    return clicks, spent


class _Lists:
    """The ten best of one model; popularity for a user without an event. Notes the truth."""

    def __init__(self, shop: Storefront, model: Recommender, clicks: list[np.ndarray]) -> None:
        self.shop, self.clicks = shop, clicks
        self.scorer = VocabularyAdapter(model, model.vocabulary, Vocabulary(shop.item_ids))

    def __call__(self, users: np.ndarray, eligible: np.ndarray) -> Served:
        """Serve `users` (n,) from the items that `eligible` (n, I) allows each."""
        events = self.shop.events()
        histories = _pack(events, len(self.shop.user_ids)).select(users)
        scores = self.scorer.logits(histories).detach().numpy()[:, 1:].astype(float)
        popularity = np.bincount(events.item, minlength=scores.shape[1])
        scores[histories.lengths == 0] = np.log1p(popularity)
        items = best_items(scores, eligible)
        truth = np.take_along_axis(self.shop.crowd.click_probability(users), items, axis=1)
        self.clicks.append((truth * position_bias(SLOTS)).ravel())
        served = np.take_along_axis(scores, items, axis=1).astype(np.float32)
        return Served(items, np.ones(items.shape), served, np.full(len(users), "greedy"))


def _night(shop: Storefront, ships: Literal["evaluated", "refit"], seed: int) -> Recommender:
    """A run as the pipeline makes it: validation chooses the epoch; a refit learns from all."""
    events = shop.events()
    t1, t2 = np.quantile(events.time, [1 - VALIDATION - TEST, 1 - TEST])
    vocabulary, launched = _known(shop, events, int(t1))
    histories = _encoded(events.where(events.time < t1), shop, launched)
    futures = _encoded(
        events.where((events.time >= t1) & (events.time < t2)), shop, launched, keep_unknown=True
    )
    asked = np.flatnonzero((histories.lengths > 0) & (futures.lengths > 0))
    validation = EvaluationSet(
        "validation",
        [shop.user_ids[user] for user in asked],
        histories.select(asked),
        futures.select(asked),
    )
    evaluated = _fit(histories, validation, vocabulary, seed=seed)
    if ships == "evaluated":
        return evaluated.recommender
    return _learn_all(shop, None, evaluated.best_epoch, seed)


def _refresh(shop: Storefront, model: Recommender, since: int, seed: int) -> Recommender:
    """Go on from the model that serves, with the users who came and as many who did not."""
    events = shop.events()
    came = np.unique(events.user[events.time >= since])
    if not len(came):
        return model
    others = np.setdiff1d(np.unique(events.user), came)
    rng = np.random.default_rng([seed, shop.day])
    count = min(len(others), round(REPLAYED * len(came)))
    users = np.concatenate([came, rng.choice(others, count, replace=False)])
    return _learn_all(shop, model, REFRESH_EPOCHS, seed, users=users)


def _learn_all(
    shop: Storefront,
    start: Recommender | None,
    epochs: int,
    seed: int,
    users: np.ndarray | None = None,
) -> Recommender:
    """A number of epochs on everything until now, of all users or of some."""
    events = shop.events()
    vocabulary, launched = _known(shop, events, shop.midnight(shop.day))
    histories = _encoded(events, shop, launched)
    if users is not None:
        histories = histories.select(np.sort(users))
    some = np.flatnonzero(histories.lengths >= 2)[:50]  # validated once, and chooses nothing
    targets = histories.select(some, 1)
    unused = EvaluationSet("unused", [str(row) for row in some], histories.select(some), targets)
    result = _fit(
        histories,
        unused,
        vocabulary,
        seed=seed,
        start=start,
        epochs=epochs,
        validate_every=epochs,
    )
    return result.recommender


def _fit(
    histories: PackedSequences,
    validation: EvaluationSet,
    vocabulary: Vocabulary,
    *,
    start: Recommender | None = None,
    **settings: Any,
) -> TrainResult:
    chosen = RECIPE.with_overrides(**settings)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        return train(
            histories,
            validation,
            vocabulary,
            chosen.model,
            chosen.train,
            Path(folder),
            warm_start=start,
        )


def _known(shop: Storefront, events: Events, moment: int) -> tuple[Vocabulary, np.ndarray]:
    """The items met or launched before a moment, and the index of each item number; 0 if not."""
    known = np.zeros(len(shop.item_ids), dtype=bool)
    known[events.item[events.time < moment]] = True
    launch = np.array([shop.midnight(int(day)) for day in shop.catalogue.launch_day])
    known |= launch < moment
    numbers = np.flatnonzero(known)
    index = np.zeros(len(known), dtype=np.int64)
    index[numbers] = 1 + np.arange(len(numbers))
    return Vocabulary(shop.item_ids[number] for number in numbers), index


def _encoded(
    events: Events, shop: Storefront, index: np.ndarray, *, keep_unknown: bool = False
) -> PackedSequences:
    """One history per user in a vocabulary; an unknown target stays, as a miss."""
    items = index[events.item]
    kept = np.ones(len(items), dtype=bool) if keep_unknown else items > 0
    counts = np.bincount(events.user[kept], minlength=len(shop.user_ids))
    cu_seqlens = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return PackedSequences(items[kept], cu_seqlens, events.time[kept])


def _pack(events: Events, users: int) -> PackedSequences:
    """One history per user, empty ones included; item number i is index i + 1."""
    cu_seqlens = np.concatenate([[0], np.cumsum(np.bincount(events.user, minlength=users))])
    return PackedSequences(events.item + 1, cu_seqlens.astype(np.int32), events.time)
