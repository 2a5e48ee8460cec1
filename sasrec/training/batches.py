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
        step_targets: int64, targets of this process; (tokens,), of all, with `whole_step`.
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
        whole_step: read the targets of other processes as well, to draw negatives from.

    Attributes:
        histories: (W,) int64, the row of `sequences` that each window is of.
        starts: (W,) int64, its first event.
        lengths: (W,) int64, its inputs, one fewer than its events.

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
        whole_step: bool = False,
    ) -> None:
        trainable = np.flatnonzero(sequences.lengths >= 2)
        if not len(trainable):
            raise DataError(
                f"training data: none of {len(sequences)} users has 2 events; "
                "a sequence model needs at least one user with two"
            )
        self.sequences, self.weights = sequences, weights
        self.histories, self.starts, self.lengths = _windows(
            sequences.cu_seqlens, trainable, max_length, whole_histories=whole_histories
        )
        self.tokens = int(self.lengths.sum())
        self.budget = max(
            min(batch_tokens, self.tokens // MIN_STEPS), int(self.lengths.max()), world_size
        )
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.whole_step = whole_step

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The windows in each step of this epoch, by number."""
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
        inputs, cu_seqlens = self._inputs(own)
        targets = self._items(inputs + 1)
        step_targets = targets
        if self.whole_step and self.world_size > 1:
            step_targets = self._items(self._inputs(rows)[0] + 1)
        weights = None
        if self.weights is not None:
            weights = torch.from_numpy(self.weights[inputs + 1])
        return Batch(
            items=self._items(inputs),
            targets=targets,
            timestamps=torch.from_numpy(self.sequences.timestamps[inputs] // 1_000_000),
            weights=weights,
            cu_seqlens=torch.from_numpy(cu_seqlens),
            histories=torch.from_numpy(self.histories[own]),
            tokens=int(self.lengths[rows].sum()),
            step_targets=step_targets,
        )

    def _inputs(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The events (T,) that are inputs of these windows, and their cu_seqlens (n + 1,)."""
        lengths = self.lengths[rows]
        cu_seqlens = np.concatenate([[0], np.cumsum(lengths)])
        first = np.repeat(self.starts[rows] - cu_seqlens[:-1], lengths)
        return np.arange(cu_seqlens[-1]) + first, cu_seqlens.astype(np.int32)

    def _items(self, events: np.ndarray) -> Tensor:
        return torch.from_numpy(self.sequences.items[events].astype(np.int64, copy=False))


def _windows(
    cu_seqlens: np.ndarray, trainable: np.ndarray, max_length: int, *, whole_histories: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """History, first event and inputs of each window, all (W,) int64.

    Windows of a whole history are counted from its newest event; each starts at the event that the
    window before it ends with, so that every event but the first is a target once.
    """
    begins = cu_seqlens[trainable].astype(np.int64)
    ends = cu_seqlens[trainable + 1].astype(np.int64)
    history = np.arange(len(trainable))
    if whole_histories:
        counts = -(-(ends - begins - 1) // max_length)
        history = np.repeat(history, counts)
        back = np.arange(len(history)) - np.repeat(np.cumsum(counts) - counts, counts)
        ends = ends[history] - back * max_length
    starts = np.maximum(ends - max_length - 1, begins[history])
    return trainable[history], starts, ends - starts - 1
