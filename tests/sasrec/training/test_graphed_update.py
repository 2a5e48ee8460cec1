"""The graph's buffers change nothing of a step, nor does replaying it."""

import copy

import pytest
import torch

from sasrec.model.sasrec import SASRec
from sasrec.training.batches import Batches
from sasrec.training.graphed_update import WARM_UP, GraphedUpdate
from sasrec.training.negatives import SeenItems
from sasrec.training.objective import Objective
from sasrec.training.update import StepInputs, Update
from tests.sasrec.cyclic_world import ITEMS, histories, settings

LOSSES = [
    {"loss": "cross_entropy"},
    {"loss": "sampled_softmax", "negatives": 20},
    {"loss": "bce", "negatives": 2, "shared_negatives": False},
]


def two_updates(device="cpu", **overrides):
    """The same model twice, each with an update of its own, and steps to make."""
    chosen = settings(dropout=0.0, **overrides)
    torch.manual_seed(0)
    model = SASRec(chosen.model, ITEMS).to(device)
    counts = torch.ones(ITEMS + 1, dtype=torch.int64)
    users = histories(60, seed=0)
    objective = Objective(
        chosen.train,
        counts,
        cold_items_compete=True,
        device=torch.device(device),
        seen=SeenItems(users, ITEMS),
    )
    batches = Batches(users, max_length=12, batch_tokens=100, seed=0)
    plain, graphed = (Update(copy.deepcopy(model), objective, chosen.train) for _ in range(2))
    return plain, GraphedUpdate(graphed, batches.budget), steps(batches, objective)


def steps(batches, objective):
    for rows in batches.epoch(0)[: 2 * WARM_UP]:
        batch = batches.load(rows)
        weights = torch.linspace(0.5, 1.5, len(batch.targets)) / batch.tokens
        yield StepInputs(
            batch.items,
            batch.cu_seqlens,
            batch.timestamps,
            batch.targets,
            weights,
            objective.draw(batch),
        )


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_in_the_buffers_is_the_step(loss):
    plain, graphed, inputs = two_updates(**loss)
    for step in inputs:
        expected = plain.backward(step)
        graphed.fill(step)
        torch.testing.assert_close(graphed.update.backward(graphed.inputs), expected)
        for mine, its in zip(plain.parameters, graphed.update.parameters, strict=True):
            torch.testing.assert_close(its.grad, mine.grad)
        for update in (plain, graphed.update):
            update.apply(0.1)


def test_the_filling_is_sequences_no_longer_than_the_model_knows():
    _, graphed, inputs = two_updates()
    step = next(inputs)
    short = StepInputs(
        *(getattr(step, name)[:5] for name in ("items",)),
        torch.tensor([0, 2, 5], dtype=torch.int32),
        *(getattr(step, name)[:5] for name in ("timestamps", "targets", "weights")),
        None,
    )
    graphed.fill(short)
    cu_seqlens = graphed.inputs.cu_seqlens
    assert cu_seqlens[:3].tolist() == [0, 2, 5]
    assert cu_seqlens[-1] == graphed.tokens
    assert 0 <= int(cu_seqlens.diff().min()) <= int(cu_seqlens.diff().max()) <= 12
    assert int(graphed.inputs.weights.count_nonzero()) == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("loss", [*LOSSES, {"loss": "cross_entropy", "precision": "bfloat16"}])
def test_replays_are_the_steps(loss):
    plain, graphed, inputs = two_updates("cuda", **loss)
    for step in inputs:
        on_device = StepInputs(
            *(
                None if value is None else value.cuda()
                for value in (getattr(step, name) for name in StepInputs.__dataclass_fields__)
            )
        )
        expected = plain.backward(on_device)
        plain.apply(0.1)
        loss_ = graphed(step, 0.1)
        torch.testing.assert_close(loss_, expected, rtol=1e-4, atol=1e-5)
    assert graphed.graph is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_replays_drop_other_units_by_the_seed():
    chosen = settings(dropout=0.5)
    torch.manual_seed(0)
    model = SASRec(chosen.model, ITEMS).cuda()
    counts = torch.ones(ITEMS + 1, dtype=torch.int64)
    objective = Objective(
        chosen.train, counts, cold_items_compete=True, device=torch.device("cuda")
    )
    update = Update(model, objective, chosen.train)
    update.set_learning_rate(0.0)
    batches = Batches(histories(60, seed=0), max_length=12, batch_tokens=100, seed=0)
    graphed = GraphedUpdate(update, batches.budget)
    step = next(steps(batches, objective))
    found = []
    for seed in (0, 0, 0, 1, 1, 1, 2, 2):
        torch.manual_seed(seed)
        found.append(float(graphed(step, 0.0)))
    assert [found[0], found[3], found[6]] == [found[2], found[5], found[7]]
    assert len(set(found)) == 3
