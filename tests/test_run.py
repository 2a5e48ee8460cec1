"""The whole pipeline through KFP's local runner: promoted, held, and killed on the way."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from small_site import Site

from components.support.stage import STAGES, read_stages
from serving.registry import ModelStore

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("run")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return Site.create(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def promoted(site):
    """A run that was killed in three of its stages, and then ended well when it was repeated."""
    for stage in ("train", "register", "deploy"):
        killed = site.start("promoted")
        _wait_for(stage, site.run_dir("promoted"))
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert ModelStore(site.home / "models").aliases().champion is None
    finished = site.run("promoted", "--json", str(site.folder / "summary.json"))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


def test_a_good_model_is_promoted_and_answered_over_http(site, promoted):
    summary = site.summary("promoted")
    assert summary["gate"]["verdict"] == "promote"
    assert summary["deployed"] is True
    store = ModelStore(site.home / "models")
    assert store.aliases().champion == summary["model_version"]
    store.verify(summary["model_version"])
    deployment = (site.run_dir("promoted") / "deployment.json").read_text()
    for asked in ("known_user", "unknown_user", "bare_list"):
        assert asked in deployment


def test_kills_on_the_way_leave_one_version_and_no_half_trained_model(site, promoted):
    [version] = ModelStore(site.home / "models").versions()
    assert version.version == site.summary("promoted")["model_version"]
    assert not list((site.home / "training").iterdir())


def test_the_summary_says_what_the_run_was(site, promoted):
    summary = site.summary("promoted")
    assert (site.folder / "summary.json").exists()
    assert len(summary["split"]["sha256"]) == 64
    assert {"ndcg@10", "hr@10"} <= summary["metrics"].keys()
    assert {"popularity", "bigram Markov"} <= summary["baselines"].keys()
    assert list(summary["seconds"]) == list(STAGES)
    assert all(mib > 50 for mib in summary["peak_memory_mib"].values())


def test_the_last_line_says_what_happened_and_what_to_type_next(promoted):
    last_line = promoted.stdout.strip().splitlines()[-1]
    assert last_line.startswith("promote: test NDCG@10")
    assert "make serve" in last_line


def test_an_untrained_model_is_held_and_the_champion_stays(site, promoted):
    before = ModelStore(site.home / "models").aliases()
    held = site.run("held", settings=("train.epochs=0",))
    assert held.returncode == 3, held.stdout + held.stderr
    assert site.summary("held")["gate"]["verdict"] == "hold"
    assert site.summary("held")["deployed"] is False
    assert "register" not in read_stages(site.run_dir("held"))
    assert ModelStore(site.home / "models").aliases() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "nowhere.csv"], "nowhere.csv"),
        (["--set", "train.epoch=3"], "did you mean 'train.epochs'"),
        (["--run-dir", "/proc/runs"], "cannot write to /proc/runs"),
    ],
)
def test_bad_input_is_one_line_and_status_2(site, options, message):
    finished = site.run("bad", *options)
    assert finished.returncode == 2, finished.stdout + finished.stderr
    [line] = [line for line in finished.stderr.splitlines() if line]
    assert line.startswith("error: ")
    assert message in line


def test_ctrl_c_leaves_no_process_behind(site):
    started = site.start("interrupted")
    _wait_for("ingest", site.run_dir("interrupted"))
    family = psutil.Process(started.pid).children(recursive=True)
    assert family
    os.kill(started.pid, signal.SIGINT)
    output, _ = started.communicate(timeout=60)
    assert started.returncode == 130, output
    assert not [process for process in family if _alive(process)]
    assert output.strip().splitlines()[-1].startswith("error: interrupted")


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # ended, not yet reaped by init
    except psutil.NoSuchProcess:
        return False


def _wait_for(stage: str, run_dir: Path) -> None:
    deadline = time.monotonic() + 240
    while read_stages(run_dir).get(stage, {}).get("status") != "running":
        assert time.monotonic() < deadline, f"stage {stage} never began"
        time.sleep(0.01)
