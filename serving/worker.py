"""What one serving process holds, and how it answers: models, histories, policy, event log."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sasrec.policy import Slate, draw_slate
from serving import metrics
from serving.engine import Engine, top_candidates
from serving.event_log import EventLog
from serving.golden import replay
from serving.histories import Histories, History, merge
from serving.policy import choose_policy, request_seed
from serving.registry import ModelStore
from serving.registry.store import RegistryError
from serving.schemas import Event, RecommendedItem, RecommendRequest, RecommendResponse
from serving.settings import Settings


class Worker:
    """Answers requests of one site.

    Args:
        settings: where the site is and how it explores.

    Raises:
        RegistryError: no version may serve, or it is broken.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = ModelStore(settings.models)
        self.engine = self._load()
        settings.feature_store.mkdir(parents=True, exist_ok=True)
        self.histories = Histories(settings.history_location, length=settings.history_length)
        self.log = EventLog(settings.event_log_location)
        # One thread computes; the event loop stays free to accept, refuse and report.
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="inference")

    def _load(self) -> Engine:
        version = self.settings.model_version or self.store.aliases().champion
        if version is None:
            raise RegistryError(f"{self.store.root}: no champion yet; run the pipeline first")
        self.store.verify(version)
        engine = Engine(self.store.path(version))
        replay(engine, self.store.path(version))
        engine.warm_up()
        return engine

    def close(self) -> None:
        """Finish what is queued and let go of files."""
        self._compute.shutdown()
        self.log.close()
        self.histories.close()

    async def recommend(self, request: RecommendRequest) -> RecommendResponse:
        """The slate for a request, logged with its propensities."""
        return await asyncio.get_running_loop().run_in_executor(
            self._compute, self._recommend, request
        )

    def _recommend(self, request: RecommendRequest) -> RecommendResponse:
        engine = self.engine
        request_id = request.request_id or uuid.uuid4().hex
        stored = self.histories.latest(request.user_id) if request.user_id else History.empty()
        history = merge(stored, request.recent_items)
        degraded = None
        scores = engine.scores(history.item_ids, history.timestamps)
        if len(engine.encode(history.item_ids)) == 0:
            scores = engine.items.popularity.copy()
        policy = choose_policy(request.user_id, self.settings)
        eligible = self._eligible(engine, request, history.item_ids)
        candidates = top_candidates(scores, eligible, self.settings.candidates)
        seed = request_seed(request_id)
        slate = draw_slate(
            candidates,
            scores[candidates],
            eligible,
            request.k,
            policy,
            np.random.default_rng(seed),
        )
        response = RecommendResponse(
            request_id=request_id,
            model_version=engine.version,
            policy=policy.name,
            degraded=degraded,
            items=_slots(engine, slate, scores),
        )
        self._log(request, response, history, slate, seed, len(candidates), int(eligible.sum()))
        metrics.observe_slate(policy.name, slate, degraded)
        return response

    def _eligible(
        self, engine: Engine, request: RecommendRequest, history: Sequence[str]
    ) -> np.ndarray:
        """(V + 1,) bool: what may be shown."""
        if request.category is None:
            eligible = np.ones(len(engine.vocabulary) + 1, dtype=bool)
        else:
            eligible = engine.items.in_category(request.category)
        eligible[0] = False
        eligible[engine.encode(request.exclude)] = False
        if not request.allow_repeats:
            eligible[engine.encode(history)] = False
        return eligible

    def _log(
        self,
        request: RecommendRequest,
        response: RecommendResponse,
        history: History,
        slate: Slate,
        seed: int,
        candidates: int,
        eligible: int,
    ) -> None:
        self.log.append_later(
            {
                "type": "impression",
                "request_id": response.request_id,
                "user_id": request.user_id,
                "timestamp": time.time_ns() // 1000,
                "policy": response.policy,
                "model_version": response.model_version,
                "degraded": response.degraded,
                "seed": seed,
                "history_length": len(history.item_ids),
                "history_hash": history.hash(),
                "candidates": candidates,
                "eligible": eligible,
                "item_ids": [item.item_id for item in response.items],
                "scores": [item.score for item in response.items],
                "propensities": slate.propensities.tolist(),
                "explored": slate.explored.tolist(),
            }
        )

    async def record(self, events: Sequence[Event]) -> None:
        """Make events durable, then visible to the next recommendation.

        Raises:
            LogUnavailable: nothing was recorded.
        """
        now = time.time_ns() // 1000
        records = [
            {
                "type": "event",
                "event_id": event.event_id,
                "request_id": event.request_id,
                "user_id": event.user_id,
                "item_id": event.item_id,
                "event_type": event.event_type,
                "timestamp": round(event.timestamp.timestamp() * 1e6) if event.timestamp else now,
                "received_at": now,
            }
            for event in events
        ]
        await asyncio.wrap_future(self.log.append(records))
        await asyncio.get_running_loop().run_in_executor(
            self._compute, self.histories.append, records
        )
        metrics.EVENTS.inc(len(events))


def _slots(engine: Engine, slate: Slate, scores: np.ndarray) -> list[RecommendedItem]:
    ids = engine.vocabulary.decode(slate.items)
    return [
        RecommendedItem(
            item_id=item_id,
            score=float(score) if np.isfinite(score) else None,
            p_interact=None,
            position=position,
            propensity=propensity,
        )
        for position, (item_id, score, propensity) in enumerate(
            zip(ids, scores[slate.items], slate.propensities.tolist(), strict=True)
        )
    ]
