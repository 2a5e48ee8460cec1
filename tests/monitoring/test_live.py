"""A real service, a real Prometheus and a crowd: everything has data, incidents fire and clear."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from components.support.outcome_metrics import write_outcome
from components.support.stage import stage
from deploy.dashboards.panels import BOARDS, with_any_variable
from deploy.demo.crowd import Crowd
from deploy.demo.incidents import ALERT, Incident, happening
from deploy.monitor import PROMETHEUS, monitoring
from sasrec.data.simulated import Storefront
from serving.release.processes import free_port, running_server
from serving.security import create_keys
from tests.monitoring.prometheus import require_prometheus
from tests.monitoring.site import make_site

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]

HURRY, WINDOW = 300, 45.0
DEADLINE = 240.0  # for a machine that is busy with other things
MOST_SERIES = 600  # of one worker and its exporter, whatever the traffic
SETTINGS = {
    "SASREC_DEADLINE_SECONDS": "10",
    "SASREC_CHALLENGER_SHARE": "0.15",
    "SASREC_EPSILON": "0.1",
}
# How fast and how busy the machine is that runs the tests is not what is tested.
ABOUT_THIS_MACHINE = {"RecoLatencyBudgetBurn", "RecoDegraded"}


class Live:
    """The running system, and what Prometheus says of it."""

    def __init__(self, home: Path, service: str, exporter: str, prometheus: str) -> None:
        self.home, self.service, self.exporter = home, service, exporter
        self.key = create_keys(home / "api_keys.json").admin[0]
        self._client = httpx.Client(base_url=prometheus, timeout=30)

    def query(self, expr: str) -> list:
        answer = self._client.get("/api/v1/query", params={"query": expr})
        assert answer.status_code == 200, f"{expr}: {answer.text}"
        return answer.json()["data"]["result"]

    def has_number(self, expr: str) -> bool:
        return any(sample["value"][1] != "NaN" for sample in self.query(expr))

    def firing(self, matching: str = "") -> set[str]:
        found = self.query(f'ALERTS{{alertstate="firing"{matching}}}')
        return {alert["metric"]["alertname"] for alert in found}

    def pages(self) -> set[str]:
        return self.firing(',severity="page"')


def until(reached: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < deadline, f"waited {DEADLINE:.0f} s in vain: {what}"
        time.sleep(0.5)


class Visiting:
    """A crowd in a thread of its own, and the incidents that it lives through."""

    def __init__(self, live: Live, storefront: Storefront) -> None:
        self._live, self._storefront = live, storefront
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._ready = threading.Event()

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._live.key}"}
        async with httpx.AsyncClient(
            base_url=self._live.service, headers=headers, timeout=60
        ) as client:
            self.crowd, self._stop = Crowd(self._storefront, client), asyncio.Event()
            self._ready.set()
            await self.crowd.run(visits_per_second=12, stop=self._stop)

    def __enter__(self) -> "Visiting":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def during(self, incident: Incident) -> Iterator[None]:
        context = happening(incident, self._live.home, self.crowd)
        self._await(context.__aenter__())
        try:
            yield
        finally:
            self._await(context.__aexit__(None, None, None))

    def _await(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE)


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Iterator[tuple[Live, Visiting]]:
    require_prometheus()
    folder = tmp_path_factory.mktemp("live")
    home = folder / "site"
    storefront = make_site(home, folder)
    with stage("deploy", str(folder / "run")):
        pass
    (folder / "run" / "skew.json").write_text('{"users": 200, "skewed_users": 0}')
    write_outcome(home, folder / "run")
    port, exporter_port = free_port(), free_port()
    with (
        running_server(home, log=folder / "service.log", settings=SETTINGS) as service,
        monitoring(
            home,
            service.removeprefix("http://"),
            state=folder / "prometheus",
            port=port,
            exporter_port=exporter_port,
            window=WINDOW,
            hurry=HURRY,
        ) as prometheus,
    ):
        live = Live(home, service, f"http://127.0.0.1:{exporter_port}", prometheus)
        with Visiting(live, storefront) as visiting:
            yield live, visiting


def test_every_rule_and_every_panel_query_has_data(system):
    live, _ = system
    rules = [
        rule["record"]
        for group in yaml.safe_load((PROMETHEUS / "rules" / "recording.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    panels = [query.expr for board in BOARDS for panel in board.panels for query in panel.queries]
    missing = {with_any_variable(expr) for expr in [*rules, *panels]}

    def all_found() -> bool:
        missing.difference_update([expr for expr in missing if live.has_number(expr)])
        return not missing

    try:
        until(all_found, "data of every query")
    except AssertionError:
        raise AssertionError(f"without data: {sorted(missing)}") from None


def test_series_do_not_grow_with_users_items_or_paths(system):
    live, _ = system
    headers = {"Authorization": f"Bearer {live.key}"}
    for path in ("/wp-login.php", "/v1/recommend/user-17", "/%00"):
        httpx.get(f"{live.service}{path}", headers=headers)
    text = httpx.get(f"{live.service}/metrics", headers=headers).text
    text += httpx.get(f"{live.exporter}/metrics").text
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert 200 < len(samples) < MOST_SERIES
    assert "wp-login" not in text


@pytest.mark.parametrize("incident", [Incident.DRIFT, Incident.BAD_MODEL])
def test_an_incident_fires_its_alert_and_no_other_page_and_clears(system, incident):
    live, visiting = system
    alert = ALERT[incident]
    # What came before has to leave the window first.
    until(lambda: not live.pages() - ABOUT_THIS_MACHINE, "no page before the incident")
    with visiting.during(incident):
        until(lambda: alert in live.firing(), f"{alert} to fire")
        assert live.pages() - ABOUT_THIS_MACHINE == {alert}
    until(lambda: alert not in live.firing(), f"{alert} to clear")
    assert visiting.crowd.failures == 0
