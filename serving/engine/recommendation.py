"""From a history to a slate: what may be shown, who is a candidate, what was drawn and why."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sasrec.off_policy.policy import NO_ITEMS, Policy, Slate, draw_slate
from sasrec.off_policy.stepwise import draw_stepwise
from serving.engine.engine import Engine
from serving.engine.ranking import BoostedRanking, Ranking
from serving.engine.request_history import History
from serving.engine.rules import (
    NO_RULES,
    PIN,
    AtMost,
    Diversity,
    Rules,
    added_scores,
    slots_of_pins,
)
from serving.schemas import RecommendRequest

MORE = 8  # items that are looked at for each one that limits are to leave


@dataclass(frozen=True)
class Recommendation:
    """One slate with all that is needed to judge it later.

    Attributes:
        item_ids, scores, p_interact: one per slot; None where the model did not score.
        candidates, eligible: sizes of the candidate set and of all that might have been shown.
        seed: of the draw, which `draw_slate` repeats.
        rules: what the list was made to keep to.
    """

    request_id: str
    user_id: str | None
    model_version: str
    policy: Policy
    degraded: str | None
    history: History
    slate: Slate
    item_ids: list[str]
    scores: list[float | None]
    p_interact: list[float | None]
    candidates: int
    eligible: int
    seed: int
    rules: Rules = NO_RULES

    def response(self) -> dict[str, Any]:
        """As `serving.schemas.RecommendResponse` has it."""
        slots = zip(
            self.item_ids,
            self.scores,
            self.p_interact,
            self.slate.propensities.tolist(),
            strict=True,
        )
        items: list[dict[str, Any]] = [
            {
                "item_id": item_id,
                "score": score,
                "p_interact": p_interact,
                "position": position,
                "propensity": propensity,
            }
            for position, (item_id, score, p_interact, propensity) in enumerate(slots)
        ]
        for position in self.placed:
            items[position]["rule"] = PIN
        return {
            "request_id": self.request_id,
            "model_version": self.model_version,
            "policy": self.policy.name,
            "degraded": self.degraded,
            "items": items,
        }

    @property
    def placed(self) -> list[int]:
        """The slots that a rule has filled."""
        placed = self.slate.placed
        return [] if placed is None else np.flatnonzero(placed).tolist()

    def impression(self, timestamp: int) -> dict[str, Any]:
        """As `serving.events.writer` has it; `timestamp` in microseconds."""
        record = {
            "type": "impression",
            "request_id": self.request_id,
            "user_id": self.user_id,
            "timestamp": timestamp,
            "policy": self.policy.name,
            "model_version": self.model_version,
            "degraded": self.degraded,
            "seed": self.seed,
            "history_length": len(self.history.item_ids),
            "history_hash": self.history.hash(),
            "candidates": self.candidates,
            "eligible": self.eligible,
            "item_ids": self.item_ids,
            "scores": self.scores,
            "propensities": self.slate.propensities.tolist(),
            "explored": self.slate.explored.tolist(),
            "introduced": self.slate.introduced.tolist(),
        }
        if self.slate.remaining is not None:
            placed = self.placed
            slots = range(len(self.item_ids))
            record["rules"] = [PIN if slot in placed else None for slot in slots]
            record["remaining"] = self.slate.remaining.tolist()
        return record


@dataclass(frozen=True)
class Asked:
    """One request of a batch: what was asked, by whom, and how it is to be drawn.

    Attributes:
        degraded: why the history may be incomplete.
    """

    request: RecommendRequest
    history: History
    policy: Policy
    degraded: str | None = None
    rules: Rules = NO_RULES


def recommend(
    engine: Engine,
    request: RecommendRequest,
    history: History,
    policy: Policy,
    *,
    candidates: int,
    degraded: str | None = None,
    rules: Rules = NO_RULES,
) -> Recommendation:
    """The model's slate; recent popularity's where no item of the history is known.

    Args:
        candidates: how many of the best items a Plackett-Luce slot draws from.
        degraded: why the history may be incomplete.
        rules: of the request and the site together.
    """
    asked = Asked(request, history, policy, degraded, rules)
    [answer] = recommend_batch(engine, [asked], candidates=candidates)
    return answer


def recommend_batch(
    engine: Engine, asked: Sequence[Asked], *, candidates: int
) -> list[Recommendation]:
    """As `recommend` for each request, with one forward pass for all."""
    rankings = engine.rank_batch([(a.history.item_ids, a.history.timestamps) for a in asked])
    return [
        _draw(engine, a, ranking, candidates) for a, ranking in zip(asked, rankings, strict=True)
    ]


def recommend_popular(
    engine: Engine,
    request: RecommendRequest,
    history: History,
    *,
    reason: str,
    rules: Rules = NO_RULES,
) -> Recommendation:
    """Recent popularity, for when the model cannot answer."""
    asked = Asked(request, history, Policy("popularity"), reason, rules)
    return _draw(engine, asked, None, request.k)


def _draw(
    engine: Engine, asked: Asked, ranking: Ranking | None, num_candidates: int
) -> Recommendation:
    """Draw a slate by the model's ranking, or by recent popularity's where there is none."""
    request, history, rules = asked.request, asked.history, asked.rules
    request_id = request.request_id or uuid.uuid4().hex
    repeats = engine.repeats if request.allow_repeats is None else request.allow_repeats
    eligible = engine.eligible(
        category=request.category,
        exclude=[*request.exclude, *history.disliked],
        seen=() if repeats else [*history.older, *history.item_ids],
    )
    for wanted in rules.filters:
        eligible &= engine.mask(wanted)
    order = ranking or engine.rank_popular()
    if rules.boosts:
        order = BoostedRanking(order, added_scores(engine, rules.boosts), counts=ranking is None)
    seed = draw_seed(request_id)
    slate, candidates = _slate(engine, asked, order, eligible, num_candidates, seed)
    unscored: list[float | None] = [None] * len(slate.items)
    shown = None if ranking is None else ranking.scores(slate.items)
    return Recommendation(
        request_id=request_id,
        user_id=request.user_id,
        model_version=engine.version,
        policy=asked.policy,
        degraded=asked.degraded,
        history=history,
        slate=slate,
        item_ids=engine.vocabulary.decode(slate.items),
        scores=unscored if shown is None else shown.tolist(),
        p_interact=unscored if shown is None else engine.p_interact(shown),
        candidates=candidates,
        eligible=int(np.count_nonzero(eligible)),
        seed=seed,
        rules=rules,
    )


def _slate(
    engine: Engine,
    asked: Asked,
    order: Ranking,
    eligible: np.ndarray,
    num_candidates: int,
    seed: int,
) -> tuple[Slate, int]:
    """What is drawn, and from how many candidates.

    A greedy slot takes the best item that is free: of k slots, none needs more than k candidates,
    unless a list is to be diverse.
    """
    policy, rules, k = asked.policy, asked.rules, asked.request.k
    greedy = policy.temperature == 0 and not rules.diversity
    candidates = order.best(eligible, k if greedy else num_candidates)
    rng = np.random.default_rng(seed)
    new = engine.new_items(eligible) if policy.new_share else NO_ITEMS
    if not rules.look_above:
        scores = order.scores(candidates)
        return draw_slate(candidates, scores, eligible, k, policy, rng, new), len(candidates)
    placed = slots_of_pins(rules.pins, engine, eligible, k)
    limits = AtMost(engine, rules.at_most) if rules.at_most else None
    if limits is not None:
        within = _best_within(order, eligible, k, limits, list(placed.values()))
        candidates = np.union1d(candidates, np.array(within, dtype=np.int64))
        limits.restart()
    scores = order.scores(candidates)
    best_first = np.lexsort((candidates, -scores))
    candidates, scores = candidates[best_first], scores[best_first]
    slate = draw_stepwise(
        candidates,
        scores,
        eligible,
        k,
        policy,
        rng,
        new,
        placed=placed,
        limits=limits,
        reranking=Diversity(engine, candidates, scores, rules.diversity)
        if rules.diversity
        else None,
    )
    return slate, len(candidates)


def _best_within(
    order: Ranking, eligible: np.ndarray, n: int, limits: AtMost, taken: Sequence[int]
) -> list[int]:
    """The best `n` items that may stand in one list, beside those that it has.

    Without them among the candidates, a list whose best items share a value would run out of
    candidates, and end with uniform draws.
    """
    free = eligible.copy()
    found: list[int] = []

    def take(item: int) -> None:
        free[item] = False
        if (barred := limits.take(item)) is not None:
            free[barred] = False

    for item in taken:
        take(item)
    while len(found) < n:
        best = order.best(free, MORE * (n - len(found)))
        if not len(best):
            break
        for item in best.tolist():
            if free[item] and len(found) < n:
                found.append(item)
                take(item)
    return found


def draw_seed(request_id: str) -> int:
    """The seed of a request's draw, so that a logged slate can be drawn again."""
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=6).digest())
