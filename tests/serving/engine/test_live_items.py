"""What is known of items beyond a version: their rows, their scores, their share of the slots."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import chisquare

from sasrec.data.vocabulary import Vocabulary
from sasrec.model.config import ModelConfig
from sasrec.model.item_features import FeatureColumns, ItemFeatures
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from sasrec.off_policy.policy import Policy
from serving.engine.engine import Engine
from serving.engine.live_items import LiveEngine
from serving.engine.recommendation import recommend
from serving.engine.request_history import History
from serving.schemas import RecommendRequest
from tests.feature_repo.lake.site import item
from tests.serving.sites import ITEM_IDS, NUM_ITEMS, save_model

COLUMNS = ["category", "price", "code", "sale", "title:words"]
HISTORY = History(ITEM_IDS[:3], [1, 2, 3])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Engine(save_model(tmp_path_factory.mktemp("plain"), seed=1))


@pytest.fixture(scope="module", params=[0.0, 0.1], ids=["product", "cosine"])
def described(request, tmp_path_factory):
    """A model with item features, and the table that they are of."""
    folder = tmp_path_factory.mktemp("described")
    table = pa.table(
        {
            "item_id": ITEM_IDS,
            "category": [f"c{n % 3}" for n in range(NUM_ITEMS)],
            "price": [0.5 * n for n in range(NUM_ITEMS)],
            "code": [n % 4 for n in range(NUM_ITEMS)],
            "sale": [n % 2 == 0 for n in range(NUM_ITEMS)],
            "title": [f"Number {n}" for n in range(NUM_ITEMS)],
        }
    )
    vocabulary = Vocabulary(ITEM_IDS)
    features = ItemFeatures.of(table, vocabulary, columns=COLUMNS, buckets=500)
    torch.manual_seed(0)
    config = ModelConfig(
        dim=16, blocks=1, heads=1, feature_buckets=500, cosine_temperature=request.param
    )
    model = SASRec(config, NUM_ITEMS, features)
    model.item_embedding.weight.data.zero_()  # known by their features alone
    Recommender(model, vocabulary).save(folder)
    FeatureColumns.of(table, COLUMNS).save(folder)
    return folder, table


def live(engine, *items, impressions=None):
    return LiveEngine(engine, {one["item_id"]: one for one in items}, impressions or {})


def as_item(row, **changes):
    attributes = {name: row[name] for name in ("price", "code", "sale")}
    return item(title=row["title"], category=row["category"], attributes=attributes) | changes


def test_a_new_item_with_the_features_of_a_known_one_has_its_row(described):
    folder, table = described
    engine = Engine(folder)
    twins = [as_item(row, item_id=f"twin-{n}") for n, row in enumerate(table.to_pylist())]
    scores = live(engine, *twins).rank(HISTORY.item_ids, HISTORY.timestamps)
    both = scores.scores(np.arange(1, 2 * NUM_ITEMS + 1))
    np.testing.assert_allclose(both[NUM_ITEMS:], both[:NUM_ITEMS], rtol=1e-5, atol=1e-6)
    through_twins = live(engine, *twins).scores(["twin-0", "twin-1", "twin-2"], [1, 2, 3])
    np.testing.assert_allclose(through_twins[1:], both[:NUM_ITEMS], rtol=1e-5, atol=1e-6)


def test_without_its_columns_a_model_falls_back_to_the_mean_of_all(described):
    folder, _ = described
    engine = Engine(folder)
    engine.recommender.feature_columns = None  # as of a version from before
    extended = live(engine, item(item_id="new", category="unheard of"))
    row = extended._side[0]
    torch.testing.assert_close(row, engine._encoder.matrix[1:].mean(dim=0))


def test_new_items_join_the_best_where_an_index_finds_the_others(plain):
    class Everything:
        def search(self, hidden, n):
            return np.arange(1, NUM_ITEMS + 1)

    indexed = Engine.__new__(Engine)
    vars(indexed).update(vars(plain))
    indexed._index = Everything()
    items = [item(item_id="new", category="books"), item(item_id="other", category=None)]
    expected, found = (
        live(engine, *items).rank(HISTORY.item_ids, HISTORY.timestamps)
        for engine in (plain, indexed)
    )
    eligible = np.ones(NUM_ITEMS + 3, dtype=bool)
    eligible[0] = False
    for n in (5, NUM_ITEMS + 2):
        assert found.best(eligible, n).tolist() == expected.best(eligible, n).tolist()
    assert {NUM_ITEMS + 1, NUM_ITEMS + 2} <= set(expected.best(eligible, NUM_ITEMS + 2).tolist())


def test_what_is_new_is_available_untrained_and_hardly_shown(plain):
    items = [
        item(item_id="fresh"),
        item(item_id="shown often"),
        item(item_id="gone", available=False),
        item(item_id=ITEM_IDS[0]),
    ]
    extended = live(plain, *items, impressions={"shown often": 30, "fresh": 29})
    eligible = extended.eligible(category=None, exclude=[], seen=[])
    assert extended.vocabulary.decode(extended.new_items(eligible)) == ["fresh"]
    hidden = extended.eligible(category=None, exclude=["fresh"], seen=[])
    assert extended.new_items(hidden).tolist() == []


def test_slots_with_new_items_are_drawn_as_often_as_their_propensities_say(plain):
    extended = live(plain, item(item_id="n1"), item(item_id="n2"), item(item_id="n3"))
    policy = Policy("all three", temperature=2.0, epsilon=0.2, new_share=0.3)
    drawn: Counter[tuple[str, float]] = Counter()
    draws = 6_000
    for number in range(draws):
        request = RecommendRequest(k=1, request_id=f"r{number}", category=None)
        answer = recommend(extended, request, HISTORY, policy, candidates=20)
        drawn[answer.item_ids[0], round(float(answer.slate.propensities[0]), 12)] += 1
    propensity = dict(drawn.keys())
    assert len(propensity) == len(drawn), "an item has one propensity, whatever part drew it"
    assert all(propensity[name] > 0.1 for name in ("n1", "n2", "n3"))
    often = [key for key in drawn if key[1] * draws >= 5]
    observed = np.array([drawn[key] for key in often], dtype=float)
    expected = np.array([p for _, p in often])
    observed = np.append(observed, draws - observed.sum())
    expected = np.append(expected, 1 - expected.sum())
    assert chisquare(observed, expected * draws).pvalue > 1e-4
