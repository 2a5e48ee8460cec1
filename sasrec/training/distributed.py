"""Data-parallel training under `torchrun`: who this process is, and sums over all of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """The processes of a run, one of them this; alone when not started by `torchrun`."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process evaluates, logs and saves."""
        return self.rank == 0

    def sum(self, tensors: list[Tensor], *extra: float) -> list[float]:
        """Sum dense `tensors` in place, and numbers, over all processes: one message."""
        if self.size == 1:
            return list(extra)
        flat = torch.cat(
            [tensor.flatten() for tensor in tensors]
            + [torch.tensor(extra, device=self.device, dtype=torch.float32)]
        )
        distributed.all_reduce(flat)
        offset = 0
        for tensor in tensors:
            tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
            offset += tensor.numel()
        return flat[offset:].tolist()


@contextmanager
def processes() -> Iterator[Processes]:
    """Join the group that `torchrun` describes in the environment, and leave it at the end."""
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    cuda = torch.cuda.is_available()
    device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if cuda else "cpu")
    if size > 1:
        distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes(rank, size, device)
    finally:
        if size > 1:
            distributed.destroy_process_group()
