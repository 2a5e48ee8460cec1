import numpy as np
import pytest

from sasrec.errors import DataError
from sasrec.training.batches import Batches
from tests.sasrec.cyclic_world import ITEMS, STRIDE, histories
from tests.sasrec.small_sequences import packed


def batches(sequences, **options):
    return Batches(sequences, **({"max_length": 12, "batch_tokens": 64, "seed": 0} | options))


def test_every_target_is_the_event_after_its_input():
    own = batches(histories(50, seed=0))
    for rows in own.epoch(0):
        batch = own.load(rows)
        assert ((batch.items - 1 + STRIDE) % ITEMS + 1 == batch.targets).all()


def test_an_epoch_holds_every_window_once_within_the_budget():
    own = batches(histories(200, seed=0))
    steps = own.epoch(3)
    assert sorted(np.concatenate(steps)) == list(range(200))
    assert all(own.load(rows).tokens <= 64 for rows in steps)


def test_epochs_differ_and_repeat():
    own = batches(histories(50, seed=0))
    assert not np.array_equal(own.epoch(0)[0], own.epoch(1)[0])
    assert np.array_equal(own.epoch(1)[0], batches(histories(50, seed=0)).epoch(1)[0])


def test_a_long_history_gives_its_newest_events():
    batch = batches(packed([[1, 2, 3, 4, 5]]), max_length=2).load(np.array([0]))
    assert (batch.items.tolist(), batch.targets.tolist()) == ([3, 4], [4, 5])


def test_whole_histories_make_every_event_but_the_first_a_target_once():
    own = batches(packed([[1, 2, 3, 4, 5], [6], [7, 8, 9]]), max_length=2, whole_histories=True)
    found = [own.load(np.array([row])) for row in range(3)]
    assert [b.items.tolist() for b in found] == [[3, 4], [1, 2], [7, 8]]
    assert [b.targets.tolist() for b in found] == [[4, 5], [2, 3], [8, 9]]
    with pytest.raises(IndexError):
        own.load(np.array([3]))


def test_weights_follow_their_events():
    weights = np.array([10, 20, 30, 40, 50], dtype=np.float32)
    batch = batches(packed([[1, 2], [3, 4, 5]]), weights=weights).load(np.array([1, 0]))
    assert batch.targets.tolist() == [4, 5, 2]
    assert batch.weights.tolist() == [40, 50, 20]


def test_processes_share_a_step_without_overlap():
    one = batches(histories(50, seed=0))
    two = [batches(histories(50, seed=0), rank=rank, world_size=2) for rank in range(2)]
    rows = one.epoch(0)[0]
    shares = [half.load(rows) for half in two]
    whole = one.load(rows)
    assert {share.tokens for share in shares} == {whole.tokens}
    assert sum(len(share.items) for share in shares) == whole.tokens
    assert sorted(shares[0].step_targets.tolist()) == sorted(whole.targets.tolist())


def test_processes_get_as_many_events_but_for_one_window():
    two = [batches(packed([[1] * n for n in range(2, 12)]), rank=r, world_size=2) for r in (0, 1)]
    rows = np.array([9, 0, 8, 1, 7, 2, 6, 3, 5, 4])  # in turns these would be 40 and 15 events
    first, second = (len(half.load(rows).items) for half in two)
    assert abs(first - second) <= 5


@pytest.mark.parametrize("whole_histories", [False, True])
def test_a_batch_says_whose_windows_it_holds(whole_histories):
    users = packed([[1, 2], [9], [3, 4, 5, 6, 7]])
    own = batches(users, max_length=2, whole_histories=whole_histories)
    batch = own.load(np.arange(len(own.windows)))
    assert set(batch.histories.tolist()) == {0, 2}
    windows = batch.targets.split(batch.cu_seqlens.diff().tolist())
    for history, targets in zip(batch.histories, windows, strict=True):
        assert set(targets.tolist()) <= set(list(users)[history].tolist())


def test_users_with_one_event_are_left_out():
    assert len(batches(packed([[1], [2, 3]])).windows) == 1


def test_no_user_with_two_events_is_an_error():
    with pytest.raises(DataError, match="none of 2 users has 2 events"):
        batches(packed([[1], [2]]))
