"""From a history to a slate: what may be shown, who is a candidate, what was drawn and why."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sasrec.off_policy.policy import NO_ITEMS, Policy, Slate, draw_slate
from serving.engine.engine import Engine
from serving.engine.ranking import Ranking
from serving.engine.request_history import History
from serving.schemas import RecommendRequest


@dataclass(frozen=True)
class Recommendation:
    """One slate with all that is needed to judge it later.

    Attributes:
        item_ids, scores, p_interact: one per slot; None where the model did not score.
        candidates, eligible: sizes of the candidate set and of all that might have been shown.
        seed: of the draw, which `draw_slate` repeats.
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

    def response(self) -> dict[str, Any]:
        """As `serving.schemas.RecommendResponse` has it."""
        slots = zip(
            self.item_ids,
            self.scores,
            self.p_interact,
            self.slate.propensities.tolist(),
            strict=True,
        )
        return {
            "request_id": self.request_id,
            "model_version": self.model_version,
            "policy": self.policy.name,
            "degraded": self.degraded,
            "items": [
                {
                    "item_id": item_id,
                    "score": score,
                    "p_interact": p_interact,
                    "position": position,
                    "propensity": propensity,
                }
                for position, (item_id, score, p_interact, propensity) in enumerate(slots)
            ],
        }

    def impression(self, timestamp: int) -> dict[str, Any]:
        """As `serving.events.writer` has it; `timestamp` in microseconds."""
        return {
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


def recommend(
    engine: Engine,
    request: RecommendRequest,
    history: History,
    policy: Policy,
    *,
    candidates: int,
    degraded: str | None = None,
) -> Recommendation:
    """The model's slate; recent popularity's where no item of the history is known.

    Args:
        candidates: how many of the best items a Plackett-Luce slot draws from.
        degraded: why the history may be incomplete.
    """
    asked = Asked(request, history, policy, degraded)
    [answer] = recommend_batch(engine, [asked], candidates=candidates)
    return answer


def recommend_batch(
    engine: Engine, asked: Sequence[Asked], *, candidates: int
) -> list[Recommendation]:
    """As `recommend` for each request, with one forward pass for all."""
    rankings = engine.rank_batch([(a.history.item_ids, a.history.timestamps) for a in asked])
    return [
        _draw(engine, a.request, a.history, a.policy, ranking, candidates, a.degraded)
        for a, ranking in zip(asked, rankings, strict=True)
    ]


def recommend_popular(
    engine: Engine, request: RecommendRequest, history: History, *, reason: str
) -> Recommendation:
    """Recent popularity, for when the model cannot answer."""
    policy = Policy("popularity")
    return _draw(engine, request, history, policy, None, request.k, reason)


def _draw(
    engine: Engine,
    request: RecommendRequest,
    history: History,
    policy: Policy,
    ranking: Ranking | None,
    num_candidates: int,
    degraded: str | None,
) -> Recommendation:
    """Draw a slate by the model's ranking, or by recent popularity's where there is none.

    A greedy slot takes the best item that is free: of k slots, none needs more than k candidates.
    """
    request_id = request.request_id or uuid.uuid4().hex
    repeats = engine.repeats if request.allow_repeats is None else request.allow_repeats
    eligible = engine.eligible(
        category=request.category,
        exclude=[*request.exclude, *history.disliked],
        seen=() if repeats else [*history.older, *history.item_ids],
    )
    order = ranking or engine.rank_popular()
    candidates = order.best(eligible, request.k if policy.temperature == 0 else num_candidates)
    seed = draw_seed(request_id)
    rng = np.random.default_rng(seed)
    new = engine.new_items(eligible) if policy.new_share else NO_ITEMS
    slate = draw_slate(candidates, order.scores(candidates), eligible, request.k, policy, rng, new)
    unscored: list[float | None] = [None] * len(slate.items)
    shown = None if ranking is None else ranking.scores(slate.items)
    return Recommendation(
        request_id=request_id,
        user_id=request.user_id,
        model_version=engine.version,
        policy=policy,
        degraded=degraded,
        history=history,
        slate=slate,
        item_ids=engine.vocabulary.decode(slate.items),
        scores=unscored if shown is None else shown.tolist(),
        p_interact=unscored if shown is None else engine.p_interact(shown),
        candidates=len(candidates),
        eligible=int(np.count_nonzero(eligible)),
        seed=seed,
    )


def draw_seed(request_id: str) -> int:
    """The seed of a request's draw, so that a logged slate can be drawn again."""
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=6).digest())
