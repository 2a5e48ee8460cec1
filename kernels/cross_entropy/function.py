"""Next-item losses over a large catalogue, in memory linear in tokens + items.

Both losses are a log-sum-exp over items, and its gradient in a hidden state is the
softmax-weighted mean of the item rows: attention of the hidden states over the catalogue as keys
and values. One pass over the catalogue yields both; a second pass, in backward, yields the
gradient of the items from recomputed logits. The idea of never holding the logits is that of
E. Wijmans et al., "Cut your losses in large-vocabulary language models", 2024.
"""

import torch
from torch import Tensor
from torch.nn import functional

from kernels import precision
from kernels.cross_entropy.checks import Reduction, check_ids, check_inputs, check_vector
from kernels.cross_entropy.operators import log_sum_exp, next_item_losses


def next_item_cross_entropy(
    hidden: Tensor,
    item_embedding: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Softmax cross-entropy over the whole catalogue, without the (tokens × items) logits.

    ``loss_t = log Σ_n exp(h_t·e_n) - h_t·e_target(t)``, the categorical cross-entropy over all
    items (for SASRec: A. Klenitskiy and A. Vasilev, "Turning dross into gold loss", RecSys 2023,
    section 3.3). Differentiable in ``hidden``, ``item_embedding`` and ``weights``. A row that is
    no item (padding) is left out by passing a slice of the table and shifted targets; a
    temperature by dividing ``hidden`` by it.

    Args:
        hidden: ``(T, d)``, float32, bfloat16 or float16; on the CPU float64 too. Under autocast,
            ``hidden`` and ``item_embedding`` are converted to its dtype.
        item_embedding: ``(N, d)``, same dtype.
        targets: int64 ``(T,)``, rows of ``item_embedding``.
        weights: ``(T,)`` weight of each token, such as an inverse propensity.
        reduction: ``"mean"`` is Σ w ℓ / Σ w (w = 1 if not given), ``"sum"`` is Σ w ℓ, ``"none"``
            is w ℓ for each token.

    Returns:
        The loss, float32 (float64 for float64 inputs): a scalar, or ``(T,)`` for ``"none"``.

    Raises:
        ValueError: an argument has the wrong shape, dtype, device or range. The range of
            ``targets`` is checked on the CPU, and on a GPU if the environment variable
            ``KERNELS_DEBUG`` is 1.
    """
    hidden, item_embedding = precision.autocast(hidden, item_embedding)
    check_inputs(hidden, item_embedding, targets, weights, reduction)
    with_mean = torch.is_grad_enabled() and hidden.requires_grad
    losses, _, _ = next_item_losses(hidden, item_embedding, targets, with_mean)
    return _reduce(losses, weights, reduction)


def sampled_cross_entropy(
    hidden: Tensor,
    item_embedding: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    target_log_q: Tensor | None = None,
    negative_log_q: Tensor | None = None,
    weights: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Softmax cross-entropy over the target and negatives shared by all tokens.

    ``loss_t = log(exp(s_t) + Σ_m exp(s_tm)) - s_t`` with ``s_t = h_t·e_target - log q(target)``
    and ``s_tm = h_t·e_m - log q(m)``: sampled softmax with the logQ correction (Y. Bengio and
    J.-S. Senécal, 2008; X. Yi et al., "Sampling-bias-corrected neural modeling for large corpus
    item recommendations", RecSys 2019, section 4). A negative that is a token's own target (an
    accidental hit) does not count for that token. Memory is linear in tokens + negatives, besides
    the gradient of ``item_embedding``.

    Args:
        hidden: ``(T, d)``, as for :func:`next_item_cross_entropy`.
        item_embedding: ``(N, d)``, same dtype.
        targets: int64 ``(T,)``, rows of ``item_embedding``.
        negatives: int64 ``(S,)``, rows of ``item_embedding``; repetitions count as often as
            they occur.
        target_log_q: ``(T,)`` log probability with which each target is sampled as a negative.
        negative_log_q: ``(S,)`` log probability with which each negative is sampled. No gradient
            flows into either.
        weights: as for :func:`next_item_cross_entropy`.
        reduction: as for :func:`next_item_cross_entropy`.

    Returns:
        As :func:`next_item_cross_entropy`.

    Raises:
        ValueError: as :func:`next_item_cross_entropy`.
    """
    hidden, item_embedding = precision.autocast(hidden, item_embedding)
    check_inputs(hidden, item_embedding, targets, weights, reduction)
    tokens = targets.shape[0]
    check_ids(negatives, "negatives", (negatives.numel(),), item_embedding)
    for name, log_q, size in (
        ("target_log_q", target_log_q, tokens),
        ("negative_log_q", negative_log_q, negatives.numel()),
    ):
        if log_q is not None:
            check_vector(log_q, name, size, hidden)

    # One look-up, so that backward builds one gradient of the table's size and not two.
    rows = functional.embedding(torch.cat([targets, negatives]), item_embedding)
    dtype = precision.sum_dtype(hidden.dtype)
    with precision.autocast_off(hidden):
        positive = torch.linalg.vecdot(hidden.to(dtype), rows[:tokens].to(dtype))
    if target_log_q is not None:
        positive = positive - target_log_q.detach()
    offset = None if negative_log_q is None else -negative_log_q.detach()
    with_mean = torch.is_grad_enabled() and hidden.requires_grad
    lse, _ = log_sum_exp(hidden, rows[tokens:], offset, negatives, targets, with_mean)
    return _reduce(functional.softplus(lse - positive, threshold=40.0), weights, reduction)


def _reduce(losses: Tensor, weights: Tensor | None, reduction: Reduction) -> Tensor:
    weighted = losses if weights is None else losses * weights.to(losses.dtype)
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    return weighted.mean() if weights is None else weighted.sum() / weights.sum()
