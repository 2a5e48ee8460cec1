"""What the probe's two pods do on one volume: here two processes on one folder."""

import multiprocessing
import socket

import fsspec
import pytest

from components.runners.doctor import volume_probe
from components.runners.doctor.volume_probe import ProbeFailed
from tests.serving import s3_server


@pytest.fixture
def holder(tmp_path):
    """The other pod, at work on the folder."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=volume_probe.hold, args=(tmp_path, 60))
    process.start()
    yield process
    process.join(60)


def test_two_processes_see_each_others_files_and_locks(tmp_path, holder):
    volume_probe.see_rename(tmp_path, 60)
    volume_probe.find_locked(tmp_path)
    holder.join(60)
    assert holder.exitcode == 0


def test_a_lock_that_two_can_have_is_a_fault(tmp_path):
    (tmp_path / "lock").touch()
    with pytest.raises(ProbeFailed, match="locks of this volume are each node's own"):
        volume_probe.find_locked(tmp_path)


def test_a_file_that_is_there_in_part_is_a_fault(tmp_path):
    (tmp_path / "ready").touch()
    (tmp_path / "content").write_text("a part")
    with pytest.raises(ProbeFailed, match="in part"):
        volume_probe.see_rename(tmp_path)


def test_a_pod_that_never_comes_is_a_fault(tmp_path):
    with pytest.raises(ProbeFailed, match="never appeared"):
        volume_probe.see_rename(tmp_path, 0)
    with pytest.raises(ProbeFailed, match="never looked"):
        volume_probe.hold(tmp_path, 0)


def test_writing_leaves_nothing(tmp_path):
    volume_probe.write(tmp_path / "doctor")
    assert list((tmp_path / "doctor").iterdir()) == []


def test_an_address_that_answers_and_one_that_does_not():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        volume_probe.reach([address])
    with pytest.raises(ProbeFailed, match=address):
        volume_probe.reach([address])


def test_redis_is_reached_where_its_secret_says_it_is():
    named = volume_probe.named_in({"REDIS_CONNECTION": "redis.data:6379,password=s3cret"})
    assert named == ["redis.data:6379"]
    assert volume_probe.named_in({}) == []


def test_the_stores_that_a_pod_is_told_of_are_written_to(monkeypatch):
    environment = {
        "SASREC_LAKE_URL": f"s3://{s3_server.BUCKET}/shop/lake",
        "SASREC_MODELS_URL": f"s3://{s3_server.BUCKET}/shop/models",
    }
    lake, models = volume_probe.stores_in(environment)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    with s3_server.running() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(ProbeFailed, match=f"{lake}: .*bucket"):
            volume_probe.store(lake, "run-1")
        bucket = fsspec.filesystem("s3", skip_instance_cache=True)
        bucket.mkdir(s3_server.BUCKET)
        for url in (lake, models):
            volume_probe.store(url, "run-1")
        assert bucket.find(s3_server.BUCKET) == []
