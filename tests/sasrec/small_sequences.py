"""Histories written out by hand, and a scorer that is a table."""

import numpy as np
import torch

from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.vocabulary import PADDING


def packed(histories, timestamps=None):
    items = np.array([i for history in histories for i in history], dtype=np.int64)
    cu_seqlens = np.cumsum([0, *(len(history) for history in histories)]).astype(np.int32)
    times = np.arange(len(items)) if timestamps is None else np.array(timestamps, dtype=np.int64)
    return PackedSequences(items, cu_seqlens, times)


def evaluation_set(histories, targets, *, repeats=False):
    """Users u0, u1, ...; every target comes after every history."""
    users = [f"u{row}" for row in range(len(histories))]
    before = packed(histories)
    after = packed(targets)
    later = after.timestamps + len(before.items)
    after = PackedSequences(after.items, after.cu_seqlens, later)
    return EvaluationSet("test", users, before, after, repeats)


class Lookup:
    """Scores (V + 1,) chosen by the `back`-th newest item; row 0 answers a shorter history."""

    def __init__(self, table, name="lookup", back=1):
        self.name = name
        self.table = torch.as_tensor(np.asarray(table), dtype=torch.float32)
        self.back = back

    def logits(self, histories):
        rows = [i[-self.back] if len(i) >= self.back else PADDING for i in histories]
        scores = self.table[rows]
        scores[:, PADDING] = -torch.inf
        return scores
