"""The online store holds what Feast's own materialisation would have put there."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from feature_repo.inputs import write_days
from feature_repo.online_load import ONLINE_VIEWS
from feature_repo.publish import publish
from feature_repo.store import ONLINE_DATABASE, current_generation, open_feature_store
from sasrec.data.schema import ITEMS, TIMESTAMP
from tests.feature_repo.small_history import END, START
from tests.feature_repo.test_incremental import before


def held(generation) -> list[tuple]:
    """Every value of the online store, with the moment from which it holds."""
    with closing(sqlite3.connect(generation / ONLINE_DATABASE)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return sorted(
            (name, *row)
            for (name,) in tables.fetchall()
            for row in connection.execute(
                f'SELECT entity_key, feature_name, value, event_ts FROM "{name}"'
            )
        )


def items(count) -> pa.Table:
    rows = [{"item_id": f"i{i}", "category": f"c{i % 3}"} for i in range(count)]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def run(repo_dir, folder, as_of, catalogue=60):
    asked = {"user_id": ["u1", "u2"], "cutoff": pa.array([START + timedelta(days=50)] * 2)}
    return publish(
        repo_dir,
        interactions=folder,
        items=items(catalogue),
        impressions=None,
        cutoffs=pa.table(asked).cast(pa.schema([("user_id", pa.string()), ("cutoff", TIMESTAMP)])),
        as_of=as_of,
    )


@pytest.fixture
def days(tmp_path, interactions):
    write_days(before(interactions, 59), tmp_path / "days")
    return tmp_path / "days"


def test_it_equals_what_feast_materialises(tmp_path, days):
    report = run(tmp_path / "store", days, END)
    generation = current_generation(tmp_path / "store")
    ours = held(generation)
    assert report.loaded == len({(name, key) for name, key, *_ in ours})
    with closing(sqlite3.connect(generation / ONLINE_DATABASE)) as connection, connection:
        for table in {name for name, *_ in ours}:
            connection.execute(f'DELETE FROM "{table}"')
    views = list(ONLINE_VIEWS)
    open_feature_store(generation).materialize(
        datetime(1970, 1, 1, tzinfo=UTC), END, feature_views=views
    )
    assert held(generation) == ours


def test_one_more_day_writes_what_changed_and_leaves_the_same_store(tmp_path, days, interactions):
    run(tmp_path / "step", days, START + timedelta(days=59))
    write_days(interactions, days)
    report = run(tmp_path / "step", days, END)
    full = run(tmp_path / "full", days, END)
    assert held(current_generation(tmp_path / "step")) == held(
        current_generation(tmp_path / "full")
    )
    assert report.incremental
    assert report.loaded < full.loaded


def test_an_item_that_has_gone_is_gone_online(tmp_path, days, interactions):
    run(tmp_path / "step", days, START + timedelta(days=59), catalogue=70)
    write_days(interactions, days)
    assert run(tmp_path / "step", days, END).incremental
    run(tmp_path / "full", days, END)
    assert held(current_generation(tmp_path / "step")) == held(
        current_generation(tmp_path / "full")
    )
