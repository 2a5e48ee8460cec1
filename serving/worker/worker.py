"""What one serving process holds: models, histories, policy, event log."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

from feature_repo.catalogue import open_catalogue
from feature_repo.event_codec import Record
from feature_repo.history import open_history
from feature_repo.online import OnlineHistory, Unavailable
from feature_repo.tables import HISTORY_LIMIT
from sasrec.off_policy.policy import UNIFORM
from serving import metrics
from serving.engine.engine import Engine
from serving.engine.recommendation import Asked, Recommendation, recommend_popular
from serving.engine.request_history import History, by_role, example_users, with_recent_items
from serving.engine.routing import choose_policy, ranking_policy, serves_challenger
from serving.engine.rules import Rules, check, check_filter
from serving.events.history_writer import HistoryWriter, LogKeeper, catch_up
from serving.events.writer import EventLog, unapplied
from serving.filters import FilterError
from serving.registry import open_registry
from serving.schemas import (
    Event,
    RecommendRequest,
    RuleFields,
    ServingStatus,
    SimilarItem,
    SimilarRequest,
    SimilarResponse,
)
from serving.settings import Settings
from serving.worker.admission import Queue
from serving.worker.batches import Job, recommend_all
from serving.worker.errors import Busy, HistoryAway
from serving.worker.hot_swap import LiveModels
from serving.worker.live_catalogue import LiveCatalogue
from serving.worker.site_rules import SiteRules
from serving.worker.trend_follower import TrendFollower

logger = logging.getLogger(__name__)

SLICE = 32  # lists of a batch that are computed before the next look at who else asks


class Worker:
    """Answers requests of one site.

    Args:
        settings: where the site is and how it explores.

    Raises:
        RegistryError: no version may serve, or it is broken.
        SettingsError: the site's rules are none.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._rules = SiteRules(settings)
        self.models = LiveModels(
            open_registry(settings.home),
            pinned=settings.model_version,
            index_above=settings.index_above,
        )
        settings.feature_store.mkdir(parents=True, exist_ok=True)
        store = open_history(settings.history_location)
        catalogue = open_catalogue(settings.history_location)
        self._histories = OnlineHistory(settings.feature_store, store)
        self._log = EventLog(settings.event_log_location)
        catch_up(store, unapplied(self._log.finished), catalogue)
        self._history_writer = HistoryWriter(store, catalogue)
        self._log_keeper = LogKeeper(store, settings.event_log_location, catalogue)
        self._catalogue = LiveCatalogue(catalogue)
        self._trends = TrendFollower(store, self.models.engines)
        self._trends.start()
        # One thread computes; the event loop stays free to accept, refuse and report.
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._recommend_all = partial(recommend_all, candidates=settings.candidates)
        self._queue = Queue(self._recommend_all, self._compute, settings.deadline_seconds)
        self._example_users = example_users(settings.feature_store)
        self._batches = asyncio.Lock()
        self._answered = 0
        self._degraded = 0
        metrics.configure_policies([ranking_policy(settings), UNIFORM])

    def close(self) -> None:
        """Finish what is queued and let go of files."""
        self.models.close()
        self._compute.shutdown()
        self._log.close()
        self._log_keeper.close()
        self._trends.close()
        self._rules.close()
        self._history_writer.close()
        self._catalogue.close()
        self._histories.close()

    async def recommend(self, request: RecommendRequest) -> Recommendation:
        """Answer a request and log what was shown. Degrades rather than fails.

        Raises:
            Busy: it would have waited too long.
            FilterError: its rules say nothing about these items.
        """
        with self._queue.place():
            engine = self._engine(request.user_id)
            check(request, engine)
            job = await self._job(engine, request)
            try:
                answer = await self._queue.run(job)
            except TimeoutError:
                answer = _popular(job, "deadline")
            except Exception as error:
                answer = _popular(job, "model", error)
        self._has_served(answer)
        return answer

    async def recommend_batch(self, requests: Sequence[RecommendRequest]) -> list[Recommendation]:
        """Answer many requests and log what was shown, as `recommend` does, `SLICE` at a time.

        They are computed beside the event loop, so that who asks for one list does not wait for
        hundreds.

        Raises:
            Busy: other batches were under way for as long as a request may take.
            FilterError: the rules of a request say nothing about these items; none is answered.
        """
        for number, request in enumerate(requests):
            try:
                check(request, self._engine(request.user_id))
            except FilterError as error:
                raise error.under("requests", number) from None
        try:
            await asyncio.wait_for(self._batches.acquire(), self.settings.deadline_seconds)
        except TimeoutError:
            raise Busy from None
        try:
            answers = []
            for start in range(0, len(requests), SLICE):
                answers += await self._answer_slice(requests[start : start + SLICE])
        finally:
            self._batches.release()
        for answer in answers:
            self._has_served(answer)
        return answers

    async def _answer_slice(self, requests: Sequence[RecommendRequest]) -> list[Recommendation]:
        jobs = [await self._job(self._engine(request.user_id), request) for request in requests]
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._compute, self._recommend_all, jobs)
        return [
            _popular(job, "model", answer) if isinstance(answer, Exception) else answer
            for job, answer in zip(jobs, answers, strict=True)
        ]

    def _has_served(self, answer: Recommendation) -> None:
        self._log.append_later(answer.impression(time.time_ns() // 1000))
        self._catalogue.count(answer)
        metrics.observe_recommendation(answer)
        self._answered += 1
        self._degraded += answer.degraded is not None

    def similar(self, request: SimilarRequest) -> SimilarResponse:
        """The items nearest to one, by the champion's embeddings.

        Raises:
            KeyError: it knows no such item.
            FilterError: the filter says nothing about these items.
        """
        engine = self.champion
        check_filter(request.filter, engine)
        eligible = engine.eligible(category=request.category, exclude=request.exclude, seen=())
        site = self._rules.current
        for rules in (request, site):
            if rules is not None and rules.filter is not None:
                eligible &= engine.mask(rules.filter)
        items, cosines = engine.similar(request.item_id, eligible, request.k)
        return SimilarResponse(
            model_version=engine.version,
            items=[
                SimilarItem.model_validate({**engine.describe(item), "similarity": cosine})
                for item, cosine in zip(items.tolist(), cosines.tolist(), strict=True)
            ],
        )

    def _rules_of(self, request: RuleFields) -> Rules:
        return Rules.of(request, self._rules.current, datetime.now(UTC))

    async def stored_history(self, user_id: str, engine: Engine | None = None) -> History:
        """What is stored of a user, as `engine` sees it; by default the champion.

        Raises:
            HistoryAway: the store does not answer.
        """
        try:
            found = await self._histories.latest(user_id, HISTORY_LIMIT)
        except Unavailable as error:
            raise HistoryAway(str(error)) from None
        roles = (engine or self.models.current.champion).roles
        return by_role(found, roles, self.settings.history_length)

    def status(self) -> ServingStatus:
        """What this worker serves."""
        snapshot = self.models.current
        return ServingStatus(
            champion=snapshot.champion.version,
            challenger=snapshot.challenger.version if snapshot.challenger else None,
            generation=snapshot.generation,
            index_recall=snapshot.champion.index_recall,
            policy=ranking_policy(self.settings).name,
            gold_share=self.settings.gold_share,
            challenger_share=self.settings.challenger_share,
            recommendations=self._answered,
            degraded=self._degraded,
            example_users=self._example_users,
            negative_events=sorted(snapshot.champion.roles.negative),
            attributes=dict(sorted(self.champion.kinds.items())),
        )

    async def _job(self, engine: Engine, request: RecommendRequest) -> Job:
        history, degraded = await self._history(request, engine)
        policy = choose_policy(request.user_id, self.settings)
        rules = self._rules_of(request)
        return Job(engine, Asked(request, history, policy, degraded, rules))

    async def _history(
        self, request: RecommendRequest, engine: Engine
    ) -> tuple[History, str | None]:
        """The history to rank with, and why it may lack something."""
        if request.user_id is None:
            return with_recent_items(History.empty(), request.recent_items), None
        try:
            stored = await self.stored_history(request.user_id, engine)
        except HistoryAway:
            return with_recent_items(History.empty(), request.recent_items), "history"
        return with_recent_items(stored, request.recent_items), None

    def _engine(self, user_id: str | None) -> Engine:
        snapshot = self.models.current
        if snapshot.challenger is not None and serves_challenger(user_id, self.settings):
            return self._catalogue.extend(snapshot.challenger)
        return self._catalogue.extend(snapshot.champion)

    @property
    def champion(self) -> Engine:
        """What serves most, with the live items."""
        return self._catalogue.extend(self.models.current.champion)

    async def record(self, events: Sequence[Event]) -> None:
        """Make events durable, then visible to the next recommendation of every worker.

        While the online history is away they are durable all the same, and visible when it is back;
        nobody waits for it beyond the deadline.

        Raises:
            LogUnavailable: nothing was recorded.
        """
        now = time.time_ns() // 1000
        # In the order of the request, and never two of one moment: training drops what is the same
        # thing at the same time.
        records = [event.record(received_at=now + place) for place, event in enumerate(events)]
        metrics.EVENTS_AHEAD.inc(
            sum(
                event.timestamp is not None and record["timestamp"] == record["received_at"]
                for event, record in zip(events, records, strict=True)
            )
        )
        await self._record(records)
        metrics.EVENTS.inc(len(events))

    async def update_items(self, records: Sequence[Record]) -> None:
        """Make item records durable, then visible: to this worker at once, then to every one.

        Raises:
            LogUnavailable: nothing was recorded.
        """
        await self._record(list(records))
        metrics.ITEM_UPDATES.inc(len(records))
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, self._catalogue.refresh)
        except Exception as error:  # they are durable: the store has them when it is back
            logger.warning("catalogue: updates wait (%s)", type(error).__name__)

    async def _record(self, records: list[Record]) -> None:
        started = time.perf_counter()
        segment = await asyncio.wrap_future(self._log.append(records))
        metrics.EVENT_DURABLE.observe(time.perf_counter() - started)
        visible = asyncio.wrap_future(self._history_writer.append(records, segment))
        await asyncio.wait([visible], timeout=self.settings.deadline_seconds)
        if visible.done() and visible.result():
            metrics.EVENT_VISIBLE.observe(time.perf_counter() - started)


def _popular(job: Job, reason: str, error: Exception | None = None) -> Recommendation:
    """What everybody meets lately, in place of an answer that did not come."""
    if error is not None:
        logger.error("the model failed", exc_info=error)
    asked = job.asked
    return recommend_popular(
        job.engine, asked.request, asked.history, reason=reason, rules=asked.rules
    )
