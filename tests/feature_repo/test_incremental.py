"""Adding day files to the last publish gives the same tables as building all of them anew."""

import os
from datetime import timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_repo import tables
from feature_repo.inputs import write_days
from feature_repo.publish import publish
from feature_repo.store import current_generation
from sasrec.data.schema import TIMESTAMP
from tests.feature_repo.small_history import END, START

TABLES = ("user_sequence", "user_stats", "item_stats", "served_impressions")


def run(repo_dir, folder, as_of=END):
    users = [f"u{u}" for u in range(120)]
    cutoffs = [as_of - timedelta(days=10), as_of - timedelta(days=1)]
    return publish(
        repo_dir,
        interactions=folder,
        items=None,
        impressions=None,
        cutoffs=pa.table(
            {
                "user_id": users * 2,
                "cutoff": pa.array([c for c in cutoffs for _ in users], TIMESTAMP),
            }
        ),
        as_of=as_of,
    )


def content(repo_dir):
    pattern = str(current_generation(repo_dir) / "{}" / "*.parquet")
    return {
        name: duckdb.read_parquet(pattern.format(name)).order("ALL").to_arrow_table()
        for name in TABLES
    }


def before(interactions, day):
    return interactions.filter(
        pc.less(interactions["timestamp"], pa.scalar(START + timedelta(days=day), TIMESTAMP))
    )


def test_one_more_day_at_a_time_equals_a_full_rebuild(tmp_path, interactions):
    folder = tmp_path / "days"
    for day in (57, 58, 59, 60):
        write_days(before(interactions, day), folder)
        report = run(tmp_path / "step", folder, as_of=START + timedelta(days=day))
        assert report.incremental == (day > 57)
    assert report.events == interactions.num_rows
    full = run(tmp_path / "full", folder)
    assert not full.incremental
    assert content(tmp_path / "step") == content(tmp_path / "full")


def test_only_new_days_are_read(tmp_path, interactions):
    folder = tmp_path / "days"
    write_days(before(interactions, 59), folder)
    run(tmp_path / "step", folder, as_of=START + timedelta(days=59))
    stamps = {path: path.stat() for path in folder.rglob("*.parquet")}
    write_days(interactions, folder)
    for path, stat in stamps.items():
        assert path.stat() == stat, "a day that did not change was written again"
        # Same size and time, so that only reading it would tell.
        garbage = path.with_suffix(".garbage")
        garbage.write_bytes(b"x" * stat.st_size)
        os.utime(garbage, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        garbage.replace(path)
    report = run(tmp_path / "step", folder)
    assert report.incremental
    assert report.events == interactions.num_rows


def test_a_late_event_in_a_new_file_is_put_in_its_place(tmp_path, interactions):
    folder = tmp_path / "days"
    late = interactions.slice(0, 200)
    write_days(interactions.slice(200), folder)
    run(tmp_path / "step", folder)
    write_days(late, folder)
    assert run(tmp_path / "step", folder).incremental
    run(tmp_path / "full", folder)
    assert content(tmp_path / "step") == content(tmp_path / "full")


@pytest.mark.parametrize("change", ["removed", "rewritten", "future"])
def test_a_past_that_changed_is_built_anew(tmp_path, interactions, change):
    folder = tmp_path / "days"
    write_days(interactions, folder)
    as_of = END - timedelta(days=9) if change == "future" else END
    run(tmp_path / "step", folder, as_of=as_of)
    victim = sorted(folder.rglob("*.parquet"))[0]
    if change == "removed":
        victim.unlink()
    elif change == "rewritten":
        pq.write_table(pq.read_table(victim).slice(1), victim)
    report = run(tmp_path / "step", folder)
    assert not report.incremental
    run(tmp_path / "full", folder)
    assert content(tmp_path / "step") == content(tmp_path / "full")


def test_a_broken_day_is_left_out_with_a_reason_and_taken_in_once_repaired(tmp_path, interactions):
    folder = tmp_path / "days"
    write_days(interactions, folder)
    first, second = sorted(folder.rglob("*.parquet"))[:2]
    good = first.read_bytes(), pq.read_table(second)
    first.write_bytes(good[0][:-20])
    pq.write_table(good[1].drop_columns(["event_type"]), second)
    report = run(tmp_path / "step", folder)
    assert "is missing" in report.quarantined[str(second.relative_to(folder))]
    assert str(first.relative_to(folder)) in report.quarantined
    assert 0 < report.events < interactions.num_rows
    first.write_bytes(good[0])
    pq.write_table(good[1], second)
    report = run(tmp_path / "step", folder)
    assert (report.incremental, report.quarantined) == (True, {})
    assert report.events == interactions.num_rows


def test_building_in_parts_gives_the_same_tables(tmp_path, interactions, monkeypatch):
    folder = tmp_path / "days"
    write_days(interactions, folder)
    run(tmp_path / "one", folder)
    monkeypatch.setattr(tables, "EVENTS_PER_PART", 700)
    run(tmp_path / "parts", folder)
    parts = list((current_generation(tmp_path / "parts") / "user_sequence").glob("*.parquet"))
    assert len(parts) == 5
    assert content(tmp_path / "parts") == content(tmp_path / "one")
