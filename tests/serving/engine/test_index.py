"""An index misses next to nothing, or is not used."""

import numpy as np
import pytest
import torch

from sasrec.data.vocabulary import Vocabulary
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from serving.engine.engine import Engine
from serving.engine.index import Index, accurate_index
from serving.engine.ranking import ExactRanking, IndexRanking

ITEMS, DIM = 20_000, 16


@pytest.fixture(scope="module")
def matrix():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(ITEMS + 1, DIM, generator=generator)


@pytest.fixture(scope="module")
def queries():
    return torch.randn(20, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def index(matrix):
    return Index(matrix)


def rankings(matrix, index, hidden):
    scores = (matrix @ hidden).numpy()
    return ExactRanking(scores), IndexRanking(hidden, matrix, index)


def test_the_best_items_are_found_and_scored_exactly(matrix, queries, index):
    eligible = np.ones(ITEMS + 1, dtype=bool)
    eligible[0] = False
    found = []
    for hidden in queries:
        exact, approximate = rankings(matrix, index, hidden)
        best, expected = approximate.best(eligible, 100), exact.best(eligible, 100)
        np.testing.assert_allclose(approximate.scores(best), exact.scores(best), rtol=1e-5)
        assert (np.diff(approximate.scores(best)) <= 0).all()
        found.append(np.isin(expected, best).mean())
    assert np.mean(found) > 0.99


def test_padding_and_the_last_item_keep_their_places(matrix, index):
    everything = index.search(matrix[1], ITEMS)
    assert sorted(everything.tolist()) == list(range(1, ITEMS + 1))


@pytest.mark.parametrize("allowed", [slice(1, 40), slice(1, 1), slice(1, 10_000)])
def test_filters_leave_what_exact_scoring_gives(matrix, queries, index, allowed):
    eligible = np.zeros(ITEMS + 1, dtype=bool)
    eligible[allowed] = True
    for hidden in queries[:5]:
        exact, approximate = rankings(matrix, index, hidden)
        assert approximate.best(eligible, 30).tolist() == exact.best(eligible, 30).tolist()


def test_an_index_that_misses_too_much_is_not_used(matrix, queries, monkeypatch):
    index, recall = accurate_index(matrix, queries)
    assert index is not None
    assert recall > 0.99
    monkeypatch.setattr("serving.engine.index.OVERSAMPLING", 1)
    refused, low = accurate_index(matrix, queries)
    assert refused is None
    assert low < 0.99


def test_an_engine_has_an_index_from_the_size_that_is_set(tmp_path):
    torch.manual_seed(0)
    model = SASRec(ModelConfig(dim=16, max_length=20), ITEMS)
    torch.nn.init.normal_(model.item_embedding.weight)
    ids = [f"item-{number}" for number in range(ITEMS)]
    Recommender(model, Vocabulary(ids)).save(tmp_path)
    plain, indexed = Engine(tmp_path, index_above=ITEMS), Engine(tmp_path, index_above=ITEMS - 1)
    assert plain.index_recall is None
    assert indexed.index_recall > 0.99
    eligible = plain.eligible(category=None, exclude=ids[:50], seen=ids[50:60])
    tops = [
        engine.rank(ids[50:60], range(10)).best(eligible, 20).tolist()
        for engine in (plain, indexed)
    ]
    assert tops[0] == tops[1]
    assert indexed.rank(["nobody knows this"], [1]) is None
