"""One update: only the rows of the items met are looked up, and no gradient differs by it."""

import copy

import pytest
import torch

from sasrec.model.sasrec import SASRec
from sasrec.training.objective import Objective
from sasrec.training.update import StepInputs, Update
from tests.sasrec.cyclic_world import settings

ITEMS = 500
LOSSES = [
    {"loss": "sampled_softmax", "negatives": 20},
    {"loss": "sampled_softmax", "negatives": 20, "sampling": "popularity"},
    {"loss": "bce", "negatives": 2, "shared_negatives": False},
    {"loss": "gbce", "negatives": 20, "cosine_temperature": 0.1},
]


def update_and_step(**overrides):
    chosen = settings(**overrides)
    torch.manual_seed(0)
    counts = torch.randint(1, 9, (ITEMS + 1,))
    objective = Objective(chosen.train, counts, cold_items_compete=True, device=torch.device("cpu"))
    update = Update(SASRec(chosen.model, ITEMS), objective, chosen.train)
    items = torch.randint(1, ITEMS + 1, (9,))
    shape = (chosen.train.negatives,) if chosen.train.shared_negatives else (8, 2)
    negatives = torch.randint(1, ITEMS + 1, shape)
    negatives.view(-1)[0] = items[3]  # one of them hits a target
    cu_seqlens = torch.tensor([0, 5, 8], dtype=torch.int32)
    weights = torch.rand(8)
    return update, StepInputs(
        items[:-1], cu_seqlens, torch.zeros(8, dtype=torch.int64), items[1:], weights, negatives
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_whole_table(loss):
    update, step = update_and_step(**loss)
    model = copy.deepcopy(update.model)
    losses = update.objective.losses(
        model(step.items, step.cu_seqlens, step.timestamps),
        model.item_matrix(),
        step.targets,
        step.negatives,
    )
    expected = torch.dot(losses, step.weights)
    expected.backward()
    torch.testing.assert_close(update.backward(step), expected.detach())
    for mine, its in zip(update.parameters, model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad)


def test_the_average_follows_the_weights_unless_there_is_none():
    update, _ = update_and_step(averaging=0.0)
    assert update.average is update.model
    update, step = update_and_step(averaging=0.9, loss="sampled_softmax", negatives=20)
    before = copy.deepcopy(update.average.norm.bias)
    update.backward(step)
    update.apply(forget=0.25)
    expected = before + 0.25 * (update.model.norm.bias - before)
    torch.testing.assert_close(update.average.norm.bias, expected.detach())


def test_a_long_gradient_is_clipped_and_a_short_one_left_alone():
    update, step = update_and_step(loss="sampled_softmax", negatives=20, gradient_clip=1e-3)
    update.backward(step)
    update._clip_gradients()
    gradients = [p.grad for p in update.parameters]
    assert torch.nn.utils.get_total_norm(gradients) == pytest.approx(1e-3, rel=1e-3)
    before = [g.clone() for g in gradients]
    update._clip_gradients()
    assert all(torch.allclose(a, b, rtol=1e-3) for a, b in zip(before, gradients, strict=True))
