"""Shuffling keeps what was met and forgets when."""

import numpy as np
import torch

from sasrec.scoring.order_shuffled import OrderShuffled
from tests.sasrec.small_sequences import packed

HISTORIES = packed([list(range(1, 30)), [], [5], [7, 8, 9]])


class Recorder:
    name = "recorder"

    def logits(self, histories):
        self.asked = histories
        return torch.zeros(len(histories), 40)


def shuffled(histories):
    recorder = Recorder()
    OrderShuffled(recorder).logits(histories)
    return recorder.asked


def test_each_history_keeps_its_items_and_times():
    got = shuffled(HISTORIES)
    assert [sorted(items) for items in got] == [sorted(items) for items in HISTORIES]
    np.testing.assert_array_equal(got.cu_seqlens, HISTORIES.cu_seqlens)
    np.testing.assert_array_equal(got.timestamps, HISTORIES.timestamps)
    assert next(iter(got)).tolist() != next(iter(HISTORIES)).tolist()


def test_blocks_do_not_change_the_order():
    together = list(shuffled(HISTORIES))
    for row in range(len(HISTORIES)):
        alone = shuffled(HISTORIES.select(np.array([row])))
        np.testing.assert_array_equal(alone.items, together[row])
