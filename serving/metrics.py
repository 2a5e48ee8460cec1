"""What Prometheus sees. Every label is from a fixed set: never a user, an item or a raw path."""

import os

from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from sasrec.policy import Slate

LATENCY_BUCKETS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0)
PROPENSITY_BUCKETS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0)

REQUESTS = Counter(
    "reco_requests_total", "Answered requests by route and HTTP status.", ["route", "status"]
)
LATENCY = Histogram(
    "reco_request_duration_seconds",
    "Time from the parsed request to the answer.",
    ["route"],
    buckets=LATENCY_BUCKETS,
)
DEGRADED = Counter(
    "reco_degraded_total", "Recommendations that were not the model's, by reason.", ["reason"]
)
IMPRESSIONS = Counter(
    "reco_impressions_total",
    "Served slots by policy and position bucket.",
    ["policy", "position"],
)
EXPLORED = Counter(
    "reco_explored_impressions_total", "Served slots drawn uniformly, by policy.", ["policy"]
)
PROPENSITY = Histogram(
    "reco_propensity",
    "Logged propensities of served slots.",
    ["policy"],
    buckets=PROPENSITY_BUCKETS,
)
EVENTS = Counter("reco_events_total", "Events acknowledged as durable.")
UNKNOWN_ITEMS = Counter(
    "reco_unknown_items_total", "Items in requests that the serving version does not know."
)
GENERATION = Gauge(
    "reco_champion_generation",
    "Generation of the aliases that this worker serves.",
    multiprocess_mode="all",
)


def position_bucket(position: int) -> str:
    """The label of a slot, 0 at the top: each of the first three, then ranges."""
    if position < 3:
        return str(position + 1)
    return "4-10" if position < 10 else "11-100"


def observe_slate(policy: str, slate: Slate, degraded: str | None) -> None:
    """Count one answered recommendation."""
    for position, propensity in enumerate(slate.propensities):
        IMPRESSIONS.labels(policy, position_bucket(position)).inc()
        PROPENSITY.labels(policy).observe(propensity)
    EXPLORED.labels(policy).inc(int(slate.explored.sum()))
    if degraded is not None:
        DEGRADED.labels(degraded).inc()


def exposition() -> bytes:
    """All series of all workers in the text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(PROCESS_REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)
