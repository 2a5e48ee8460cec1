import torch

from sasrec.negatives import NegativeSampler

COUNTS = torch.tensor([0, 7, 0, 2])


def shares(sampling, targets=None):
    torch.manual_seed(0)
    drawn = NegativeSampler(sampling, COUNTS).draw((40_000,), targets)
    return torch.bincount(drawn, minlength=4) / len(drawn)


def test_uniform_draws_every_item_alike_and_never_padding():
    assert torch.allclose(shares("uniform"), torch.tensor([0, 1, 1, 1]) / 3, atol=0.01)


def test_popularity_draws_by_counts_plus_one():
    assert torch.allclose(shares("popularity"), torch.tensor([0, 8, 1, 3]) / 12, atol=0.01)


def test_in_batch_draws_from_the_targets_of_the_step():
    targets = torch.tensor([1, 1, 1, 3])
    assert torch.allclose(shares("in_batch", targets), torch.tensor([0, 3, 0, 1]) / 4, atol=0.01)


def test_the_proposal_is_the_distribution_drawn_from():
    for sampling in ("uniform", "popularity"):
        log_q = NegativeSampler(sampling, COUNTS).log_probability
        assert torch.allclose(log_q.exp(), shares(sampling), atol=0.01)


def test_an_event_can_have_its_own_negatives():
    assert NegativeSampler("uniform", COUNTS).draw((5, 2), None).shape == (5, 2)
