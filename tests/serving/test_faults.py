"""Short forms of `python -m benchmarks.faults`: real servers, real kills.

Times are not judged here, for other tests run beside: benchmarks/results/faults.json has them.
"""

import http.client
import json
import shutil
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.faults import damage, disk, hostile
from benchmarks.faults.history_away import take_history_away
from benchmarks.faults.item_kills import kill_while_items_change
from benchmarks.faults.kills import kill_under_load
from benchmarks.faults.server import Server
from benchmarks.faults.site import make_site
from benchmarks.faults.swap import WORKERS, swap_under_load
from serving.release.processes import check_port
from tests.feature_repo.redis_server import require_redis


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path / "site")


def test_versions_come_and_go_under_load_and_broken_ones_never_serve(site, tmp_path):
    result = swap_under_load(site, tmp_path, swaps=6, rollbacks=1)
    assert result["requests"] > 100
    assert result["failed_requests"] == 0
    refusals = result["broken_versions_refused_by_workers"]
    assert refusals == {kind.__name__: WORKERS for kind in damage.KINDS}


def test_kill_9_loses_no_acknowledged_event_and_applies_none_twice(site, tmp_path):
    result = kill_under_load(site, tmp_path, kills=3, whole_server_every=3)
    assert result["kills"] == {"worker": 2, "server": 1}
    assert result["acknowledged_events"] > 100
    losses = ("lost_from_the_log", "lost_from_histories", "applied_twice")
    assert {name: result[name] for name in losses} == dict.fromkeys(losses, 0)


def test_kill_9_loses_no_acknowledged_change_of_an_item(site, tmp_path):
    result = kill_while_items_change(site, tmp_path, kills=2, whole_server_every=2)
    assert result["kills"] == {"worker": 1, "server": 1}
    assert result["acknowledged_changes"] > 50
    assert (result["lost_from_the_log"], result["not_served"]) == (0, 0)


def test_workers_do_not_outlive_a_killed_supervisor_and_keep_its_port(site, tmp_path):
    with Server(site, tmp_path / "server.log") as server:
        workers = server.workers()
        server.kill_supervisor()
        gone, alive = psutil.wait_procs(workers, timeout=60)
        assert (len(gone), alive) == (2, [])
        check_port("127.0.0.1", server.port)


def test_without_its_history_the_service_answers_degraded_and_recovers(site, tmp_path):
    require_redis()
    result = take_history_away(site, tmp_path, seconds=3.0)
    for kind in ("stopped", "hung"):
        away = result[kind]
        assert away["requests"] == away["answered_200"] == away["degraded"] > 20, kind
        assert away["events_sent"] == away["events_acknowledged"] > 3, kind
        assert away["events_missing_after_recovery"] == 0, kind


@pytest.mark.parametrize("fault", [disk.fill_disk, disk.fail_fsync], ids=lambda f: f.__name__)
def test_a_disk_that_takes_no_events_is_a_503_and_loses_none(site, tmp_path, fault):
    try:
        result = fault(site, tmp_path, refusals=20)
    except disk.CannotMount as error:
        pytest.skip(f"needs a disk of its own to fill: {error}")
    assert set(result["events_by_status"]) == {"202", "503"}
    assert set(result["recommendations_by_status_meanwhile"]) == {"200"}
    assert set(result["events_by_status_afterwards"]) == {"202"}
    assert result["acknowledged_and_lost"] == 0
    assert result["refused_and_logged"] == 0


@pytest.fixture(scope="module")
def annoyed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annoyed")
    with hostile.server_to_annoy(make_site(folder / "site"), folder) as server:
        yield server


def test_hostile_bodies_are_refused_and_leave_nothing_behind(annoyed):
    result = hostile.hostile_bodies(annoyed, bodies=1_000, huge=4)
    assert result["server_errors"] == 0
    assert result["worker_survived"]
    assert set(result["huge_by_status"]) == {"413"}
    *_, before_the_huge, at_the_end = result["memory_megabytes"]
    assert at_the_end < before_the_huge + 20


def test_random_paths_and_users_add_no_series_and_no_name_to_a_log(annoyed):
    result = hostile.random_paths_and_users(annoyed, requests=50)
    assert result["series_after"] == result["series_before"]
    assert result["canary_in_logs"] == 0


def test_every_answer_is_as_the_openapi_document_says(annoyed):
    if not shutil.which("schemathesis", path=Path(sys.executable).parent):
        pytest.skip("needs schemathesis, of the extra 'dev'")
    result = hostile.read_by_schema(annoyed, examples=20)
    assert (result["failures"], result["exit_status"]) == ([], 0)


def test_a_request_under_way_is_answered_after_sigterm(annoyed):
    """The last test of this server."""
    body = b'{"k": 3}'
    connection = http.client.HTTPConnection("127.0.0.1", annoyed.port, timeout=30)
    connection.putrequest("POST", "/v1/recommend")
    for name, value in annoyed.site.headers.items():
        connection.putheader(name, value)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:4])
    time.sleep(0.5)  # until the worker has seen it
    annoyed.terminate()
    time.sleep(0.5)
    connection.send(body[4:])
    response = connection.getresponse()
    assert response.status == 200
    assert len(json.loads(response.read())["items"]) == 3
    assert annoyed.has_ended(within=30)
