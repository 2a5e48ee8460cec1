"""What Prometheus sees. Every label is from a fixed set: never a user, an item or a raw path."""

import os
from collections import Counter as Counts
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from serving.engine.rules import KINDS, PIN

if TYPE_CHECKING:
    from sasrec.off_policy.policy import Policy
    from serving.engine.recommendation import Recommendation

LATENCY_BUCKETS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0)
HISTORY_BUCKETS = (0, 1, 2, 5, 10, 20, 50, 100, 200)
PROPENSITY_BUCKETS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0)
DEGRADATIONS = ("history", "deadline", "model")

REQUESTS = Counter("reco_requests_total", "Answers by route and HTTP status.", ["route", "status"])
LATENCY = Histogram(
    "reco_request_duration_seconds",
    "From the request's arrival in the application to the end of the answer.",
    ["route", "outcome"],
    buckets=LATENCY_BUCKETS,
)
IN_FLIGHT = Gauge(
    "reco_requests_in_flight",
    "Recommendations and events under way.",
    multiprocess_mode="livesum",
)
RECOMMENDATIONS = Counter(
    "reco_recommendations_total",
    "Lists served, by policy and whether the model knew an item of the history (known, cold).",
    ["policy", "history"],
)
HISTORY_EVENTS = Histogram(
    "reco_history_events",
    "Events in the history that a list was made from.",
    buckets=HISTORY_BUCKETS,
)
DEGRADED = Counter(
    "reco_degraded_total", "Recommendations made without what they should have had.", ["reason"]
)
IMPRESSIONS = Counter(
    "reco_impressions_total", "Served slots by policy and position.", ["policy", "position"]
)
EXPLORED = Counter(
    "reco_explored_impressions_total", "Served slots that were drawn uniformly.", ["policy"]
)
RULED = Counter(
    "reco_ruled_lists_total",
    "Lists that a kind of rule had a part in.",
    ["rule"],
)
PLACED = Counter(
    "reco_placed_impressions_total",
    "Served slots that a rule has filled; no other count has them.",
    ["rule"],
)
RULES_REFUSED = Counter(
    "reco_rules_refused_total", "Files of site rules that a worker could not read."
)
PROPENSITY = Histogram(
    "reco_propensity",
    "Propensities of top slots.",
    ["policy"],
    buckets=PROPENSITY_BUCKETS,
)
PROPENSITY_INVALID = Counter(
    "reco_propensity_invalid_total", "Served slots whose propensity is not in (0, 1]."
)
EXPLORATION_CONFIGURED = Gauge(
    "reco_exploration_configured_ratio",
    "Share of slots that a policy should draw uniformly.",
    ["policy"],
    multiprocess_mode="livemax",
)
EVENTS = Counter("reco_events_total", "Events acknowledged as durable.")
EVENTS_AHEAD = Counter(
    "reco_events_ahead_total", "Events of a clock that is ahead, which count as of their arrival."
)
ITEM_UPDATES = Counter("reco_item_updates_total", "Changes of items acknowledged as durable.")
EVENT_DURABLE = Histogram(
    "reco_event_durable_seconds",
    "From taking events to having them on disk.",
    buckets=LATENCY_BUCKETS,
)
EVENT_VISIBLE = Histogram(
    "reco_event_visible_seconds",
    "From taking events to the next recommendation seeing them.",
    buckets=(*LATENCY_BUCKETS, 5.0, 30.0),
)
EVENT_LOG_FAILURES = Counter(
    "reco_event_log_failures_total", "Groups of records that the event log could not write."
)
HISTORY_FAILURES = Counter(
    "reco_history_write_failures_total", "Failed attempts to apply events to the online history."
)
GENERATION = Gauge(
    "reco_champion_generation",
    "Generation of the aliases that a worker serves.",
    multiprocess_mode="liveall",
)
SWAP_FAILURES = Counter("reco_swap_failures_total", "Versions that a worker refused to serve.")


@cache
def _of(metric: Any, *labels: str) -> Any:
    """The series of a metric: looked up once, since that costs more than counting."""
    return metric.labels(*labels)


def observe_request(route: str, status: int, seconds: float) -> None:
    """Count one answer; `route` is a name of `serving.api.guard`, never a path."""
    outcome = "ok" if status < 400 else "client_error" if status < 500 else "server_error"
    _of(REQUESTS, route, str(status)).inc()
    _of(LATENCY, route, outcome).observe(seconds)


def configure_policies(policies: Iterable["Policy"]) -> None:
    """Say how much each policy is meant to explore, and begin every count that may stay 0 at 0."""
    for reason in DEGRADATIONS:
        _of(DEGRADED, reason)
    for kind in KINDS:
        _of(RULED, kind)
    _of(PLACED, PIN)
    for policy in policies:
        _of(EXPLORATION_CONFIGURED, policy.name).set(policy.epsilon)
        _of(EXPLORED, policy.name)


def observe_recommendation(answer: "Recommendation") -> None:
    """Count one slate."""
    policy, slate = answer.policy.name, answer.slate
    cold = all(score is None for score in answer.scores)
    _of(RECOMMENDATIONS, policy, "cold" if cold else "known").inc()
    HISTORY_EVENTS.observe(len(answer.history.item_ids))
    placed = answer.placed
    for kind in answer.rules.kinds:
        _of(RULED, kind).inc()
    if placed:
        _of(PLACED, PIN).inc(len(placed))
    drawn = [position for position in range(len(slate.items)) if position not in placed]
    slots = Counts(map(position_bucket, drawn))
    for position, count in slots.items():
        _of(IMPRESSIONS, policy, position).inc(count)
    if explored := int(slate.explored.sum()):
        _of(EXPLORED, policy).inc(explored)
    if len(slate.items) and 0 not in placed:
        _of(PROPENSITY, policy).observe(slate.propensities[0])
    valid = (slate.propensities > 0) & (slate.propensities <= 1)
    if not valid.all():
        PROPENSITY_INVALID.inc(int(np.count_nonzero(~valid)))
    if answer.degraded is not None:
        _of(DEGRADED, answer.degraded).inc()


def position_bucket(position: int) -> str:
    """The label of a slot, 0 at the top: each of the first three, then ranges."""
    if position < 3:
        return str(position + 1)
    return "4-10" if position < 10 else "11-100"


def exposition() -> bytes:
    """All series of all workers in the text format.

    Counts of workers that are gone stay in the sums; their gauges go.
    """
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(PROCESS_REGISTRY)
    for pid in {int(path.stem.rpartition("_")[2]) for path in _gauge_files()}:
        if not psutil.pid_exists(pid):
            mark_process_dead(pid)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)


def _gauge_files() -> Iterable[Path]:
    return Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*_*.db")
