"""Last week's model scores this week's items as it scored its own."""

import numpy as np
import torch

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import Vocabulary
from sasrec.scoring.vocabulary_adapter import VocabularyAdapter
from tests.sasrec.small_sequences import packed

THEIRS = Vocabulary(["a", "b", "c"])
OURS = Vocabulary(["new", "c", "a"])  # without "b", which is gone


class Recorder:
    """Scores an item by its own index, and notes what it was asked."""

    name = "recorder"

    def __init__(self) -> None:
        self.asked: list[PackedSequences] = []

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        self.asked.append(histories)
        scores = torch.arange(len(THEIRS) + 1.0).repeat(len(histories), 1)
        scores[:, 0] = -torch.inf
        return scores


def test_histories_and_scores_are_translated_by_item():
    recorder = Recorder()
    adapter = VocabularyAdapter(recorder, THEIRS, OURS)
    ours = packed([OURS.encode(["a", "new", "c"]).tolist(), OURS.encode(["new"]).tolist()])
    scores = adapter.logits(ours)
    [asked] = recorder.asked
    assert asked.items.tolist() == THEIRS.encode(["a", "c"]).tolist()
    assert asked.cu_seqlens.tolist() == [0, 2, 2]
    assert asked.cu_seqlens.dtype == np.int32
    assert asked.timestamps.tolist() == ours.timestamps[[0, 2]].tolist()
    of_new, of_c, of_a = (scores[:, index] for index in OURS.encode(["new", "c", "a"]))
    assert (of_new == -torch.inf).all()
    assert of_c.tolist() == [3, 3]
    assert of_a.tolist() == [1, 1]
    assert (scores[:, 0] == -torch.inf).all()
    assert adapter.name == "recorder"
