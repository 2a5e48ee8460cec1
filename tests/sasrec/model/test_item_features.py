"""Items that nobody has met, ranked by what is known of them."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from sasrec.data.packed import EvaluationSet
from sasrec.errors import DataError
from sasrec.model.item_features import ItemFeatures
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
