"""The dropout mask: the one that the implementations draw, and its statistics.

Counts are held to five standard deviations of a binomial: about one chance in a million each, and
the seeds are fixed.
"""

import pytest
import torch

from kernels import jagged_causal_attention
from kernels.dropout import keep_mask
from tests.kernels.packed import offsets

HEADS, TOKENS = 3, 512
P = [0.1, 0.5, 0.9]


def mask(seed: int, dropout_p: float, tokens: int = TOKENS) -> torch.Tensor:
    return keep_mask(torch.tensor([seed]), HEADS, tokens, dropout_p)


def assert_binomial(counts: torch.Tensor, trials: int, p: float) -> None:
    deviations = (counts - trials * p).abs() / (trials * p * (1 - p)) ** 0.5
    assert deviations.max() < 5.0


@pytest.mark.parametrize("dropout_p", P)
def test_the_mask_is_the_replicas(dropout_p, device):
    # Equal scores and v the identity: output (i, j) is the weight itself, 1 / (i + 1) if kept.
    tokens, seed = 64, -(2**40) - 7
    zeros = torch.zeros(tokens, 2, tokens, device=device)
    identity = torch.eye(tokens, device=device)[:, None].expand(-1, 2, -1)
    out = jagged_causal_attention(
        zeros,
        zeros,
        identity,
        offsets([tokens], device),
        dropout_p=dropout_p,
        dropout_seed=seed,
    )
    keep = keep_mask(torch.tensor([seed], device=device), 2, tokens, dropout_p).transpose(0, 1)
    row = torch.arange(1, tokens + 1, device=device)[:, None, None]
    visible = torch.ones(tokens, tokens, device=device).tril()[:, None]
    expected = keep * visible / (row * (1 - dropout_p))
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dropout_p", P)
def test_share_kept_by_row_column_and_head(dropout_p):
    keep = mask(1, dropout_p).double()
    assert_binomial(keep.sum(), keep.numel(), 1 - dropout_p)
    assert_binomial(keep.sum((1, 2)), TOKENS**2, 1 - dropout_p)
    assert_binomial(keep.sum(2), TOKENS, 1 - dropout_p)
    assert_binomial(keep.sum(1), TOKENS, 1 - dropout_p)


@pytest.mark.parametrize("dropout_p", P)
def test_rows_columns_and_heads_are_independent(dropout_p):
    keep = mask(2, dropout_p)
    both = (1 - dropout_p) ** 2
    for a, b in ((keep[:, 1:], keep[:, :-1]), (keep[:, :, 1:], keep[:, :, :-1])):
        assert_binomial((a & b).sum().double(), a.numel(), both)
    for other in range(1, HEADS):
        assert_binomial((keep[0] & keep[other]).sum().double(), TOKENS**2, both)
    assert_binomial((keep[0] & keep[0].T).triu(1).sum().double(), TOKENS * (TOKENS - 1) // 2, both)


@pytest.mark.parametrize(
    "other", [4, 3 + 2**32, -3, 3 + 2**62], ids=["next", "high", "sign", "top"]
)
def test_seeds_are_independent(other):
    both = (mask(3, 0.5) & mask(other, 0.5)).sum().double()
    assert_binomial(both, HEADS * TOKENS**2, 0.25)


def test_a_score_is_kept_for_its_share_of_seeds():
    kept = sum(mask(seed, 0.3, tokens=16).double() for seed in range(2000))
    assert_binomial(kept, 2000, 0.7)


def test_one_seed_one_mask_and_without_a_seed_a_new_one(device):
    q, k, v = torch.randn(3, 20, 2, 16, generator=torch.Generator().manual_seed(0)).to(device)

    def attention(seed):
        return jagged_causal_attention(
            q, k, v, offsets([20], device), dropout_p=0.5, dropout_seed=seed
        )

    assert torch.equal(attention(5), attention(torch.tensor([5], device=device)))
    assert not torch.equal(attention(5), attention(6))
    torch.manual_seed(0)
    first, second = attention(None), attention(None)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, attention(None))
