import numpy as np
import torch

from sasrec.data.packed import PackedSequences
from sasrec.training.negatives import NegativeSampler, SeenItems

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


def seen(*histories):
    lengths = [len(history) for history in histories]
    items = np.concatenate(histories)
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return SeenItems(PackedSequences(items, cu_seqlens, np.zeros_like(items)), 100)


def test_a_history_holds_its_items_and_no_other():
    rows, items = torch.tensor([0, 1, 2]), torch.tensor([[5, 100, 6], [5, 7, 1], [100, 7, 1]])
    held = seen([5, 6, 5], [7], [100, 1]).hold(rows, items)
    assert held.tolist() == [[True, False, True], [False, True, False], [True, False, True]]


def test_an_event_has_its_own_negatives_that_its_user_has_not_met():
    torch.manual_seed(0)
    sampler = NegativeSampler("uniform", torch.ones(101, dtype=torch.int64))
    histories = seen(range(1, 11), range(11, 21))
    rows = torch.tensor([0, 1]).repeat_interleave(2000)
    drawn = sampler.draw_unseen(3, histories, rows, None)
    assert drawn.shape == (4000, 3)
    assert histories.hold(rows, drawn).float().mean() < 1e-3  # a tenth without drawing again
    assert torch.bincount(drawn[:2000].flatten(), minlength=101)[11:].min() > 30  # all others


def test_a_user_who_has_met_everything_has_negatives_all_the_same():
    rows = torch.zeros(50, dtype=torch.int64)
    sampler = NegativeSampler("uniform", torch.ones(101, dtype=torch.int64))
    drawn = sampler.draw_unseen(1, seen(range(1, 101)), rows, None)
    assert 1 <= drawn.min() <= drawn.max() <= 100
