import shutil
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from deploy.monitor import PROMETHEUS, configure, hurried, monitoring
from serving.release.processes import ServerFailed, free_port
from serving.security import create_keys


def test_hurried_rules_keep_their_thresholds():
    rule = "expr: increase(x[1h]) > 3 * 86400\nfor: 30m\nexpr: rate(y[5m])"
    assert hurried(rule, 60) == "expr: increase(x[60s]) > 3 * 86400\nfor: 30s\nexpr: rate(y[5s])"
    assert hurried(rule, 1) == rule


def test_hurried_rules_are_the_same_rules():
    for path in (PROMETHEUS / "rules").glob("*.yml"):
        slow, fast = path.read_text(), hurried(path.read_text(), 60)
        sizes = [[len(g["rules"]) for g in yaml.safe_load(text)["groups"]] for text in (slow, fast)]
        assert sizes[0] == sizes[1]


def test_the_key_is_in_a_private_file_and_not_in_the_configuration(tmp_path):
    home, state = tmp_path / "site", tmp_path / "state"
    home.mkdir()
    key = create_keys(home / "api_keys.json").metrics[0]
    path = configure(state, home, "a:1", "b:2", every=15, hurry=1)
    configuration = yaml.safe_load(path.read_text())
    [service, quality] = configuration["scrape_configs"]
    assert service["static_configs"] == [{"targets": ["a:1"]}]
    assert quality["static_configs"] == [{"targets": ["b:2"]}]
    assert key not in path.read_text()
    key_file = state / service["authorization"]["credentials_file"]
    assert key_file.read_text() == key
    assert key_file.stat().st_mode & 0o077 == 0


def test_a_service_without_keys_is_scraped_without_one(tmp_path):
    path = configure(tmp_path / "state", tmp_path, "a:1", "b:2", every=15, hurry=1)
    assert "authorization" not in path.read_text()


def test_a_machine_without_prometheus_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with (
        pytest.raises(ServerFailed, match="apt-get install prometheus"),
        monitoring(tmp_path, "a:1", state=tmp_path, port=free_port(), exporter_port=free_port()),
    ):
        pass


STARTER = """
import subprocess, sys, time
from serving.release.lifetime import end_with_parent
child = subprocess.Popen(["sleep", "300"], start_new_session=True, preexec_fn=end_with_parent)
print(child.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's parent death signal")
def test_nothing_outlives_a_killed_starter():
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    child = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
