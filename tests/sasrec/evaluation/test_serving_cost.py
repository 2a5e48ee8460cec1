"""Cost of a model whose size is known."""

import pytest

from sasrec.evaluation.serving_cost import serving_cost
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from tests.sasrec.cyclic_world import VOCABULARY, histories


def test_weights_are_counted_and_answers_timed():
    model = SASRec(ModelConfig(dim=32, blocks=1, max_length=8), len(VOCABULARY))
    cost = serving_cost(Recommender(model, VOCABULARY), histories(5, seed=0))
    stored = sum(4 * value.numel() for value in model.state_dict().values())
    assert cost["weights_mib"] == pytest.approx(stored / 2**20)
    assert 0 < cost["score_ms"] < 1000
