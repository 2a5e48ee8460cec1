"""Training batches: whole windows packed up to a token budget, in an order drawn per epoch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sasrec.data.packed import PackedSequences
from sasrec.errors import DataError

# A small data set is cut into at least this many steps an epoch, whatever the token budget, so
# that one epoch is always enough learning to be worth a validation.
MIN_STEPS = 64


@dataclass(frozen=True)
class Batch:
    """Windows of several users, end to end.

    Attributes:
        items: (T,) int64, inputs.
        targets: (T,) int64, the event after each input.
        timestamps: (T,) int64, seconds, of the inputs.
        weights: (T,) float32, of the targets; None when all weigh one.
        cu_seqlens: (B + 1,) int32.
        histories: (B,) int64, the training history that each window is of.
        tokens: events in this step over all processes; losses are means over them.
        step_targets: (tokens,) int64, targets of this step over all processes.
    """

    items: Tensor
    targets: Tensor
    timestamps: Tensor
    weights: Tensor | None
    cu_seqlens: Tensor
    histories: Tensor
    tokens: int
    step_targets: Tensor


class Batches:
    """The steps of every epoch, the same on every process and after every resume.

    Args:
        sequences: training histories; those of fewer than two events teach nothing and are left
            out.
        max_length: inputs of a window; a history gives its newest `max_length + 1` events.
        batch_tokens: largest number of inputs in a step, over all processes.
        whole_histories: let a longer history give more windows, back to its first event.
        weights: (T,) of each event of `sequences` as a target.
        rank, world_size: this process takes every `world_size`-th window of a step, by length.

    Raises:
        DataError: no history has two events.
    """

    def __init__(
        self,
        sequences: PackedSequences,
        *,
        max_length: int,
        batch_tokens: int,
        seed: int,
        whole_histories: bool = False,
        weights: np.ndarray | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        trainable = np.flatnonzero(sequences.lengths >= 2)
        if not len(trainable):
            raise DataError(
                f"training data: none of {len(sequences)} users has 2 events; "
                "a sequence model needs at least one user with two"
            )
        # Rows of `sequences` are selected by event number, so that times and weights follow.
        numbered = PackedSequences(
            np.arange(len(sequences.items)), sequences.cu_seqlens, sequences.timestamps
        )
        self.sequences, self.weights = sequences, weights
        self.windows = numbered.select(trainable, None if whole_histories else max_length + 1)
        self.histories = trainable
        if whole_histories:
            self.windows, history = _cut(self.windows, max_length)
            self.histories = trainable[history]
        self.lengths = self.windows.lengths.astype(np.int64) - 1
        self.tokens = int(self.lengths.sum())
        self.budget = max(
            min(batch_tokens, self.tokens // MIN_STEPS), int(self.lengths.max()), world_size
        )
        self.seed, self.rank, self.world_size = seed, rank, world_size

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Rows of `windows` in each step of this epoch."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.lengths))
        filled = np.cumsum(self.lengths[order])
        steps = []
        start, used = 0, 0
        while start < len(order):
            end = max(start + 1, int(np.searchsorted(filled, used + self.budget, side="right")))
            steps.append(order[start:end])
            start, used = end, filled[end - 1]
        return steps

    def load(self, rows: np.ndarray) -> Batch:
        """This process's share of the step made of `rows`."""
        own = rows
        if self.world_size > 1:  # dealt by length, so that no process waits long for another
            by_length = rows[np.argsort(self.lengths[rows], kind="stable")]
            own = by_length[self.rank :: self.world_size]
        inputs, targets, cu_seqlens = _shift(self.windows.select(own))
        step_targets = targets if self.world_size == 1 else _shift(self.windows.select(rows))[1]
        items = self.sequences.items
        return Batch(
            items=torch.from_numpy(items[inputs]),
            targets=torch.from_numpy(items[targets]),
            timestamps=torch.from_numpy(self.sequences.timestamps[inputs] // 1_000_000),
            weights=None if self.weights is None else torch.from_numpy(self.weights[targets]),
            cu_seqlens=torch.from_numpy(cu_seqlens),
            histories=torch.from_numpy(self.histories[own]),
            tokens=len(step_targets),
            step_targets=torch.from_numpy(items[step_targets]),
        )


def _cut(histories: PackedSequences, max_length: int) -> tuple[PackedSequences, np.ndarray]:
    """Windows of `max_length` inputs, counted from the newest event, and the history of each; each
    starts at the event that the window before it ends with, so that every event but the first is a
    target once."""
    counts = -(-(histories.lengths.astype(np.int64) - 1) // max_length)
    history = np.repeat(np.arange(len(histories)), counts)
    back = np.arange(len(history)) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = histories.cu_seqlens[history + 1] - back * max_length
    starts = np.maximum(ends - max_length - 1, histories.cu_seqlens[history])
    cu_seqlens = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int32)
    event = np.arange(cu_seqlens[-1]) + np.repeat(starts - cu_seqlens[:-1], ends - starts)
    windows = PackedSequences(histories.items[event], cu_seqlens, histories.timestamps[event])
    return windows, history


def _shift(windows: PackedSequences) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets (the event after each input) and cu_seqlens, one less per window."""
    first = np.zeros(len(windows.items), dtype=bool)
    last = np.zeros(len(windows.items), dtype=bool)
    first[windows.cu_seqlens[:-1]] = True
    last[windows.cu_seqlens[1:] - 1] = True
    cu_seqlens = windows.cu_seqlens - np.arange(len(windows.cu_seqlens), dtype=np.int32)
    return windows.items[~last], windows.items[~first], cu_seqlens
