"""The losses' registration with torch.library, and dispatch to an implementation."""

from typing import Any

import torch
from torch import Tensor

from kernels import backend, precision
from kernels.cross_entropy.inputs import SCHEMA, Inputs


@torch.library.custom_op("kernels::next_item_losses", mutates_args=())
def next_item_losses(
    hidden: Tensor, item_embedding: Tensor, targets: Tensor, with_mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses ``(T,)``, log-sum-exp ``(T,)`` and, for backward, the mean item row ``(T, d)``."""
    with precision.autocast_off(hidden):
        lse, mean = backend.cross_entropy(hidden).forward(Inputs(hidden, item_embedding), with_mean)
        target_rows = item_embedding[targets].to(lse.dtype)
        return lse - torch.linalg.vecdot(hidden.to(lse.dtype), target_rows), lse, mean


@torch.library.custom_op(
    "kernels::log_sum_exp",
    mutates_args=(),
    schema=f"({SCHEMA}, bool with_mean) -> (Tensor, Tensor)",
)
def log_sum_exp(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Log-sum-exp over the items without the excluded one, and the mean item row."""
    *tensors, with_mean = arguments
    inputs = Inputs(*tensors)
    with precision.autocast_off(inputs.hidden):
        return backend.cross_entropy(inputs.hidden).forward(inputs, with_mean)


@torch.library.custom_op(
    "kernels::items_gradient",
    mutates_args=(),
    schema=f"(Tensor d_lse, Tensor lse, Tensor? targets, {SCHEMA}) -> Tensor",
)
def items_gradient(d_lse: Tensor, lse: Tensor, targets: Tensor | None, *tensors: Any) -> Tensor:
    """Gradient of the items; see ``cpu.items_gradient``."""
    inputs = Inputs(*tensors)
    with precision.autocast_off(inputs.hidden):
        implementation = backend.cross_entropy(inputs.hidden)
        return implementation.items_gradient(d_lse, lse, targets, inputs)


def _fake_sums(hidden: Tensor, with_mean: bool) -> tuple[Tensor, Tensor]:
    tokens, width = hidden.shape
    dtype = precision.sum_dtype(hidden.dtype)
    lse = hidden.new_empty(tokens, dtype=dtype)
    return lse, hidden.new_empty((tokens if with_mean else 0, width), dtype=dtype)


@next_item_losses.register_fake
def _(
    hidden: Tensor, item_embedding: Tensor, targets: Tensor, with_mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    lse, mean = _fake_sums(hidden, with_mean)
    return torch.empty_like(lse), lse, mean


@log_sum_exp.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    hidden, *_, with_mean = arguments
    return _fake_sums(hidden, with_mean)


@items_gradient.register_fake
def _(_d_lse: Tensor, _lse: Tensor, _targets: Tensor | None, *tensors: Any) -> Tensor:
    return torch.empty_like(Inputs(*tensors).items)


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
        d_items = items_gradient(d_losses, lse, targets, *Inputs(hidden, item_embedding))
    return d_hidden, d_items, None, None


def _log_sum_exp_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _ = inputs
    lse, mean = output
    ctx.mark_non_differentiable(mean)
    ctx.save_for_backward(*tensors, lse, mean)


def _log_sum_exp_backward(ctx: Any, d_lse: Tensor, _d_mean: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, lse, mean = ctx.saved_tensors
    inputs = Inputs(*tensors)
    d_lse = d_lse.contiguous()
    d_hidden = d_items = None
    if ctx.needs_input_grad[0]:
        d_hidden = (d_lse[:, None] * mean).to(inputs.hidden.dtype)
    if ctx.needs_input_grad[1]:
        d_items = items_gradient(d_lse, lse, None, *inputs)
    return d_hidden, d_items, None, None, None, None


next_item_losses.register_autograd(_next_item_backward, setup_context=_next_item_setup)
log_sum_exp.register_autograd(_log_sum_exp_backward, setup_context=_log_sum_exp_setup)
