"""Sequences that a model can learn in seconds: each user steps through a ring of items."""

import numpy as np

from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.vocabulary import Vocabulary
from sasrec.presets import preset

ITEMS, STRIDE = 30, 3
VOCABULARY = Vocabulary(f"item-{i}" for i in range(1, ITEMS + 1))


def histories(users, *, seed):
    """Histories of 2 to 9 events; item i is followed by i + STRIDE on the ring."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 10, users)
    start = np.repeat(rng.integers(ITEMS, size=users), lengths)
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    position = np.arange(cu_seqlens[-1]) - np.repeat(cu_seqlens[:-1], lengths)
    items = (start + STRIDE * position) % ITEMS + 1
    return PackedSequences(items, cu_seqlens, position * 1_000_000)


def world(users=120, *, seed=0):
    """Training histories, and a validation set in which the next item is the one on the ring."""
    train, before = histories(users, seed=seed), histories(40, seed=seed + 1)
    newest = before.cu_seqlens[1:] - 1
    targets = PackedSequences(
        (before.items[newest] - 1 + STRIDE) % ITEMS + 1,
        np.arange(len(before) + 1, dtype=np.int32),
        before.timestamps[newest] + 1_000_000,
    )
    ids = [f"u{row}" for row in range(len(before))]
    return train, EvaluationSet("validation", ids, before, targets)


def settings(**overrides):
    """The default preset at a size for tests."""
    small = {
        "dim": 16,
        "max_length": 12,
        "dropout": 0,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "averaging": 0,
    }
    return preset("default", **(small | {"epochs": 3} | overrides))
