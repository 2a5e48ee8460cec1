import errno
import fcntl
import os
import threading
import time

import pytest

from feature_repo.event_codec import frame
from feature_repo.event_log import ABANDONED_SECONDS, forget, read_log
from serving.events.writer import EventLog, LogUnavailable, left_elsewhere, repair


def event(number):
    return {"type": "event", "event_id": f"e{number}", "item_id": "x" * (number % 7)}


def write(directory, numbers):
    log = EventLog(directory)
    log.append([event(number) for number in numbers]).result()
    log.close()


def test_a_torn_tail_at_every_byte_of_the_last_record_is_cut_off(tmp_path):
    write(tmp_path, [1, 2])
    [segment] = tmp_path.glob("*.log")
    whole = segment.read_bytes()
    last = len(frame(event(2)))
    for torn in range(1, last + 1):
        segment.write_bytes(whole[: len(whole) - torn])
        finished, cut = repair(tmp_path)
        assert (finished, cut) == ([segment], last - torn)
        assert list(read_log(tmp_path)) == [event(1)]


def test_a_damaged_record_ends_its_segment(tmp_path):
    write(tmp_path, [1, 2, 3])
    [segment] = tmp_path.glob("*.log")
    content = bytearray(segment.read_bytes())
    content[len(frame(event(1))) + 10] ^= 1
    segment.write_bytes(bytes(content))
    repair(tmp_path)
    assert list(read_log(tmp_path)) == [event(1)]


def test_the_segment_of_a_living_writer_is_left_alone(tmp_path):
    log = EventLog(tmp_path)
    log.append([event(1)]).result()
    assert repair(tmp_path) == ([], 0)
    log.close()


@pytest.fixture
def on_another_host(monkeypatch):
    """Another node of a network volume whose locks each node keeps to itself (`nolock`)."""
    monkeypatch.setattr("feature_repo.event_log.this_host", lambda: "feedbeef")
    monkeypatch.setattr("serving.events.writer.this_host", lambda: "feedbeef")
    monkeypatch.setattr("feature_repo.event_log.fcntl.flock", lambda *_: None)


def test_another_host_leaves_a_writer_alone_whose_lock_it_cannot_see(tmp_path, request):
    log = EventLog(tmp_path)
    [segment] = tmp_path.glob("*.log")
    with segment.open("ab") as file:
        file.write(frame(event(1))[:-3])  # a write that is under way
    request.getfixturevalue("on_another_host")
    assert repair(tmp_path) == ([], 0)
    assert left_elsewhere(tmp_path) == []
    assert forget(tmp_path, "u") == 1
    os.utime(segment, (0, time.time() - ABANDONED_SECONDS - 1))
    assert left_elsewhere(tmp_path) == [segment]
    assert list(read_log(tmp_path)) == []
    assert segment.stat().st_size == 0
    log.close()


def test_an_idle_writer_touches_its_segment_and_leaves_one_that_was_silent_too_long(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("serving.events.writer.TOUCH_SECONDS", 0.0)
    log = EventLog(tmp_path)
    [segment] = tmp_path.glob("*.log")
    os.utime(segment, (0, 0))
    while segment.stat().st_mtime == 0:
        time.sleep(0.01)
    while log._descriptor >= 0:
        log._touched = 0.0  # as after hours in which the machine slept; a touch may be under way
        time.sleep(0.01)
    assert log.append([event(1)]).result() != segment
    log.close()
    assert list(read_log(tmp_path)) == [event(1)]


def test_a_volume_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("serving.events.writer.fcntl.flock", no_locks)
    log = EventLog(tmp_path)
    log.append([event(1)]).result()
    assert repair(tmp_path) == ([], 0)
    log.close()


def test_a_segment_is_locked_before_it_can_be_found(tmp_path, monkeypatch):
    """Else a worker that starts in between marks it as applied, and its events are forgotten."""
    lock = fcntl.flock
    found = []

    def lock_late(descriptor, operation):
        if operation == fcntl.LOCK_EX:
            found.append(repair(tmp_path))
        lock(descriptor, operation)

    monkeypatch.setattr("serving.events.writer.fcntl.flock", lock_late)
    EventLog(tmp_path).close()
    assert found == [([], 0)]


def test_nothing_is_acknowledged_before_it_is_synced(tmp_path):
    release = threading.Event()

    def slow_sync(descriptor):
        release.wait(5)
        os.fdatasync(descriptor)

    log = EventLog(tmp_path, sync=slow_sync)
    first = log.append([event(1)])
    assert not first.done()
    release.set()
    assert first.result(5).exists()
    log.close()


def test_what_queued_up_during_a_sync_is_synced_once(tmp_path):
    syncs = []
    started, release = threading.Event(), threading.Event()

    def counted_sync(descriptor):
        syncs.append(descriptor)
        started.set()
        release.wait(5)

    log = EventLog(tmp_path, sync=counted_sync)
    waiting = [log.append([event(0)])]
    started.wait(5)
    waiting += [log.append([event(number)]) for number in range(1, 50)]
    release.set()
    for future in waiting:
        future.result(5)
    log.close()
    assert len(syncs) == 2
    assert list(read_log(tmp_path)) == [event(number) for number in range(50)]


def test_segments_rotate_by_size(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.events.writer.SEGMENT_BYTES", 200)
    log = EventLog(tmp_path)
    for number in range(20):
        log.append([event(number)]).result()
    log.close()
    assert len(list(tmp_path.glob("*.log"))) > 2
    assert list(read_log(tmp_path)) == [event(number) for number in range(20)]


def test_a_failing_sync_acknowledges_nothing_and_the_log_recovers(tmp_path):
    broken = threading.Event()

    def sync(descriptor):
        if broken.is_set():
            raise OSError(errno.EIO, "Input/output error")

    log = EventLog(tmp_path, sync=sync)
    log.append([event(1)]).result()
    broken.set()
    with pytest.raises(LogUnavailable, match="Input/output error"):
        log.append([event(2)]).result()
    broken.clear()
    log.append([event(3)]).result()
    log.close()
    assert list(read_log(tmp_path)) == [event(1), event(3)]


def test_a_full_disk_acknowledges_nothing_and_the_log_recovers(tmp_path, monkeypatch):
    log = EventLog(tmp_path)
    log.append([event(1)]).result()
    write_some = os.write

    def full(descriptor, content):
        write_some(descriptor, bytes(content)[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(20):
        with pytest.raises(LogUnavailable, match="No space left"):
            log.append([event(2)]).result()
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 1  # attempts leave no files behind
    log.append([event(3)]).result()
    log.close()
    assert list(read_log(tmp_path)) == [event(1), event(3)]


def test_records_of_a_caller_that_left_are_written_all_the_same(tmp_path):
    log = EventLog(tmp_path)
    assert not log.append([event(1)]).cancel()
    log.append([event(2)]).result()
    log.close()
    assert list(read_log(tmp_path)) == [event(1), event(2)]
