"""The attention as a plain formula: what the kernels compute, with no regard for speed.

It loops over users, holds every intermediate, and leaves the gradients to autograd. The tests hold
every implementation against it; nothing else should call it.
"""

import itertools
import math

import torch
from torch import Tensor

from kernels.attention.relative_bias import position_index, time_bucket
from kernels.dropout import keep_mask


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    *,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    dropout_seed: int | Tensor = 0,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
    timestamps: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Causal softmax attention over packed sequences; see :func:`kernels.jagged_causal_attention`.

    Returns:
        The output ``(T, H, D)`` and the log-sum-exp of the scores ``(T, H)``, in q's dtype.
    """
    tokens, heads, head_dim = q.shape
    scale = head_dim**-0.5 if softmax_scale is None else softmax_scale
    keep = None
    if dropout_p > 0.0:
        seed = torch.as_tensor(dropout_seed, dtype=torch.int64, device=q.device)
        keep = keep_mask(seed, heads, tokens, dropout_p)

    outputs, log_sum_exps = [q[:0]], [q[:0, :, 0]]
    bounds = cu_seqlens.tolist()
    for start, end in itertools.pairwise(bounds):
        row = torch.arange(end - start, device=q.device)[:, None]
        column = row.T
        scores = torch.einsum("ihd,jhd->hij", q[start:end], k[start:end]) * scale
        if position_bias is not None:
            index = position_index(row, column, position_bias.shape[1] - 1)
            scores = scores + position_bias[:, index].to(q.dtype)
        if time_bias is not None and timestamps is not None:
            time = (timestamps[start:end] - timestamps[start:end][:1]).to(torch.int32)
            bucket = time_bucket(time[:, None], time[None, :], time_bias.shape[1])
            scores = scores + time_bias[:, bucket].to(q.dtype)
        scores = scores.masked_fill(column > row, -math.inf)
        log_sum_exps.append(torch.logsumexp(scores, dim=-1).T)
        weights = torch.softmax(scores, dim=-1)
        if keep is not None:
            weights = weights * keep[:, start:end, start:end] / (1.0 - dropout_p)
        outputs.append(torch.einsum("hij,jhd->ihd", weights, v[start:end]))
    return torch.cat(outputs), torch.cat(log_sum_exps)
