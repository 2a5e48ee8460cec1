"""The month's own instruments: its clock, and the ledger that training is compared with."""

import os
import shutil
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.month.clock import ShopClock
from benchmarks.month.ledger import Ledger, compare

HOUR = 3600 * 1_000_000
LOOKS = """
import os, sys, threading, time
print(time.time())
print(os.stat(sys.argv[1]).st_mtime)
began = time.monotonic()
threading.Event().wait(0.05)
print(time.monotonic() - began)
"""


@pytest.fixture
def clock(tmp_path):
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("needs a C compiler, for the shop's clock")
    return ShopClock(tmp_path / "clock")


def looks(clock, path):
    command = [sys.executable, "-c", LOOKS, str(path)]
    done = subprocess.run(
        command, env=os.environ | clock.environment, capture_output=True, text=True, check=True
    )
    return map(float, done.stdout.split())


def test_a_process_sees_the_shops_time_and_files_keep_the_time_they_were_written_at(
    clock, tmp_path
):
    clock.move_to(clock.now() + 1000 * HOUR)
    (tmp_path / "file").touch()
    written = clock.now() / 1e6
    clock.move_to(clock.now() + 500 * HOUR)
    now, stamp, _ = looks(clock, tmp_path / "file")
    assert abs(now - clock.now() / 1e6) < 60
    assert abs(stamp - written) < 60
    assert now - time.time() > 1499 * 3600


def test_waiting_takes_as_long_as_ever(clock, tmp_path):
    clock.move_to(clock.now() + 1000 * HOUR)
    *_, waited = looks(clock, tmp_path)
    assert 0.05 <= waited < 600


def test_the_clock_goes_on_and_never_back(clock, tmp_path):
    clock.move_to(clock.now() + HOUR)
    there = clock.now()
    clock.move_to(there - HOUR)
    assert ShopClock(tmp_path / "clock").now() >= there


EVENTS = [("u1", "i1", "view"), ("u1", "i2", "click"), ("u2", "i1", "view")]


def table(events):
    names = ("user_id", "item_id", "event_type")
    columns = zip(*events, strict=True)
    return pa.table({n: list(column) for n, column in zip(names, columns, strict=True)})


@pytest.fixture
def run(tmp_path):
    """Compares a run that trained on some events with an import of one and a ledger of two."""
    pq.write_table(table(EVENTS[:1]), tmp_path / "interactions.parquet")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for n, (user, item, kind) in enumerate([*EVENTS[1:], EVENTS[1], ("u2", "i9", "dislike")]):
        event = {"user_id": user, "item_id": item, "event_type": kind}
        ledger.note([event | {"event_id": f"e{1 if n == 2 else n + 1}"}])  # one was sent twice
    folder = tmp_path / "run" / "artifacts" / "sasrec-1" / "ingest"
    folder.mkdir(parents=True)

    def compare_with(events, forgotten=()):
        pq.write_table(table(events), folder / "interactions")
        return compare(tmp_path / "run", tmp_path, ledger, set(forgotten))

    return compare_with


def test_what_was_acknowledged_once_is_expected_once_and_dislikes_are_not(run):
    assert run(EVENTS).exact
    assert run(EVENTS).expected == 3


def test_lost_twice_unknown_and_forgotten_are_told_apart(run):
    assert run(EVENTS[:2]).lost == 1
    assert run([*EVENTS, EVENTS[0]]).twice == 1
    assert run([*EVENTS, ("u9", "i1", "view")]).unknown == 1
    forgotten = run(EVENTS, forgotten=["u2"])
    assert forgotten.of_forgotten == 1
    assert not forgotten.exact
    assert run(EVENTS[:2], forgotten=["u2"]).exact
