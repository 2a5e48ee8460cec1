"""The newest position of one history, computed in as few operations as it takes.

For one short history a model's time goes into starting operations, not into arithmetic: plain
slices take the place of what a packed batch must prepare, and the kernel's attention is that of
one dense matrix.
"""

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from sasrec.model import Block, SASRec


class Encoder:
    """`SASRec.encode_last` for one history; the weights are the model's own.

    Attributes:
        matrix: (V + 1, dim) output embeddings; item features are added once, not per request.
    """

    def __init__(self, model: SASRec) -> None:
        self._blocks = [cast(Block, block) for block in model.blocks]
        self._norm = model.norm
        self._positions = None
        if model.position_embedding is not None:
            self._positions = model.position_embedding.weight.detach()
        self._oldest_first = model.config.positions == "oldest"
        self._longest = model.config.max_length
        self.matrix = model.item_matrix().detach().contiguous()

    def encode(self, items: Tensor, seconds: Tensor) -> Tensor:
        """The hidden state (dim,) of the newest event.

        Args:
            items: (L,) int64 in 1..V, oldest first, L >= 1; only the newest `max_length` count.
            seconds: (L,) int64, since the epoch; used by models with a time bias alone.
        """
        items, seconds = items[-self._longest :], seconds[-self._longest :]
        x = F.embedding(items, self.matrix)
        if self._positions is not None:
            positions = self._positions[: len(items)]
            x = x + (positions if self._oldest_first else positions.flip(0))
        cu_seqlens = torch.tensor([0, len(items)], dtype=torch.int32)
        for block in self._blocks[:-1]:
            x = block(x, cu_seqlens, seconds)
        newest = cu_seqlens[1:].long() - 1
        return self._norm(self._blocks[-1](x, cu_seqlens, seconds, newest))[0]
