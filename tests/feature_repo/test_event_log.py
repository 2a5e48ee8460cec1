"""What serving writes is what the feature store reads."""

from feature_repo.event_log import read_log, rewrite, segments
from feature_repo.history import open_history
from feature_repo.rebuild import rebuild
from serving.event_log import EventLog


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


def test_rewriting_drops_records_and_spares_the_segment_being_written(tmp_path):
    write(tmp_path, [event(1, "gone"), event(2, "stays")])
    writer = EventLog(tmp_path)
    writer.append([event(3, "gone")]).result()
    dropped, being_written = rewrite(tmp_path, lambda record: record["user_id"] != "gone")
    assert dropped == 1
    assert being_written == segments(tmp_path)[1:]
    writer.close()
    assert [r["user_id"] for r in read_log(tmp_path)] == ["stays", "gone"]
