"""Training on two hosts, in short; `benchmarks/two_hosts.py` also loses whole hosts."""

import pytest

from benchmarks.two_hosts import (
    kill_a_worker,
    missing,
    train_on_one,
    train_on_two,
    write_small_work,
)


@pytest.mark.timeout(600)
def test_two_hosts_lose_a_process_and_train_as_one_process_does(tmp_path):
    if problem := missing():
        pytest.skip(f"needs network namespaces: {problem}")
    work = tmp_path / "work"
    write_small_work(work, users=120, epochs=6)
    one = train_on_one(work, tmp_path / "one")
    node = "tests.deploy.eager_node"
    two = train_on_two(work, tmp_path / "two", kill_a_worker, node=node, timeout_seconds=500)
    assert two.lost is not None
    assert two.restarts <= 1  # none, unless a busy machine lets the hosts lose sight of another
    assert two.losses == pytest.approx(one.losses, rel=1e-5)
