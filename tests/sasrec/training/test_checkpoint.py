"""What is saved comes back, whole or not at all, and to its own run only."""

import pytest
import torch

from sasrec.errors import DataError
from sasrec.training import checkpoint
from sasrec.training.checkpoint import FILE, Checkpoint

RUN = {"data": "abc", "config": {"dim": 4}}


def state(value: float) -> Checkpoint:
    weights = {"layer.weight": torch.full((2, 3), value), "layer.bias": torch.tensor([value])}
    return Checkpoint(
        RUN,
        {"epoch": 3, "history": [{"loss": value}]},
        weights,
        {"layer.weight": torch.full((2, 3), value + 1)},
        {"layer.bias": torch.tensor([value + 2])},
        {("layer.weight", "exp_avg"): torch.full((2, 3), value + 3)},
    )


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_all_of_it_comes_back(tmp_path):
    assert checkpoint.load(tmp_path, RUN) is None
    checkpoint.save(tmp_path, state(1.0))
    loaded, saved = checkpoint.load(tmp_path, RUN), state(1.0)
    assert (loaded.run, loaded.progress) == (saved.run, saved.progress)
    for part in ("weights", "average", "best_weights", "optimiser"):
        assert same(getattr(loaded, part), getattr(saved, part)), part


def test_a_write_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, state(1.0))
    monkeypatch.setattr(checkpoint.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        checkpoint.save(tmp_path, state(2.0))
    assert same(checkpoint.load(tmp_path, RUN).weights, state(1.0).weights)


def test_another_run_is_refused_by_what_differs(tmp_path):
    checkpoint.save(tmp_path, state(1.0))
    with pytest.raises(DataError, match="'data' is abc in this checkpoint and xyz in this run"):
        checkpoint.load(tmp_path, RUN | {"data": "xyz"})


def test_a_damaged_one_is_named(tmp_path):
    checkpoint.save(tmp_path, state(1.0))
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"{FILE}: .*; delete it to train from the start"):
        checkpoint.load(tmp_path, RUN)


def test_an_optimiser_goes_on_where_it_was(tmp_path):
    def fresh():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        return model, torch.optim.Adam(model.parameters(), lr=0.1)

    def step(model, optimiser):
        optimiser.zero_grad()
        model(torch.ones(3)).square().backward()
        optimiser.step()

    whole, whole_optimiser = fresh()
    step(whole, whole_optimiser)
    resumed, resumed_optimiser = fresh()
    resumed.load_state_dict(whole.state_dict())
    saved = checkpoint.optimiser_state(whole, whole_optimiser)
    copied = {key: value.clone() for key, value in saved.items()}  # as a file does
    checkpoint.restore_optimiser(resumed, resumed_optimiser, copied)
    step(whole, whole_optimiser)
    step(resumed, resumed_optimiser)
    assert torch.equal(whole.weight, resumed.weight)
