"""Filters as they are compiled, and which items pass them: of a version, and of live records."""

import numpy as np
import pytest

from serving.engine.engine import MASKS, Engine
from serving.engine.live_items import LiveEngine
from serving.filters import FilterError, parse_filter
from tests.feature_repo.lake.site import item
from tests.serving.sites import ITEM_IDS, NUM_ITEMS, save_model

NUMBERS = range(NUM_ITEMS)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(save_model(tmp_path_factory.mktemp("plain"), seed=1))


def passing(engine, wanted):
    found = np.flatnonzero(engine.mask(parse_filter(wanted)) & engine.eligible(
        category=None, exclude=(), seen=()
    ))  # fmt: skip
    return engine.vocabulary.decode(found)


def numbered(condition):
    return [ITEM_IDS[n] for n in NUMBERS if condition(n)]


@pytest.mark.parametrize(
    ("wanted", "condition"),
    [
        ({"category": "books"}, lambda n: n % 3 == 0),
        ({"category": ["films", "books"]}, lambda n: True),
        ({"brand": "b4"}, lambda n: n % 5 == 0),
        ({"brand": "b0|b4"}, lambda n: n % 20 == 0),
        ({"price": {"lte": 2, "gt": 0.5}}, lambda n: 0.5 < n / 2 <= 2),
        ({"price": [1, 2.5]}, lambda n: n in (2, 5)),
        ({"sale": True}, lambda n: n % 7 and n % 2 == 0),
        ({"not": {"sale": True}}, lambda n: not (n % 7 and n % 2 == 0)),
        ({"not": {"sale": True, "price": {"lt": 5}}}, lambda n: not (
            n % 7 and n % 2 == 0 and n < 10)),
        ({"brand": ["b1"], "not": {"category": "books"}}, lambda n: n % 4 == 1 and n % 3),
        ({"item_id": [ITEM_IDS[3], "unheard-of"]}, lambda n: n == 3),
        ({"created_at": {"lt": "2026-01-01T00:00:00Z"}}, lambda n: False),
        ({"created_at": {"lte": "2026-01-01T01:00:00+01:00"}}, lambda n: True),
        ({"unheard_of": 1}, lambda n: False),
    ],
    ids=lambda part: "" if callable(part) else str(part),
)  # fmt: skip
def test_items_pass_that_meet_every_condition_and_not_all_under_not(engine, wanted, condition):
    assert passing(engine, wanted) == numbered(condition)


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ([], ()),
        ({}, ()),
        ({"a": None}, ("a",)),
        ({"a": []}, ("a",)),
        ({"a": [1, "x"]}, ("a", 1)),
        ({"a": [[1]]}, ("a", 0)),
        ({"a": {}}, ("a",)),
        ({"a": {"between": 3}}, ("a", "between")),
        ({"a": {"lt": True}}, ("a", "lt")),
        ({"a": {"lt": "yesterday"}}, ("a", "lt")),
        ({"a": {"lt": "2026-01-01T00:00:00"}}, ("a", "lt")),
        ({"a": {"gt": 1, "lt": "2026-01-01T00:00:00Z"}}, ("a", "lt")),
        ({"a": 1e300}, ("a",)),
        ({"not": {}}, ("not",)),
        ({"not": {"not": {"a": 1}}}, ("not", "not")),
        ({"not": {"a": {"lte": None}}}, ("not", "a", "lte")),
        ({"x" * 65: 1}, ("x" * 64,)),
        ({f"a{n}": 1 for n in range(21)}, ()),
    ],
    ids=str,
)
def test_what_is_no_filter_is_refused_with_its_path(wanted, path):
    with pytest.raises(FilterError) as refused:
        parse_filter(wanted)
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ({"pricee": 1}, ("pricee",)),
        ({"price": "cheap"}, ("price",)),
        ({"price": True}, ("price",)),
        ({"brand": {"lte": 3}}, ("brand",)),
        ({"title": "A"}, ("title",)),
        ({"not": {"sale": "yes"}}, ("not", "sale")),
    ],
)
def test_a_filter_is_held_to_the_attributes_that_items_have(engine, wanted, path):
    with pytest.raises(FilterError) as refused:
        parse_filter(wanted).check(engine.kinds)
    assert refused.value.path == path


def test_equal_filters_are_one_mask_and_old_ones_go(engine):
    first = engine.mask(parse_filter({"price": {"lt": 3}, "category": ["b", "a"]}))
    again = engine.mask(parse_filter({"category": ["a", "b", "a"], "price": {"lt": 3.0}}))
    assert again is first
    for number in range(2 * MASKS):
        engine.mask(parse_filter({"price": {"lt": number}}))
    assert len(engine._masks) == MASKS


def test_masks_follow_what_the_shop_says_of_its_items(engine):
    cheap = {"price": {"lt": 1}}
    records = [
        item(item_id="new", attributes={"price": 0.5, "colour": "red"}, category="books"),
        item(item_id=ITEM_IDS[0], attributes={"price": 9.0}),
        item(item_id=ITEM_IDS[50], attributes={"price": 0.25}),
        item(item_id=ITEM_IDS[1], attributes={"price": "much"}),
        item(item_id="gone", attributes={"price": 0.1}, available=False),
    ]
    assert passing(engine, cheap) == ITEM_IDS[:2]
    live = LiveEngine(engine, {one["item_id"]: one for one in records}, {})
    assert passing(live, cheap) == [ITEM_IDS[50], "new"]
    assert passing(live, {"colour": "red"}) == ["new"]
    assert passing(live, {"item_id": ["new", ITEM_IDS[1]]}) == [ITEM_IDS[1], "new"]
    assert passing(live, {"category": "books", "not": {"price": {"gte": 0}}}) == [ITEM_IDS[1]]
    assert live.kinds == {**engine.kinds, "colour": "text"}
    assert live.values("colour", live.vocabulary.encode(["new"])[0]) == ("red",)
    assert live.values("brand", 6) == ("b1", "b4")
    assert live.values("brand", 1) == ()  # what is left out is unknown
    later = LiveEngine(engine, {"new": item(item_id="new", attributes={"price": 5.0})}, {}, live)
    assert passing(later, cheap) == ITEM_IDS[:2]


def test_a_version_from_before_knows_categories_alone(tmp_path):
    model = save_model(tmp_path, seed=1)
    (model / "attributes.parquet").unlink()
    old = Engine(model)
    assert old.kinds == {"category": "text", "item_id": "text"}
    assert passing(old, {"category": "books"}) == numbered(lambda n: n % 3 == 0)
