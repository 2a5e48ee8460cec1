"""Prometheus beside the month: which alerts fired while a step lasted."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from benchmarks.month.site import MonthSite
from deploy.monitor import monitoring
from serving.release.processes import free_port

HURRY = 360
"""A day of the shop takes some four minutes, and so much shorter are the durations of the rules."""
# Prometheus does not see the shop's clock; this is the newest moment that the exporter saw on it.
SHOP_NOW = "scalar(max(reco_quality_updated_timestamp_seconds))"


class Watch:
    """The alerts of a Prometheus."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def fired_within(self, seconds: float) -> list[str]:
        """Names of the alerts that fired at some time of the last so many seconds."""
        query = f'max_over_time(ALERTS{{alertstate="firing"}}[{max(1, round(seconds))}s])'
        answer = self._client.get("/api/v1/query", params={"query": query}).raise_for_status()
        return sorted({row["metric"]["alertname"] for row in answer.json()["data"]["result"]})

    def firing(self) -> list[str]:
        """Names of the alerts that fire now."""
        return self.fired_within(1)


@contextmanager
def watched(site: MonthSite, service: str) -> Iterator[Watch]:
    """Prometheus with the project's rules, and the quality exporter on the shop's clock.

    Args:
        service: its URL.
    """
    with monitoring(
        site.home,
        service.removeprefix("http://"),
        state=site.folder / "prometheus",
        port=free_port(),
        exporter_port=free_port(),
        hurry=HURRY,
        settings=site.clock.environment | {"TMPDIR": str(site.temporary)},
        now=SHOP_NOW,
    ) as url:
        yield Watch(url)
