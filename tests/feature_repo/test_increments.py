"""A folder of interactions grows by what is new, and is written anew when the past changed."""

from datetime import timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_repo.increments import INDEX, add_new
from feature_repo.publish import publish
from sasrec.data.schema import TIMESTAMP
from tests.feature_repo.small_history import END, START
from tests.feature_repo.test_incremental import content

COLUMNS = ["user_id", "item_id", "timestamp", "event_type"]


@pytest.fixture
def grow(tmp_path):
    """Adds a table to the folder as a run does; returns how many events were written."""

    def add(interactions: pa.Table) -> int:
        pq.write_table(interactions, tmp_path / "artifact")
        return add_new(tmp_path / "artifact", tmp_path / "folder", tmp_path / "spill")

    add.folder = tmp_path / "folder"
    return add


def before(interactions, day):
    moment = pa.scalar(START + timedelta(days=day), TIMESTAMP)
    return interactions.filter(pc.less(interactions["timestamp"], moment))


def held(folder) -> list[dict]:
    files = f"{folder}/*.parquet"
    return duckdb.read_parquet(files).select(*COLUMNS).order("ALL").to_arrow_table().to_pylist()


def rows(interactions) -> list[dict]:
    by = [(name, "ascending") for name in COLUMNS]
    return interactions.select(COLUMNS).sort_by(by).to_pylist()


def files(folder) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def test_one_more_day_is_one_more_file_with_that_day_alone(grow, interactions):
    yesterday, today = before(interactions, 59), interactions
    assert grow(yesterday) == len(yesterday)
    first = files(grow.folder)
    assert grow(today) == len(today) - len(yesterday)
    assert first.items() < files(grow.folder).items()
    assert held(grow.folder) == rows(today)


def test_the_same_again_writes_nothing(grow, interactions):
    grow(interactions)
    first = files(grow.folder)
    assert grow(interactions.take(list(reversed(range(len(interactions)))))) == 0
    assert files(grow.folder) == first


def test_the_rest_of_a_day_and_late_events_are_added_alone(grow, interactions):
    late = interactions.slice(0, 40)
    half_a_day = before(interactions.slice(40), 58.5)
    grow(half_a_day)
    first = files(grow.folder)
    assert grow(interactions) == len(interactions) - len(half_a_day)
    assert first.items() < files(grow.folder).items()
    assert held(grow.folder) == rows(pa.concat_tables([late, interactions.slice(40)]))


@pytest.mark.parametrize("change", ["gone", "moved", "day gone"])
def test_a_past_that_changed_is_written_anew(grow, interactions, change):
    grow(interactions)
    first = files(grow.folder)
    if change == "gone":
        changed = interactions.slice(1)
    elif change == "day gone":
        moment = pa.scalar(START + timedelta(days=1), TIMESTAMP)
        changed = interactions.filter(pc.greater_equal(interactions["timestamp"], moment))
    else:  # by a microsecond, as an event that ties with a late one is
        place = interactions.schema.get_field_index("timestamp")
        times = interactions["timestamp"].to_pylist()
        times[0] += timedelta(microseconds=1)
        field = interactions.schema.field(place)
        changed = interactions.set_column(place, field, pa.array(times, TIMESTAMP))
    assert grow(changed) == len(changed)
    assert not first.keys() & files(grow.folder).keys()
    assert held(grow.folder) == rows(changed)


@pytest.mark.parametrize("harm", ["file", "index", "stray"])
def test_what_a_kill_or_a_forgotten_user_left_is_put_right(grow, interactions, harm):
    grow(before(interactions, 58))
    [file] = grow.folder.glob("*.parquet")
    if harm == "file":
        pq.write_table(pq.read_table(file).slice(100), file)
    elif harm == "index":
        (grow.folder / INDEX).write_text('{"files": ')
    else:
        (grow.folder / "000002-x.parquet").write_bytes(file.read_bytes())
        (grow.folder / "new.partial").write_bytes(b"half")
    grow(interactions)
    assert held(grow.folder) == rows(interactions)
    assert not list(grow.folder.glob("*.partial"))


def test_a_publish_reads_what_was_added_and_equals_a_full_one(tmp_path, grow, interactions):
    def run(repo_dir, as_of):
        asked = {"user_id": ["u1"], "cutoff": pa.array([START + timedelta(days=50)], TIMESTAMP)}
        return publish(
            repo_dir,
            interactions=grow.folder,
            items=None,
            impressions=None,
            cutoffs=pa.table(asked),
            as_of=as_of,
        )

    grow(before(interactions, 59))
    assert not run(tmp_path / "step", START + timedelta(days=59)).incremental
    grow(interactions)
    report = run(tmp_path / "step", END)
    assert (report.incremental, report.events) == (True, len(interactions))
    run(tmp_path / "full", END)
    assert content(tmp_path / "step") == content(tmp_path / "full")
    assert run(tmp_path / "step", END + timedelta(days=1)).incremental, "nothing new is no reason"
