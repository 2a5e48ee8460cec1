"""What serving writes is what the feature store reads."""

from feature_repo.event_log import forget, read_log, segments
from feature_repo.history import open_history
from feature_repo.rebuild import rebuild
from serving.events.writer import EventLog


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
    rebuild(live, records)
    rebuilt = open_history(tmp_path / "rebuilt.db")
    assert rebuild(rebuilt, read_log(tmp_path / "log")) == 5
    for user in ("u0", "u1", "u2"):
        assert rebuilt.latest(user, 10) == live.latest(user, 10)
    assert rebuild(rebuilt, read_log(tmp_path / "log")) == 0


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


def test_a_forgotten_user_who_comes_back_is_a_new_user(tmp_path):
    write(tmp_path, [event(1)])
    forget(tmp_path, "u")
    back = event(2) | {"received_at": 2**60}
    write(tmp_path, [back])
    assert list(read_log(tmp_path)) == [back]
