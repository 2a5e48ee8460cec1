"""A failing check stops the publish with its reason, and what was published stays."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from feature_repo.checks import Limits, population_stability_index
from feature_repo.inputs import write_days
from feature_repo.publish import publish
from feature_repo.store import current_generation
from sasrec.data.schema import ITEMS, TIMESTAMP
from sasrec.errors import DataError
from tests.feature_repo.small_history import END, START, make_interactions

SMALL = {"min_sample": 20}


def run(repo_dir, interactions, items=None, limits=None, as_of=END):
    report = publish(
        repo_dir,
        interactions=interactions,
        items=items,
        impressions=None,
        cutoffs=pa.table({"user_id": pa.array([], pa.string()), "cutoff": pa.array([], TIMESTAMP)}),
        as_of=as_of,
        limits=limits,
    )
    return {check.name: check for check in report.checks}


def test_psi_of_a_known_shift():
    assert population_stability_index(np.array([50, 50]), np.array([5, 5])) == 0
    expected = 0.3 * np.log(0.8 / 0.5) + -0.3 * np.log(0.2 / 0.5)
    found = population_stability_index(np.array([50, 50]), np.array([80, 20]))
    assert found == pytest.approx(expected)


def test_a_steady_second_publish_passes_and_the_first_says_what_it_cannot_know(
    tmp_path, interactions
):
    cut = END - timedelta(days=5)
    first = run(tmp_path, interactions, as_of=cut)
    assert first["volume"].verdict == first["popularity_drift"].verdict == "not evaluated"
    second = run(tmp_path, interactions, limits=Limits(**SMALL))
    assert second["volume"].value > 1
    assert {c.name: c.verdict for c in second.values()} == {
        "duplicates": "pass",
        "freshness": "pass",
        "nulls": "pass",
        "unknown_items": "not evaluated",
        "volume": "pass",
        "length_drift": "pass",
        "popularity_drift": "pass",
    }


def shifted(interactions):
    """From day 40 on, everybody acts on one item."""
    late = pc.greater(interactions["timestamp"], pa.scalar(START + timedelta(days=40), TIMESTAMP))
    items = pc.if_else(late, "i0", interactions["item_id"])
    return interactions.set_column(1, interactions.schema.field(1), items)


def flooded(interactions):
    """From day 40 on, one user makes twice as many events as everybody else."""
    late = pc.greater(interactions["timestamp"], pa.scalar(START + timedelta(days=40), TIMESTAMP))
    rows = interactions.filter(late)
    bot = pa.concat_tables([rows, rows])
    moments = [END - timedelta(microseconds=n) for n in range(bot.num_rows)]
    columns = {
        "user_id": pa.repeat("bot", bot.num_rows),
        "item_id": pa.repeat("i0", bot.num_rows),
        "timestamp": pa.array(moments, TIMESTAMP),
    }
    for name, values in columns.items():
        bot = bot.set_column(bot.column_names.index(name), bot.schema.field(name), values)
    return pa.concat_tables([interactions, bot])


def test_one_user_s_flood_is_no_shift_of_what_is_popular(tmp_path, interactions):
    run(tmp_path, interactions, as_of=START + timedelta(days=40))
    drift = run(tmp_path, flooded(interactions), limits=Limits(max_psi=1, **SMALL))
    assert drift["popularity_drift"].value < 0.25
    assert drift["length_drift"].value < 1  # everybody's histories doubled as well


def without_items(interactions, n):
    """The first `n` events have no item, as a broken export leaves them."""
    items = interactions["item_id"].to_pylist()
    items[:n] = [None] * n
    field = pa.field("item_id", pa.string())
    return interactions.set_column(1, field, pa.array(items, pa.string()))


def test_a_few_events_with_nulls_are_left_out_and_counted(tmp_path, interactions):
    write_days(without_items(interactions, 20), tmp_path / "days")
    report = publish(
        tmp_path / "feature_store",
        interactions=tmp_path / "days",
        items=None,
        impressions=None,
        cutoffs=None,
        as_of=END,
    )
    assert report.events == interactions.num_rows - 20
    [nulls] = [check for check in report.checks if check.name == "nulls"]
    assert nulls.reason.startswith("nulls: 20 of 3,000 new events lack")


CATALOGUE = pa.table(
    {
        "item_id": [f"i{i}" for i in range(40)],
        "title": pa.nulls(40, pa.string()),
        "category": ["c"] * 40,
        "created_at": pa.nulls(40, TIMESTAMP),
    },
    schema=ITEMS,
)


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (lambda i: i.slice(0, 900), {}, "volume: 900 events after"),
        (shifted, {}, "popularity_drift: the PSI of item popularity"),
        (lambda i: make_interactions(2000, 3000, 1), {}, "length_drift: the PSI of history length"),
        (lambda i: without_items(i, 100), {}, "nulls: 100 of 3,000 new events lack"),
        (lambda i: i, {"items": CATALOGUE}, r"unknown_items: .* of the events have an item"),
        (lambda i: i, {"as_of": END + timedelta(days=9)}, "freshness: the newest event is 9 days"),
    ],
    ids=["volume", "popularity", "length", "nulls", "unknown items", "freshness"],
)
def test_a_failing_check_stops_the_publish(tmp_path, interactions, change, options, reason):
    run(tmp_path, interactions, as_of=START + timedelta(days=40))
    before = current_generation(tmp_path)
    limits = Limits(max_age=timedelta(days=8), **SMALL)
    with pytest.raises(DataError, match=reason):
        run(tmp_path, change(interactions), limits=limits, **options)
    assert current_generation(tmp_path) == before
