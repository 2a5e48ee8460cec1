"""The newest position of one history, computed in as few operations as it takes.

For one short history a model's time goes into starting operations, not into arithmetic. Packed
attention prepares for many histories of any length; with one, dense attention
(`torch.nn.functional.scaled_dot_product_attention`) and plain slices do the same in a fifth of the
time. `benchmarks/serving/runtimes.py` compares it with compiled and exported models.
"""

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.relative_bias import position_index, time_bucket
from sasrec.model import Attention, Block, SASRec

_LONGEST_SECONDS = 2**31 - 1


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
        for block in self._blocks[:-1]:
            x = _block(block, x, seconds, len(x))
        return self._norm(_block(self._blocks[-1], x, seconds, 1))[0]


def _block(block: Block, x: Tensor, seconds: Tensor, rows: int) -> Tensor:
    """(L, dim) to the newest `rows` (rows, dim)."""
    attended = _attention(
        block.attention, block.attention_norm(x) if block.pre_norm else x, seconds, rows
    )
    x = x[-rows:] + attended
    if block.pre_norm:
        return x + block.feed_forward(block.feed_forward_norm(x))
    x = block.attention_norm(x)
    return block.feed_forward_norm(x + block.feed_forward(x))


def _attention(attention: Attention, x: Tensor, seconds: Tensor, rows: int) -> Tensor:
    qkv = attention.qkv(x).view(1, len(x), 3, attention.heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    bias = _bias(attention, seconds, rows)
    attended = F.scaled_dot_product_attention(
        q[:, :, -rows:], k, v, attn_mask=bias, is_causal=bias is None and rows > 1
    )
    return attention.output(attended[0].transpose(0, 1).flatten(1))


def _bias(attention: Attention, seconds: Tensor, rows: int) -> Tensor | None:
    """(heads, rows, L) added to the scores, the causal mask with it; None if nothing is learned."""
    if attention.position_bias is None and attention.time_bias is None:
        return None
    column = torch.arange(len(seconds))
    row = column[-rows:, None]
    bias = torch.zeros(attention.heads, rows, len(seconds))
    if attention.position_bias is not None:
        furthest = attention.position_bias.shape[1] - 1
        bias += attention.position_bias[:, position_index(row, column, furthest)]
    if attention.time_bias is not None:
        times = (seconds - seconds[0]).clamp(0, _LONGEST_SECONDS).int()
        bucket = time_bucket(times[-rows:, None], times, attention.time_bias.shape[1])
        bias += attention.time_bias[:, bucket]
    return bias.masked_fill_(column > row, -torch.inf)
