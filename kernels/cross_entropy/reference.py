"""The losses as plain formulas: what the kernels compute, with no regard for speed.

Every logit is held, and the gradients are left to autograd. The tests hold every implementation
against them; nothing else should call them.
"""

import math

import torch
from torch import Tensor


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
