"""One owner at a time changes a site: on a disk that hosts share, and in S3."""

import itertools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from botocore.exceptions import EndpointConnectionError

from feature_repo import lease
from feature_repo.lease import Claim, FileLeases, LeaseHeld, LeaseLost, Superseded, resume, take
from tests.serving import s3_server


@pytest.fixture(scope="module")
def endpoint():
    with s3_server.running() as url:
        yield url


@pytest.fixture(params=["files", "objects"])
def home(request, tmp_path, monkeypatch):
    """A site; its lease is on the volume, or in S3 beside the models."""
    if request.param == "files":
        monkeypatch.delenv(lease.MODELS_URL, raising=False)
        yield tmp_path
        return
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", request.getfixturevalue("endpoint"))
    monkeypatch.setenv(lease.MODELS_URL, f"s3://{s3_server.BUCKET}/{tmp_path.name}")
    # fsspec keeps one client for all, whatever the environment says later.
    s3 = fsspec.get_filesystem_class("s3")
    s3.clear_instance_cache()
    client = s3(use_listings_cache=False)
    if not client.exists(s3_server.BUCKET):
        client.mkdir(s3_server.BUCKET)
    yield tmp_path
    s3.clear_instance_cache()


@pytest.fixture
def on_host(monkeypatch):
    """Be another machine, or pod, from now on."""
    return lambda name: monkeypatch.setattr("feature_repo.lease.this_host", lambda: name)


@pytest.fixture
def after(monkeypatch):
    """The store's time, some seconds from now."""

    def set_time(home, seconds):
        store = type(lease.open_lease_store(home))
        real = store.now
        monkeypatch.setattr(store, "now", lambda self: real(self) + seconds)

    return set_time


def test_the_stages_of_a_run_hold_it_and_another_run_is_refused(home, on_host):
    on_host("pod-1")
    take(home, "nightly").renew(lease.WAITING_SECONDS)
    on_host("pod-2")
    with pytest.raises(LeaseHeld, match=r"nightly on another host, for 1[78]"):
        take(home, "by hand")
    resume(home, "nightly").release()
    take(home, "by hand")


def test_it_is_taken_over_when_its_holder_is_silent_and_who_lost_it_is_told(home, on_host, after):
    on_host("pod-1")
    lost = take(home, "nightly")
    on_host("pod-2")
    after(home, lease.WORKING_SECONDS + 2)
    take(home, "by hand").release()
    on_host("pod-1")
    # Even though the other one is done: it changed what the first run had begun on.
    with pytest.raises(LeaseLost, match="nightly lost its lease to by hand"):
        lost.renew()
    with pytest.raises(LeaseLost, match="nightly lost its lease to by hand"):
        resume(home, "nightly")
    lost.release()
    assert lease.owner_of(home) == "by hand"


def test_a_run_that_nobody_disturbed_goes_on_after_its_lease_expired(home, on_host, after):
    on_host("pod-1")
    take(home, "nightly")
    on_host("pod-2")
    after(home, 10 * lease.WAITING_SECONDS)
    resume(home, "nightly").renew()


def test_of_two_attempts_of_one_stage_the_later_one_goes_on(home, on_host):
    """Kubernetes lost sight of a node, Argo tried the stage again, and the node came back."""
    on_host("pod-1")
    take(home, "nightly").renew(lease.WAITING_SECONDS)
    on_host("pod-2")
    first = resume(home, "nightly")
    on_host("pod-3")
    second = resume(home, "nightly")
    on_host("pod-2")
    with pytest.raises(Superseded, match="another attempt goes on with nightly, on pod-3"):
        first.renew()
    first.release()  # takes nothing from the other
    on_host("pod-3")
    second.renew()
    on_host("pod-4")
    with pytest.raises(LeaseHeld):
        take(home, "by hand")


def test_of_many_attempts_at_once_one_goes_on(home, monkeypatch):
    hosts = itertools.count()
    monkeypatch.setattr("feature_repo.lease.this_host", lambda: f"pod-{next(hosts)}")
    take(home, "nightly").renew(lease.WAITING_SECONDS)

    def attempt(_):
        try:
            return resume(home, "nightly")
        except LeaseLost:
            return None

    def goes_on(held):
        try:
            held.renew()
        except Superseded:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        held = [one for one in pool.map(attempt, range(5)) if one]
    assert sum(map(goes_on, held)) == 1


def test_of_many_takers_one_gets_it(home, monkeypatch):
    hosts = itertools.count()
    monkeypatch.setattr("feature_repo.lease.this_host", lambda: f"pod-{next(hosts)}")
    take(home, "before").release()

    def attempt(owner):
        try:
            return take(home, owner)
        except LeaseHeld:
            return None

    with ThreadPoolExecutor(4) as pool:
        taken = [held for held in pool.map(attempt, [f"run-{n}" for n in range(5)]) if held]
    assert len(taken) == 1
    taken[0].renew()


def test_a_dead_holder_of_this_host_is_no_holder_and_a_living_one_is(tmp_path, monkeypatch):
    monkeypatch.delenv(lease.MODELS_URL, raising=False)
    program = "import sys, pathlib; from feature_repo.lease import take; "
    program += "held = take(pathlib.Path(sys.argv[1]), 'local'); print(flush=True); input()"
    command = [sys.executable, "-c", program, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline()
        # The same run directory given twice is the same owner, and still two runs.
        for owner in ("other", "local"):
            with pytest.raises(LeaseHeld, match=f"local, process {holder.pid}"):
                take(tmp_path, owner)
    finally:
        holder.kill()
        holder.communicate()
    take(tmp_path, "other")


@pytest.mark.parametrize(
    "error",
    [OSError("stale file handle"), EndpointConnectionError(endpoint_url="http://object-store")],
)
def test_a_holder_that_cannot_write_stops_before_another_may_begin(tmp_path, monkeypatch, error):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.001)
    monkeypatch.setattr(lease, "WORKING_SECONDS", 0.01)
    held = take(tmp_path, "nightly")
    reasons = []

    def broken(*_):
        raise error

    monkeypatch.setattr(FileLeases, "write", broken)
    with held.kept(reasons.append):
        while not reasons:
            pass
    assert str(error) in str(reasons[0])


def test_a_file_that_was_made_and_not_yet_written_is_a_holder(tmp_path, after):
    take(tmp_path, "before").release()
    (tmp_path / lease.FOLDER / "00000002.json").touch()
    with pytest.raises(LeaseHeld):
        take(tmp_path, "nightly")
    after(tmp_path, lease.WORKING_SECONDS + 1)
    take(tmp_path, "nightly")


def test_old_generations_go_and_a_claim_is_readable(tmp_path):
    for _ in range(5):
        take(tmp_path, "nightly").release()
    left = sorted(path.name for path in (tmp_path / lease.FOLDER).iterdir())
    assert left == ["00000004.json", "00000005.json"]
    content = json.loads((tmp_path / lease.FOLDER / left[-1]).read_bytes())
    assert Claim(**content).owner == "nightly"
