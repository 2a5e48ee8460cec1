"""Two runs on one site, whose stages are pods: the second waits its turn, or the first stops."""

import contextlib
import itertools
import signal
from dataclasses import replace

import pytest

from components.start_run import start_run
from components.support.settings import build_config
from components.support.site_lease import HOME, begin, give_back, home_of
from components.support.stage import STAGES, read_stages, stage
from feature_repo import lease
from feature_repo.lease import LeaseHeld, LeaseLost, Superseded

FIRST, SECOND, LAST = STAGES[0], STAGES[1], STAGES[-1]
BEGIN = "start_run"


@pytest.fixture(autouse=True)
def on_a_cluster(monkeypatch):
    monkeypatch.delenv("SASREC_LOCAL_RUN", raising=False)
    monkeypatch.delenv(lease.MODELS_URL, raising=False)


@pytest.fixture
def pod(monkeypatch):
    """Run a stage in a pod of its own; `reached` lists the bodies that were."""

    hosts = itertools.count()
    reached = []

    def run(name, run_dir):
        host = f"pod-{next(hosts)}"
        monkeypatch.setattr("feature_repo.lease.this_host", lambda: host)
        if name == BEGIN:
            return begin(run_dir.parents[1], run_dir)
        with stage(name, str(run_dir)):
            reached.append((name, run_dir.name))

    run.reached = reached
    return run


def expire(home):
    """Let the holder be silent for too long."""
    store = lease.open_lease_store(home)
    newest = store.generations()[-1]
    claim = lease.Claim.parse(store.read(newest)[0])
    store.write(newest, replace(claim, seconds=1e-9).to_bytes())


def test_a_second_run_is_refused_until_the_first_has_deployed(pod, tmp_path):
    nightly, by_hand = tmp_path / "runs/nightly", tmp_path / "runs/by-hand"
    pod(BEGIN, nightly)
    with pytest.raises(LeaseHeld, match=f"another run is using {tmp_path}: .*nightly"):
        pod(BEGIN, by_hand)
    assert not by_hand.exists()
    for name in (FIRST, SECOND, LAST):
        pod(name, nightly)
    pod(BEGIN, by_hand)
    assert [name for name, _ in pod.reached] == [FIRST, SECOND, LAST]


def started(home, name, run_id, config=None):
    """What `start_run` gives the stages of a run that was submitted by this name."""
    return start_run.python_func(
        config=(config or build_config()).model_dump_json(),
        home=str(home),
        run_dir=f"{home}/runs/{name}",
        scheduled_at="2026-01-03T03:30:00Z",
        run_id=run_id,
    )


def test_two_runs_of_one_name_are_two_owners_and_keep_their_settings(tmp_path, monkeypatch):
    """One name in two experiments, or a clone in Kubeflow's UI."""
    monkeypatch.setattr("feature_repo.lease.this_host", lambda: "pod-1")
    _, first = started(tmp_path, "first", "1f2e3d4c-0000")
    monkeypatch.setattr("feature_repo.lease.this_host", lambda: "pod-2")
    with pytest.raises(LeaseHeld, match="runs/first-1f2e3d4c"):
        started(tmp_path, "first", "99999999-0000", build_config(overrides=["train.epochs=1"]))
    [left] = (tmp_path / "runs").iterdir()
    assert str(left) == first
    assert '"epochs": 1,' not in (left / "config.json").read_text()
    give_back(left)
    _, clone = started(tmp_path, "first", "99999999-0000")
    assert clone != first
    with pytest.raises(LeaseLost), stage(FIRST, first):
        pass


def test_a_run_folder_outside_the_site_holds_the_lease_too(tmp_path, monkeypatch):
    monkeypatch.setattr("feature_repo.lease.this_host", lambda: "pod-1")
    begin(tmp_path / "site", tmp_path / "elsewhere")
    assert home_of(tmp_path / "elsewhere") == tmp_path / "site"
    assert lease.owner_of(tmp_path / "site") == str(tmp_path / "elsewhere")


def test_a_run_whose_site_was_taken_over_stops_before_its_next_stage_works(pod, tmp_path):
    nightly, by_hand = tmp_path / "runs/nightly", tmp_path / "runs/by-hand"
    pod(BEGIN, nightly)
    expire(tmp_path)
    pod(BEGIN, by_hand)
    give_back(by_hand)
    with pytest.raises(LeaseLost):
        pod(SECOND, nightly)
    assert (SECOND, "nightly") not in pod.reached
    assert "lost its lease to" in read_stages(nightly)[SECOND]["crash"]


