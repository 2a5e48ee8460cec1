import pytest
import torch

from sasrec.model.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_units_are_dropped_at_the_rate_and_the_mean_is_kept(p):
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(300, 333))
    dropped = (out == 0).float().mean().item()
    assert dropped == pytest.approx(p, abs=0.01)
    assert out.mean().item() == pytest.approx(1.0, abs=0.03)
    assert len(out.unique()) == 2


def test_rows_and_columns_are_dropped_independently():
    torch.manual_seed(0)
    out = Dropout(0.5)(torch.ones(1000, 64)) > 0
    for axis in (0, 1):
        share = out.float().mean(axis)
        assert share.std() < 2 * 0.5 / out.shape[axis] ** 0.5


def test_gradients_pass_where_units_did():
    x = torch.ones(50, 7, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_nothing_is_dropped_outside_training_or_at_rate_zero():
    x = torch.randn(4, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
