"""What a run reads out of a lake equals what the cleaning in memory gives."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sasrec.data import cleaning, sources, splits
from sasrec.data.schema import INTERACTIONS, TIMESTAMP
from sasrec.errors import DataError
from tests.feature_repo.lake.site import NOW, SPLIT, LakeSite

CUTS = [SPLIT, SPLIT | {"kind": "leave-one-out"}]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Interactions with ties, repetitions, newcomers, users of one event, and odd ids."""
    rng = np.random.default_rng(0)
    rows = 4000
    start = int((NOW - timedelta(days=20)).timestamp()) * 1_000_000
    users = np.where(
        rng.random(rows) < 0.01, rng.integers(1000, 2000, rows), rng.integers(0, 90, rows)
    )
    seconds = np.sort(rng.integers(0, 20 * 86400, rows) // 20000 * 20000)
    table = pa.table(
        {
            "user_id": [f"ü{u}'" for u in users],
            "item_id": [f"i{i}" for i in rng.integers(0, 6, rows)],
            "timestamp": pa.array(start + seconds * 1_000_000).cast(TIMESTAMP),
            "event_type": rng.choice(["view", "buy"], rows),
            "value": pa.array(rng.random(rows), pa.float32()),
        }
    )
    folder = tmp_path_factory.mktemp("data") / "o'brien's shop [v2]"
    folder.mkdir()
    pq.write_table(table, folder / "interactions.parquet")
    created = pa.array([start, None, start + 19 * 86400 * 1_000_000] * 5).cast(TIMESTAMP)
    items = {"item_id": [f"i{i}" for i in range(15)], "title": ["t"] * 15, "created_at": created}
    pq.write_table(pa.table(items | {"price": range(15)}), folder / "items.parquet")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory, shop):
    site = LakeSite(tmp_path_factory.mktemp("it's home"))
    site.take_in(shop)
    return site


@pytest.mark.parametrize("until", [None, NOW - timedelta(days=5)])
@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut["kind"])
def test_queries_equal_the_cleaning_in_memory(site, shop, cut, until):
    source = sources.load(shop)
    expected, report = cleaning.clean(source.before(until) if until else source, now=NOW)
    split = splits.split_source(expected, **cut)
    found = site.read(cut=cut, until=until)

    assert report.duplicates_dropped > 50
    assert report.ties_separated > 500
    assert (
        found.interactions.select(INTERACTIONS.names)
        .cast(INTERACTIONS)
        .equals(expected.interactions.select(INTERACTIONS.names))
    )
    assert set(found.interactions["weight"].to_pylist()) == {1.0}
    assert found.interactions["request_id"].null_count == len(found.interactions)
    assert (
        found.items.sort_by("item_id")
        .select(expected.items.column_names)
        .equals(expected.items.sort_by("item_id").cast(found.items.schema))
    )
    assert found.split.describe() == split.describe()
    assert found.split.cutoffs.cast(splits.CUTOFFS).equals(split.cutoffs)
    assert found.split.targets.cast(splits.TARGETS).equals(split.targets)
    assert found.split.known_items == split.known_items
    figures = {"event_types": {}, "notes": [], "name": "shop", "repeated_targets": None}
    assert found.report.to_dict() | figures == report.to_dict() | figures


def test_roles_weigh_leave_out_and_are_listed(site, shop):
    whole = site.read()
    report, everything = whole.report, whole.interactions
    found = site.read(roles={"buy": 3})
    weights = dict(
        zip(*(found.interactions[c].to_pylist() for c in ("event_type", "weight")), strict=True)
    )
    assert weights == {"buy": 3.0, "view": 1.0}
    assert any("positive with weight 1: view" in note for note in found.report.notes)
    for role in ("negative", "ignore"):
        views = site.read(roles={"buy": role})
        kept = everything.filter(pc.equal(everything["event_type"], "view"))
        assert views.interactions.equals(kept), "times are those that all events together give"
        assert views.report.event_types["buy"]["role"] == role
        assert views.report.rows_read == report.rows_read


def test_names_of_dislikes_get_a_warning(tmp_path, shop):
    table = pq.read_table(shop / "interactions.parquet").slice(0, 100)
    disliked = table.set_column(3, "event_type", pa.array(["view", "dislike"] * 50))
    pq.write_table(disliked, tmp_path / "events.parquet")
    (tmp_path / "home").mkdir()
    site = LakeSite(tmp_path / "home")
    site.take_in(tmp_path / "events.parquet")
    cut = SPLIT | {"kind": "leave-one-out"}
    [warning] = [n for n in site.read(cut=cut).report.notes if n.startswith("Warning")]
    assert "--set events.roles.dislike=negative" in warning
    assert not [n for n in site.read(cut=cut, roles={"dislike": 1}).report.notes if "Warning" in n]


def test_before_the_first_event_there_is_nothing(site):
    with pytest.raises(DataError, match="no interactions before"):
        site.read(until=NOW - timedelta(days=400))


def test_a_site_without_data_says_so(tmp_path):
    with pytest.raises(DataError, match="no data yet; name some with --dataset"):
        LakeSite(tmp_path).take_in()


@pytest.mark.parametrize("kind", ["global-time", "leave-one-out"])
def test_what_people_buy_again_is_told_and_decides(tmp_path, kind):
    """Groceries: each of 20 users buys the same 3 in turn, and some one new at the end."""
    rows = [(u, f"{u}-{n % 3}", u * 60 + n * 3600) for u in range(20) for n in range(40)]
    rows += [(u, "new", u * 60 + 40 * 3600) for u in range(5)]
    start = int((NOW - timedelta(days=20)).timestamp())
    lines = [f"u{user},{item},{start + second}" for user, item, second in rows]
    (tmp_path / "shop.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]))
    site = LakeSite(tmp_path / "home")
    site.take_in(tmp_path / "shop.csv")
    read = site.read(cut=SPLIT | {"kind": kind})
    split = splits.split_source(
        cleaning.clean(sources.load(tmp_path / "shop.csv"), now=NOW)[0], **SPLIT | {"kind": kind}
    )
    assert read.split.repeats == split.repeats
    assert read.split.repeats["allowed"]
    assert 0.8 < read.report.repeated_targets < 1
    assert "allowed" in read.split.describe()["repeats"]
    [note] = [n for n in read.report.notes if "had before" in n]
    assert note.endswith("count; --set evaluation.repeats=exclude changes that.")
    excluded = site.read(cut=SPLIT | {"kind": kind}, repeats="exclude")
    assert not excluded.split.repeats["allowed"]
    assert excluded.split.sha256 == read.split.sha256
    assert "left out of every list (evaluation.repeats=exclude)" in excluded.report.notes[-1]
