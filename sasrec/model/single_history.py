"""The model on one history in operations that every export format has."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.attention.relative_bias import position_index
from sasrec.model.sasrec import Attention, Block, SASRec


class SingleHistory(nn.Module):
    """Scores of one history, in operations that ONNX has: attention is a masked matrix.

    The weights and layers are the trained model's own.
    """

    matrix: Tensor

    def __init__(self, model: SASRec) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("matrix", model.item_matrix().detach().clone())

    def forward(self, items: Tensor, seconds: Tensor) -> Tensor:
        """(V + 1,) scores; column 0, the padding, means nothing.

        Args:
            items: (L,) int64 in 1..V, oldest first, 1 <= L <= max_length.
            seconds: (L,) int64, since the epoch; used by models with a time bias alone.
        """
        x = F.embedding(items, self.matrix)
        index = torch.arange(items.shape[0])
        if self.model.position_embedding is not None:
            oldest = self.model.config.positions == "oldest"
            x = x + self.model.position_embedding(index if oldest else index.flip(0))
        for block in self.model.blocks:
            x = _block(cast(Block, block), x, seconds)
        return self.matrix @ self.model.norm(x)[-1]


def _block(block: Block, x: Tensor, seconds: Tensor) -> Tensor:
    if block.pre_norm:
        x = x + _attention(block.attention, block.attention_norm(x), seconds)
        return x + block.feed_forward(block.feed_forward_norm(x))
    x = block.attention_norm(x + _attention(block.attention, x, seconds))
    return block.feed_forward_norm(x + block.feed_forward(x))


def _attention(attention: Attention, x: Tensor, seconds: Tensor) -> Tensor:
    q, k, v = attention.qkv(x).unflatten(-1, (3, attention.heads, -1)).unbind(1)
    row = torch.arange(x.shape[0])[:, None]
    column = row.T
    scores = torch.einsum("ihd,jhd->hij", q, k) * q.shape[-1] ** -0.5
    if attention.position_bias is not None:
        furthest = attention.position_bias.shape[1] - 1
        scores = scores + attention.position_bias[:, position_index(row, column, furthest)]
    if attention.time_bias is not None:
        # The octave of 1 + elapsed seconds, by comparison: ONNX cannot look into a float's bits.
        octaves = 2 ** torch.arange(1, attention.time_bias.shape[1])
        elapsed = (seconds[:, None] - seconds[None, :]).clamp(min=0) + 1
        bucket = (elapsed[..., None] >= octaves).long().sum(-1)
        scores = scores + attention.time_bias[:, bucket]
    weights = torch.softmax(scores.masked_fill(column > row, -torch.inf), dim=-1)
    return attention.output(torch.einsum("hij,jhd->ihd", weights, v).flatten(1))
