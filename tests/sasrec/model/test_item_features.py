"""Items that nobody has met, ranked by what is known of them."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from sasrec.data.packed import EvaluationSet
from sasrec.errors import DataError
from sasrec.model.item_features import (
    FeatureColumns,
    ItemFeatures,
    described_items,
    feature_columns,
)
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from sasrec.training import loop as training
from tests.sasrec.cyclic_world import VOCABULARY, settings
from tests.sasrec.small_sequences import packed

BUCKETS = 64
CATEGORIES = 3
COLD = [28, 29, 30]  # one item of each category


def catalogue():
    """Item i is of category i mod 3."""
    categories = [f"c{i % CATEGORIES}" for i in range(1, len(VOCABULARY) + 1)]
    return pa.table({"item_id": VOCABULARY.item_ids, "category": categories})


def features(**options):
    arguments = {"columns": ["category"], "buckets": BUCKETS} | options
    return ItemFeatures.of(catalogue(), VOCABULARY, **arguments)


def loyal_users(count=150):
    """Users who stay within one category, among the items that are not cold."""
    rng = np.random.default_rng(0)
    warm = np.arange(1, 28)
    return packed(
        [
            rng.choice(warm[warm % CATEGORIES == user % CATEGORIES], 6, replace=False)
            for user in range(count)
        ]
    )


def test_an_item_nobody_has_met_is_ranked_by_its_features(tmp_path):
    histories = loyal_users()
    newest = histories.cu_seqlens[1:] - 1
    validation = EvaluationSet(
        "validation",
        [str(user) for user in range(len(histories))],
        histories,
        packed([[item] for item in histories.items[newest]]),
    )
    chosen = settings(feature_buckets=BUCKETS, epochs=4, id_dropout=0.2)
    model = training.train(
        histories,
        validation,
        VOCABULARY,
        chosen.model,
        chosen.train,
        tmp_path / "run",
        item_features=features(),
    ).recommender
    scores = model.logits(packed([[1, 4, 7], [2, 5, 8], [3, 6, 9]]))[:, COLD]
    # Item 28 is of the first history's category, 29 of the second's, 30 of the third's.
    assert scores.argmax(1).tolist() == [0, 1, 2]

    model.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    assert torch.equal(loaded.logits(histories), model.logits(histories))


def test_features_are_rows_per_column_and_value():
    table = pa.table({"item_id": ["item-2", "item-1", "?"], "genre": ["a|b", None, "a"]})
    found = ItemFeatures.of(table, VOCABULARY, columns=["genre"], buckets=BUCKETS)
    assert found.offsets[:4].tolist() == [0, 0, 0, 2]
    assert len(found.rows) == 2
    assert ((found.rows >= 0) & (found.rows < BUCKETS)).all()


def test_numbers_fall_into_bins_that_need_not_know_the_others():
    def rows(values):
        ids = VOCABULARY.item_ids[: len(values)]
        table = pa.table({"item_id": ids, "price": pa.array(values, pa.float64())})
        found = ItemFeatures.of(table, VOCABULARY, columns=["price"], buckets=10_000)
        return [
            found.rows[found.offsets[i] : found.offsets[i + 1]].tolist()
            for i in range(1, len(values) + 1)
        ]

    ten, eleven, hundred, owed, free, unknown, endless = rows(
        [10, 11, 100, -10, 0, None, float("inf")]
    )
    assert ten == eleven
    assert len({*map(tuple, (ten, hundred, owed, free))}) == 4
    assert unknown == endless == []
    assert rows([100.0]) == [hundred]


def test_words_of_a_text_are_features():
    table = pa.table({"item_id": ["item-1", "item-2"], "title": ["Red Fjord-Tent!", "fjord"]})
    found = ItemFeatures.of(table, VOCABULARY, columns=["title:words"], buckets=10_000)
    assert found.offsets[:4].tolist() == [0, 0, 3, 4]
    assert found.rows[3] in found.rows[:3]


def test_columns_that_group_items_are_chosen_by_themselves():
    count = len(VOCABULARY)
    table = pa.table(
        {
            "item_id": VOCABULARY.item_ids,
            "title": ["same"] * (count - 1) + ["other"],
            "category": [f"c{i % 3}" for i in range(count)],
            "on_sale": [i % 2 == 0 for i in range(count)],
            "serial": [f"s{i}" for i in range(count)],
            "price": [float(i % 2) for i in range(count)],
            "constant": ["x"] * count,
        }
    )
    assert feature_columns(table, None) == ["category", "on_sale"]
    assert feature_columns(table, ["price", "title:words"]) == ["price", "title:words"]
    assert described_items(table.slice(0, 2), ["category"]) == VOCABULARY.item_ids[:2]
    with pytest.raises(DataError, match=r"no column groups items.*data\.feature_columns"):
        feature_columns(table.select(["item_id", "serial"]), None)
    with pytest.raises(DataError, match="column 'colour' is missing"):
        feature_columns(table, ["colour"])
    moments = table.append_column("when", pa.array([0] * count, pa.timestamp("us")))
    with pytest.raises(DataError, match="column 'when' is timestamp"):
        described_items(moments, ["when"])


def test_features_are_read_back(tmp_path):
    assert ItemFeatures.load(tmp_path) is None
    features().save(tmp_path, FeatureColumns(["category"], []))
    read = ItemFeatures.load(tmp_path)
    np.testing.assert_array_equal(read.rows, features().rows)
    np.testing.assert_array_equal(read.offsets, features().offsets)


@pytest.mark.parametrize("cosine_temperature", [0.0, 0.1])
def test_rows_of_some_items_are_those_of_all(cosine_temperature):
    chosen = settings(feature_buckets=BUCKETS, cosine_temperature=cosine_temperature)
    two = features(columns=["category", "item_id"])
    model = SASRec(chosen.model, len(VOCABULARY), two).eval()
    some = torch.tensor([3, 30, 1, 3])
    torch.testing.assert_close(model.item_matrix(some), model.item_matrix()[some])
    bare = SASRec(settings(cosine_temperature=cosine_temperature).model, len(VOCABULARY))
    torch.testing.assert_close(bare.item_matrix(some), bare.item_matrix()[some])


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="column 'colour' is missing"):
        features(columns=["colour"])


def test_features_and_their_table_belong_together():
    with pytest.raises(DataError, match="feature_buckets is 64, but item features are missing"):
        SASRec(settings(feature_buckets=BUCKETS).model, len(VOCABULARY))
    with pytest.raises(DataError, match="feature_buckets is 0, but item features are given"):
        SASRec(settings().model, len(VOCABULARY), features())


def test_a_warm_start_brings_the_features_along(tmp_path):
    chosen = settings(feature_buckets=BUCKETS, epochs=0)
    histories = loyal_users(30)
    targets = packed([[1]] * len(histories))
    validation = EvaluationSet("validation", ["u"] * len(histories), histories, targets)
    first = Recommender(SASRec(chosen.model, len(VOCABULARY), features()), VOCABULARY)
    torch.nn.init.ones_(first.model.item_embedding.features.weight)
    grown = VOCABULARY.extended(["item-31"])
    more = ItemFeatures.of(catalogue(), grown, columns=["category"], buckets=BUCKETS)
    second = training.train(
        histories,
        validation,
        grown,
        chosen.model,
        chosen.train,
        tmp_path,
        warm_start=first,
        item_features=more,
    ).recommender.model
    assert (second.item_embedding.features.weight == 1).all()
    assert len(second.item_embedding.offsets) == len(grown) + 1
