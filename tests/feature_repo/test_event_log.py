"""What serving writes is what the feature store reads."""

import errno
import fcntl
import os

from feature_repo.event_log import drop_read, finished, forget, read_log, segments
from feature_repo.history import open_history
from feature_repo.history.apply import apply_events
from serving.events.writer import EventLog, mark_applied


def event(number: int, user: str = "u") -> dict:
    return {
        "type": "event",
        "event_id": f"e{number}",
        "request_id": None,
        "user_id": user,
        "item_id": f"i{number}",
        "event_type": "view",
        "timestamp": number,
        "received_at": number,
    }


def write(folder, records) -> None:
    log = EventLog(folder)
    log.append(records).result()
    log.close()


def test_reading_gives_what_serving_wrote_up_to_a_torn_frame(tmp_path):
    write(tmp_path, [event(1), event(2)])
    write(tmp_path, [event(3)])
    first = segments(tmp_path)[0]
    first.write_bytes(first.read_bytes()[:-3])
    assert list(read_log(tmp_path)) == [event(1), event(3)]
    assert list(read_log(tmp_path / "absent")) == []


def test_a_history_rebuilt_from_the_log_is_the_same(tmp_path):
    records = [event(n, user=f"u{n % 3}") for n in (5, 1, 4, 2, 3, 1)]
    write(tmp_path / "log", records)
    live = open_history(tmp_path / "live.db")
    apply_events(live, records)
    rebuilt = open_history(tmp_path / "rebuilt.db")
    assert apply_events(rebuilt, read_log(tmp_path / "log")) == 5
    for user in ("u0", "u1", "u2"):
        assert rebuilt.latest(user, 10) == live.latest(user, 10)
    assert apply_events(rebuilt, read_log(tmp_path / "log")) == 0


def test_a_forgotten_user_is_cut_out_and_hidden_where_a_segment_is_being_written(tmp_path):
    write(tmp_path, [event(1, "gone"), event(2, "stays")])
    writer = EventLog(tmp_path)
    writer.append([event(3, "gone"), event(4, "stays")]).result()
    assert forget(tmp_path, "gone") == 1
    assert [r["event_id"] for r in read_log(tmp_path)] == ["e2", "e4"]
    assert b"gone" not in segments(tmp_path)[0].read_bytes()
    writer.close()
    assert forget(tmp_path, "somebody else") == 0
    assert b"gone" not in segments(tmp_path)[1].read_bytes()


def test_forgetting_asks_for_locks_as_nfs_grants_them(tmp_path, monkeypatch):
    """An exclusive lock on a file that is open for reading alone is EBADF there."""
    write(tmp_path, [event(1, "gone"), event(2, "stays")])

    def flock(file, operation):
        if operation & fcntl.LOCK_EX and not file.writable():
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("feature_repo.event_log.fcntl.flock", flock)
    assert forget(tmp_path, "gone") == 0
    assert [r["event_id"] for r in read_log(tmp_path)] == ["e2"]
    assert b"gone" not in segments(tmp_path)[0].read_bytes()


def test_a_forgotten_user_who_comes_back_is_a_new_user(tmp_path):
    write(tmp_path, [event(1)])
    forget(tmp_path, "u")
    back = event(2) | {"received_at": 2**60}
    write(tmp_path, [back])
    assert list(read_log(tmp_path)) == [back]


def test_old_segments_go_once_they_are_read_and_nobody_writes_them(tmp_path):
    for number in range(3):
        write(tmp_path, [event(number)])
    read, unread, young = segments(tmp_path)
    mark_applied(read)
    open_log = EventLog(tmp_path)
    open_log.append([event(9)]).result()
    written = segments(tmp_path)[3]
    for segment in (read, unread, written):
        os.utime(segment, (1_000, 1_000))
    spans = {s.name: (0, s.stat().st_size) for s in (read, young, written)}
    assert drop_read(tmp_path, spans, written_before=2_000) == [read.name]
    assert segments(tmp_path) == [unread, young, written]
    assert not list(tmp_path.glob("*.applied"))
    with finished(read) as file:
        assert file is None
    open_log.close()


def test_a_segment_from_which_a_user_was_cut_is_as_old_as_before(tmp_path):
    write(tmp_path, [event(1, user="gone"), event(2)])
    [segment] = segments(tmp_path)
    os.utime(segment, (1_000, 1_000))
    forget(tmp_path, "gone")
    assert segment.stat().st_mtime == 1_000
