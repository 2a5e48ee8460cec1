"""Next-item losses over a large catalogue, in memory linear in tokens + items.

Both losses are a log-sum-exp over items, and its gradient in a hidden state is the
softmax-weighted mean of the item rows: attention of the hidden states over the catalogue as keys
and values. One pass over the catalogue yields both; a second pass, in backward, yields the
gradient of the items from recomputed logits. The idea of never holding the logits is that of
E. Wijmans et al., "Cut your losses in large-vocabulary language models", 2024.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from kernels import backend, checks
from kernels.checks import require

Reduction = Literal["mean", "sum", "none"]


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
    hidden, item_embedding = _autocast(hidden, item_embedding)
    _check(hidden, item_embedding, targets, weights, reduction)
    with_mean = torch.is_grad_enabled() and hidden.requires_grad
    losses, _, _ = _next_item_losses(hidden, item_embedding, targets, with_mean)
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
    hidden, item_embedding = _autocast(hidden, item_embedding)
    _check(hidden, item_embedding, targets, weights, reduction)
    tokens = targets.shape[0]
    _check_ids(negatives, "negatives", (negatives.numel(),), item_embedding)
    for name, log_q, size in (
        ("target_log_q", target_log_q, tokens),
        ("negative_log_q", negative_log_q, negatives.numel()),
    ):
        if log_q is not None:
            _check_vector(log_q, name, size, hidden)

    # One look-up, so that backward builds one gradient of the table's size and not two.
    rows = functional.embedding(torch.cat([targets, negatives]), item_embedding)
    with backend.autocast_off(hidden):
        positive = torch.linalg.vecdot(
            hidden.to(_sum_dtype(hidden)), rows[:tokens].to(_sum_dtype(hidden))
        )
    if target_log_q is not None:
        positive = positive - target_log_q.detach()
    offset = None if negative_log_q is None else -negative_log_q.detach()
    with_mean = torch.is_grad_enabled() and hidden.requires_grad
    lse, _ = _log_sum_exp(hidden, rows[tokens:], offset, negatives, targets, with_mean)
    return _reduce(functional.softplus(lse - positive, threshold=40.0), weights, reduction)


def _autocast(hidden: Tensor, item_embedding: Tensor) -> tuple[Tensor, Tensor]:
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        return hidden.to(dtype), item_embedding.to(dtype)
    return hidden, item_embedding


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _reduce(losses: Tensor, weights: Tensor | None, reduction: Reduction) -> Tensor:
    weighted = losses if weights is None else losses * weights.to(losses.dtype)
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    return weighted.mean() if weights is None else weighted.sum() / weights.sum()


def _check(
    hidden: Tensor,
    item_embedding: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    reduction: Reduction,
) -> None:
    require(hidden.dim() == 2, "hidden", "shape (tokens, width)", tuple(hidden.shape))
    checks.check_float_dtype(hidden, "hidden")
    require(
        item_embedding.dim() == 2
        and item_embedding.shape[0] >= 1
        and item_embedding.shape[1] == hidden.shape[1],
        "item_embedding",
        "shape (at least 1, {})",
        tuple(item_embedding.shape),
        hidden.shape[1],
    )
    checks.check_same(item_embedding, hidden, "item_embedding", "hidden")
    _check_ids(targets, "targets", (hidden.shape[0],), item_embedding)
    if weights is not None:
        _check_vector(weights, "weights", hidden.shape[0], hidden)
    require(reduction in ("mean", "sum", "none"), "reduction", "'mean', 'sum' or 'none'", reduction)


def _check_ids(ids: Tensor, name: str, shape: tuple[int, ...], item_embedding: Tensor) -> None:
    require(ids.dtype == torch.int64, name, "int64", ids.dtype)
    require(tuple(ids.shape) == shape, name, "shape {}", tuple(ids.shape), shape)
    checks.check_device(ids, item_embedding, name, "item_embedding")
    if not torch.compiler.is_compiling():  # values would end the graph
        checks.check_ids_contents(ids, name, item_embedding.shape[0])


def _check_vector(vector: Tensor, name: str, size: int, hidden: Tensor) -> None:
    require(vector.is_floating_point(), name, "a floating-point tensor", vector.dtype)
    require(vector.shape == (size,), name, "shape ({},)", tuple(vector.shape), size)
    checks.check_device(vector, hidden, name, "hidden")


@torch.library.custom_op("kernels::next_item_losses", mutates_args=())
def _next_item_losses(
    hidden: Tensor, item_embedding: Tensor, targets: Tensor, with_mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses ``(T,)``, log-sum-exp ``(T,)`` and, for backward, the mean item row ``(T, d)``."""
    with backend.autocast_off(hidden):
        lse, mean = backend.cross_entropy(hidden).forward(
            hidden, item_embedding, None, None, None, with_mean
        )
        target_rows = item_embedding[targets].to(lse.dtype)
        return lse - torch.linalg.vecdot(hidden.to(lse.dtype), target_rows), lse, mean


