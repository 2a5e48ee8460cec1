"""Each loss against a value worked out by hand from its formula."""

import math

import numpy as np
import pytest
import torch

from sasrec.training import losses

HIDDEN = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
ITEMS = torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # row 0 is padding
TARGETS = torch.tensor([1, 3])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_bpr_with_one_negative():
    loss = losses.bpr(torch.tensor([2.0]), torch.tensor([[0.5]]))
    assert loss.tolist() == pytest.approx([-math.log(sigmoid(1.5))])


def test_bpr_weighs_many_negatives_by_their_softmax():
    weights = np.exp([0.5, 1.5]) / np.exp([0.5, 1.5]).sum()
    expected = -math.log(weights[0] * sigmoid(1.5) + weights[1] * sigmoid(0.5))
    loss = losses.bpr(torch.tensor([2.0]), torch.tensor([[0.5, 1.5]]))
    assert loss.tolist() == pytest.approx([expected])


def test_bce():
    expected = -math.log(sigmoid(2.0)) - math.log(1 - sigmoid(0.5)) - math.log(1 - sigmoid(-1.0))
    loss = losses.bce(torch.tensor([2.0]), torch.tensor([[0.5, -1.0]]))
    assert loss.tolist() == pytest.approx([expected])


@pytest.mark.parametrize(("calibration", "beta"), [(0.0, 1.0), (1.0, 0.2), (0.75, 0.4)])
def test_gbce(calibration, beta):
    """α = 2 / 10 = 0.2, so β = α(t(1 - 5) + 5) = 1 - 0.8 t."""
    expected = (-beta * math.log(sigmoid(2.0)) - math.log(1 - sigmoid(0.5)) * 2) / 3
    loss = losses.gbce(
        torch.tensor([2.0]), torch.tensor([[0.5, 0.5]]), num_items=11, calibration=calibration
    )
    assert loss.tolist() == pytest.approx([expected])


def test_cross_entropy_runs_over_every_candidate():
    first = -1.0 + math.log(math.exp(1) + math.exp(0) + math.exp(1))
    second = -2.0 + math.log(math.exp(0) + math.exp(2) + math.exp(2))
    assert losses.cross_entropy(HIDDEN, ITEMS[1:], TARGETS - 1).tolist() == pytest.approx(
        [first, second]
    )


def test_sampled_softmax_subtracts_log_q_and_skips_hits():
    log_q = torch.tensor([0.5, 0.2, 0.3, 0.5]).log()
    negatives = torch.tensor([2, 3])
    target = math.exp(1) / 0.2
    first = -math.log(target / (target + math.exp(0) / 0.3 + math.exp(1) / 0.5))
    target = math.exp(2) / 0.5  # item 3 is this event's own target: it is no negative
    second = -math.log(target / (target + math.exp(2) / 0.3))
    loss = losses.sampled_softmax(HIDDEN, ITEMS, TARGETS, negatives, log_q)
    assert loss.tolist() == pytest.approx([first, second])


def test_sampled_softmax_estimates_the_full_one():
    torch.manual_seed(0)
    hidden, items = torch.randn(64, 8), torch.randn(201, 8) * 0.5
    targets = torch.randint(1, 201, (64,))
    q = torch.cat([torch.zeros(1), torch.rand(200) + 0.1])
    q /= q.sum()
    negatives = torch.multinomial(q, 20_000, replacement=True)
    # n draws and the target: compare with the target counted among n of its own kind.
    log_q = q.log() + math.log(20_000)
    log_q[0] = 0.0
    sampled = losses.sampled_softmax(hidden, items, targets, negatives, log_q)
    positive = (hidden * items[targets]).sum(1)
    others = (hidden @ items[1:].T).scatter(1, targets[:, None] - 1, -torch.inf).logsumexp(1)
    expected = torch.logaddexp(positive - log_q[targets], others) - (positive - log_q[targets])
    assert (sampled - expected).abs().max() < 0.1


@pytest.mark.parametrize("negatives", [torch.tensor([2, 1]), torch.tensor([[2, 1], [2, 1]])])
def test_shared_and_own_negatives_score_alike_and_mask_hits(negatives):
    positive, negative = losses.candidate_scores(HIDDEN, ITEMS, TARGETS, negatives)
    assert positive.tolist() == [1.0, 2.0]
    assert negative.tolist() == [[0.0, losses.MASKED], [2.0, 0.0]]


@pytest.mark.parametrize("loss", [losses.bpr, losses.bce])
def test_a_negative_that_is_the_target_teaches_nothing(loss):
    positive = torch.tensor([1.0], requires_grad=True)
    value = loss(positive, torch.full((1, 1), losses.MASKED))
    assert value.isfinite().all()
    assert value.item() <= -math.log(sigmoid(1.0)) + 1e-6


def test_propensity_weights_are_clipped_and_average_one():
    propensities = np.array([0.5, 0.25, 0.001, np.nan])  # 1/p is 2, 4 and 1000
    weights = losses.inverse_propensity_weights(propensities, clip=3.0)
    assert weights.tolist() == pytest.approx([2 / 6, 4 / 6, 12 / 6, 1.0])
    # The same service over a catalogue a hundred times as large gives the same weights.
    larger = losses.inverse_propensity_weights(propensities / 100, clip=3.0)
    assert larger.tolist() == pytest.approx(weights.tolist())


def test_a_propensity_outside_its_range_is_named():
    with pytest.raises(ValueError, match=r"1\.5 at row 1"):
        losses.inverse_propensity_weights(np.array([0.5, 1.5]))
