"""Refits: how long, from where, what survives a kill, and what is compared before one may serve."""

import math

import numpy as np
import pytest
import torch

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import Vocabulary
from sasrec.model.recommender import Recommender
from sasrec.training.loop import train
from sasrec.training.refit import (
    check_refit,
    refit,
    refit_epochs,
    score_alignment,
    score_on,
)
from tests.sasrec.cyclic_world import ITEMS, VOCABULARY, settings, world
from tests.sasrec.small_sequences import packed

TODAY = Vocabulary([*VOCABULARY.item_ids, "launched"])


@pytest.fixture(scope="module")
def chosen():
    return settings(epochs=4)


@pytest.fixture(scope="module")
def evaluated(chosen, tmp_path_factory):
    histories, validation = world()
    folder = tmp_path_factory.mktemp("evaluated")
    return train(histories, validation, VOCABULARY, chosen.model, chosen.train, folder).recommender


@pytest.fixture(scope="module")
def everything():
    """More users, some of whom end with an item that the evaluated model does not know."""
    histories, _ = world(200, seed=5)
    items = histories.items.copy()
    items[histories.cu_seqlens[1:20] - 1] = ITEMS + 1
    return PackedSequences(items, histories.cu_seqlens, histories.timestamps)


@pytest.mark.parametrize(
    ("how", "best", "before", "now", "epochs"),
    [
        ("scratch", 14, 80, 100, 14),
        ("continue", 14, 80, 100, 3),
        ("continue", 14, 100, 100, 1),
        ("continue", 3, 99, 100, 1),
        ("continue", 0, 80, 100, 0),
        ("scratch", 0, 80, 100, 0),
    ],
)
def test_epochs_follow_from_what_validation_chose(how, best, before, now, epochs):
    assert refit_epochs(how, best, before, now) == epochs


@pytest.mark.parametrize(("how", "epochs"), [("scratch", 4), ("continue", 1)])
def test_a_refit_knows_today_and_agrees_with_the_model_that_vouches_for_it(
    tmp_path, chosen, evaluated, everything, how, epochs
):
    result = refit(evaluated, everything, TODAY, chosen.train, tmp_path, how=how, epochs=epochs)
    assert result.best_epoch == len(result.history) == epochs
    assert math.isnan(result.best_ndcg)
    assert "launched" in result.recommender.vocabulary
    found = check_refit(result.recommender, evaluated, everything)
    assert found.finite == 1
    assert found.new_items == 1
    assert found.overlap > 0.15  # of 30 items, a third would be chance; the first few agree
    assert score_on(result.recommender, world()[1], VOCABULARY) > 0.8


def test_continuing_starts_from_the_evaluated_weights(tmp_path, chosen, evaluated, everything):
    result = refit(evaluated, everything, TODAY, chosen.train, tmp_path, how="continue", epochs=1)
    fresh = refit(
        evaluated, everything, TODAY, chosen.train, tmp_path / "b", how="scratch", epochs=1
    )
    assert result.history[0]["loss"] < fresh.history[0]["loss"]


def test_a_refit_that_ended_early_continues_to_the_same_weights(
    tmp_path, chosen, evaluated, everything
):
    def run(folder, epochs):
        return refit(
            evaluated, everything, TODAY, chosen.train, folder, how="scratch", epochs=epochs
        ).recommender.model.state_dict()

    run(tmp_path / "killed", 1)
    resumed, whole = run(tmp_path / "killed", 2), run(tmp_path / "whole", 2)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_model_whose_items_are_mixed_up_leaves_the_evaluated_model(evaluated, everything):
    mixed = Vocabulary(np.random.default_rng(0).permutation(VOCABULARY.item_ids).tolist())
    known = PackedSequences(
        np.minimum(everything.items, ITEMS), everything.cu_seqlens, everything.timestamps
    )
    assert check_refit(evaluated, evaluated, known).overlap == 1
    assert check_refit(Recommender(evaluated.model, mixed), evaluated, known).overlap < 0.6


def test_scores_of_a_scaled_model_are_carried_over(evaluated, everything):
    class Scaled(Recommender):
        def logits(self, histories):
            return 3 * super().logits(histories) + 2

    known = PackedSequences(
        np.minimum(everything.items, ITEMS), everything.cu_seqlens, everything.timestamps
    )
    scaled = Scaled(evaluated.model, VOCABULARY)
    assert score_alignment(scaled, evaluated, known) == pytest.approx((3, 2), abs=1e-3)


def test_weights_that_are_not_finite_are_found(evaluated, everything):
    model = type(evaluated.model)(evaluated.model.config, len(VOCABULARY))
    model.load_state_dict(evaluated.model.state_dict())
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    found = check_refit(Recommender(model, VOCABULARY), evaluated, everything)
    assert (found.finite, found.overlap_users) == (0, 0)


def test_who_has_had_everything_is_compared_all_the_same(evaluated):
    everyone = packed([list(range(1, ITEMS + 1))] * 3)
    found = check_refit(evaluated, evaluated, everyone)
    assert (found.overlap, found.overlap_users) == (1, 3)


def test_nobody_to_compare_is_not_agreement(evaluated):
    stranger = Vocabulary([f"other-{n}" for n in range(1, ITEMS + 1)])
    found = check_refit(Recommender(evaluated.model, stranger), evaluated, world()[0])
    assert math.isnan(found.overlap)