@torch.library.custom_op("kernels::log_sum_exp", mutates_args=())
def _log_sum_exp(
    hidden: Tensor,
    items: Tensor,
    offset: Tensor | None,
    item_ids: Tensor,
    excluded_ids: Tensor,
    with_mean: bool,
) -> tuple[Tensor, Tensor]:
    """Log-sum-exp over the items without the excluded one, and the mean item row."""
    with backend.autocast_off(hidden):
        return backend.cross_entropy(hidden).forward(
            hidden, items, offset, item_ids, excluded_ids, with_mean
        )


@torch.library.custom_op("kernels::items_gradient", mutates_args=())
def _items_gradient(
    d_lse: Tensor,
    hidden: Tensor,
    items: Tensor,
    offset: Tensor | None,
    item_ids: Tensor | None,
    excluded_ids: Tensor | None,
    lse: Tensor,
    targets: Tensor | None,
) -> Tensor:
    with backend.autocast_off(hidden):
        return backend.cross_entropy(hidden).items_gradient(
            d_lse, hidden, items, offset, item_ids, excluded_ids, lse, targets
        )


def _fake_sums(hidden: Tensor, with_mean: bool) -> tuple[Tensor, Tensor]:
    tokens, width = hidden.shape
    dtype = _sum_dtype(hidden)
    lse = hidden.new_empty(tokens, dtype=dtype)
    return lse, hidden.new_empty((tokens if with_mean else 0, width), dtype=dtype)


@_next_item_losses.register_fake
def _(
    hidden: Tensor, item_embedding: Tensor, targets: Tensor, with_mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    lse, mean = _fake_sums(hidden, with_mean)
    return torch.empty_like(lse), lse, mean


@_log_sum_exp.register_fake
def _(
    hidden: Tensor,
    items: Tensor,
    offset: Tensor | None,
    item_ids: Tensor,
    excluded_ids: Tensor,
    with_mean: bool,
) -> tuple[Tensor, Tensor]:
    return _fake_sums(hidden, with_mean)


@_items_gradient.register_fake
def _(d_lse: Tensor, hidden: Tensor, items: Tensor, *_rest: object) -> Tensor:
    return torch.empty_like(items)


def _next_item_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    hidden, item_embedding, targets, _ = inputs
    _, lse, mean = output
    ctx.mark_non_differentiable(lse, mean)
    ctx.save_for_backward(hidden, item_embedding, targets, lse, mean)


def _next_item_backward(
    ctx: Any, d_losses: Tensor, _d_lse: Tensor, _d_mean: Tensor
) -> tuple[Tensor | None, ...]:
    hidden, item_embedding, targets, lse, mean = ctx.saved_tensors
    d_losses = d_losses.contiguous()
    d_hidden = d_items = None
    if ctx.needs_input_grad[0]:
        pull = mean - item_embedding[targets]
        d_hidden = (d_losses[:, None] * pull).to(hidden.dtype)
    if ctx.needs_input_grad[1]:
        d_items = _items_gradient(d_losses, hidden, item_embedding, None, None, None, lse, targets)
    return d_hidden, d_items, None, None


def _log_sum_exp_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _ = inputs
    lse, mean = output
    ctx.mark_non_differentiable(mean)
    ctx.save_for_backward(*tensors, lse, mean)


def _log_sum_exp_backward(ctx: Any, d_lse: Tensor, _d_mean: Tensor) -> tuple[Tensor | None, ...]:
    hidden, items, offset, item_ids, excluded_ids, lse, mean = ctx.saved_tensors
    d_lse = d_lse.contiguous()
    d_hidden = d_items = None
    if ctx.needs_input_grad[0]:
        d_hidden = (d_lse[:, None] * mean).to(hidden.dtype)
    if ctx.needs_input_grad[1]:
        d_items = _items_gradient(d_lse, hidden, items, offset, item_ids, excluded_ids, lse, None)
    return d_hidden, d_items, None, None, None, None


_next_item_losses.register_autograd(_next_item_backward, setup_context=_next_item_setup)
_log_sum_exp.register_autograd(_log_sum_exp_backward, setup_context=_log_sum_exp_setup)
