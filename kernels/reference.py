"""Plain, readable versions of the kernels: what they compute, with no regard for speed.

They loop over users, hold every intermediate, and leave the gradients to autograd. The tests hold
every implementation against them; nothing else should call them.
"""

import itertools
import math

import torch
from torch import Tensor

from kernels.dropout import keep_mask
from kernels.relative_bias import position_index, time_bucket


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


def next_item_cross_entropy(
    hidden: Tensor, item_embedding: Tensor, targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Weighted mean of ``log Σ_n exp(h·e_n) - h·e_target``, with every logit in memory at once."""
    losses = torch.nn.functional.cross_entropy(hidden @ item_embedding.T, targets, reduction="none")
    return weighted_mean(losses, weights)


def sampled_cross_entropy(
    hidden: Tensor,
    item_embedding: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    target_log_q: Tensor | None = None,
    negative_log_q: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Sampled softmax over one target and shared negatives; see the function of this name."""
    positive = (hidden * item_embedding[targets]).sum(-1, keepdim=True)
    negative = hidden @ item_embedding[negatives].T
    if target_log_q is not None:
        positive = positive - target_log_q[:, None]
    if negative_log_q is not None:
        negative = negative - negative_log_q
    negative = negative.masked_fill(targets[:, None] == negatives[None, :], -math.inf)
    losses = torch.logsumexp(torch.cat([positive, negative], dim=1), dim=1) - positive[:, 0]
    return weighted_mean(losses, weights)


def weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """``Σ w ℓ / Σ w``, or the mean where there are no weights."""
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / weights.sum()