def test_a_stage_that_loses_the_site_while_it_works_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.001)
    nightly, by_hand = tmp_path / "runs/nightly", tmp_path / "runs/by-hand"

    def ended(*_):
        raise SystemExit(143)

    def work():
        with stage(FIRST, str(nightly)):
            monkeypatch.setattr("feature_repo.lease.this_host", lambda: "another pod")
            while True:
                expire(tmp_path)
                with contextlib.suppress(LeaseHeld):  # renewed in between
                    lease.take(tmp_path, str(by_hand))
                    signal.pause()

    before = signal.signal(signal.SIGTERM, ended)
    try:
        with pytest.raises(SystemExit):
            work()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "lost its lease to" in read_stages(nightly)[FIRST]["crash"]


def test_a_stage_that_another_attempt_overtook_ends_and_leaves_the_record_to_it(
    tmp_path, monkeypatch
):
    """By its next beat, or where it had no time for one, by its end."""
    run_dir = tmp_path / "runs/nightly"
    monkeypatch.setattr("feature_repo.lease.this_host", lambda: "pod-1")
    begin(tmp_path, run_dir)

    def overtaken():
        with stage(FIRST, str(run_dir)):
            monkeypatch.setattr("feature_repo.lease.this_host", lambda: "pod-2")
            with stage(FIRST, str(run_dir)) as second:
                second.detail = "the second attempt"
            monkeypatch.setattr("feature_repo.lease.this_host", lambda: "pod-1")

    with pytest.raises(Superseded):
        overtaken()
    record = read_stages(run_dir)[FIRST]
    assert (record["status"], record["detail"]) == ("done", "the second attempt")

    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.001)

    def ended(*_):
        raise SystemExit(143)

    def overtaken_at_work():
        with stage(SECOND, str(run_dir)):
            monkeypatch.setattr("feature_repo.lease.this_host", lambda: "pod-3")
            lease.resume(tmp_path, str(run_dir))
            signal.pause()

    before = signal.signal(signal.SIGTERM, ended)
    try:
        with pytest.raises(SystemExit):
            overtaken_at_work()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert read_stages(run_dir)[SECOND]["status"] == "running"


def test_a_held_run_gives_the_site_back_and_a_failed_one_leaves_it_to_its_retry(pod, tmp_path):
    nightly, by_hand = tmp_path / "runs/nightly", tmp_path / "runs/by-hand"
    pod(BEGIN, nightly)
    with pytest.raises(ZeroDivisionError), stage(SECOND, str(nightly)):
        1 / 0  # noqa: B018
    pod(SECOND, nightly)
    with pytest.raises(LeaseHeld):
        pod(BEGIN, by_hand)
    give_back(nightly)
    pod(BEGIN, by_hand)
    give_back(nightly)  # whoever is late takes nothing from the next one
    with pytest.raises(LeaseHeld):
        pod(BEGIN, nightly)


def test_the_exit_handler_does_not_fail_where_the_next_run_takes_the_site_as_it_looks(
    pod, tmp_path, monkeypatch
):
    nightly, by_hand = tmp_path / "runs/nightly", tmp_path / "runs/by-hand"
    pod(BEGIN, nightly)
    pod(LAST, nightly)
    look = lease.owner_of

    def look_then_be_late(home):
        owner = look(home)
        pod(BEGIN, by_hand)
        return owner

    monkeypatch.setattr(lease, "owner_of", look_then_be_late)
    give_back(nightly)
    assert look(tmp_path) == str(by_hand)


def test_a_local_run_names_its_site_and_holds_it_for_its_stages(tmp_path, monkeypatch):
    run_dir, home = tmp_path / "runs/local", tmp_path / "var/shop"
    run_dir.mkdir(parents=True)
    (run_dir / HOME).write_text(str(home))
    assert home_of(run_dir) == home
    assert home_of(tmp_path / "anywhere") is None
    monkeypatch.setenv("SASREC_LOCAL_RUN", "1")
    with lease.held(home, str(run_dir), pytest.fail):
        with stage(FIRST, str(run_dir)):
            assert lease.owner_of(home) == str(run_dir)
        monkeypatch.setattr("feature_repo.lease.this_host", lambda: "another host")
        with pytest.raises(LeaseHeld), lease.held(home, "other", pytest.fail):
            pass
