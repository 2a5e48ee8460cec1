"""Softmax over a large catalogue on the CPU, in blocks that stay in cache.

A block of tokens meets the catalogue a block of items at a time; the log-sum-exp and the
softmax-weighted mean of the item rows are rescaled as the maximum grows (M. Milakov and
N. Gimelshein, "Online normalizer calculation for softmax", 2018). Memory beyond the gradients is
one block of logits. Powers are of 2: ``torch.exp`` is slow where its result is very small,
``torch.exp2`` is not. The logits themselves stay as they are, so that the loss of a sure token is
the difference of two equal numbers.
"""

import math

import torch
from torch import Tensor

from kernels.cross_entropy.inputs import Inputs
from kernels.precision import LOG2_E, sum_dtype

# 1 MiB of float32 logits: half of a core's L2. Chosen by measurement (docs/kernel.md).
_BLOCK_TOKENS = 256
_BLOCK_ITEMS = 1024


def forward(inputs: Inputs, with_mean: bool) -> tuple[Tensor, Tensor]:
    """Log-sum-exp over the items, and with ``with_mean`` its gradient in ``hidden``.

    Returns:
        ``lse (T,)`` and ``mean (T, d)`` = Σ_n softmax_n · item_n (empty if not asked for), both
        float32, or float64 for float64 inputs.
    """
    hidden, items = inputs.hidden, inputs.items
    tokens, width = hidden.shape
    dtype = sum_dtype(hidden.dtype)
    lse = hidden.new_empty(tokens, dtype=dtype)
    mean = hidden.new_empty((tokens if with_mean else 0, width), dtype=dtype)
    for at in _slices(tokens, _BLOCK_TOKENS):
        h = hidden[at].to(dtype)
        maximum = h.new_full((h.shape[0], 1), -math.inf)
        total = torch.zeros_like(maximum)
        weighted = torch.zeros_like(h)
        for item_at in _slices(items.shape[0], _BLOCK_ITEMS):
            rows = items[item_at].to(dtype)
            logits = _logits(h, rows, at, item_at, inputs)
            new_maximum = torch.maximum(maximum, logits.amax(1, keepdim=True))
            shift = _finite(new_maximum)
            rescale = (maximum - shift).mul_(LOG2_E).exp2_()
            _exponentiate(logits, shift)
            total.mul_(rescale).add_(logits.sum(1, keepdim=True))
            if with_mean:
                weighted.mul_(rescale).addmm_(logits, rows)
            maximum = new_maximum
        lse[at] = (maximum + total.log()).squeeze(1)
        if with_mean:
            mean[at] = weighted / total.clamp_min(torch.finfo(dtype).tiny)
    return lse, mean


def items_gradient(d_lse: Tensor, lse: Tensor, targets: Tensor | None, inputs: Inputs) -> Tensor:
    """Gradient ``(N, d)`` of ``Σ_t d_lse[t] · (lse[t] - logit[t, target])`` in the items.

    Without ``targets`` the second term is absent.
    """
    hidden, items = inputs.hidden, inputs.items
    dtype = lse.dtype
    gradient = torch.empty_like(items, dtype=dtype)
    shift = _finite(lse)[:, None]
    for item_at in _slices(items.shape[0], _BLOCK_ITEMS):
        rows = items[item_at].to(dtype)
        total = torch.zeros_like(rows)
        for at in _slices(hidden.shape[0], _BLOCK_TOKENS):
            h = hidden[at].to(dtype)
            logits = _logits(h, rows, at, item_at, inputs)
            _exponentiate(logits, shift[at])
            total.addmm_(logits.T, h * d_lse[at, None])
        gradient[item_at] = total
    if targets is not None:
        # Unlike index_add_, in a fixed order on a GPU.
        push = hidden.to(dtype) * -d_lse[:, None]
        gradient.index_put_((targets,), push, accumulate=True)
    return gradient.to(items.dtype)


def _slices(size: int, block: int) -> list[slice]:
    return [slice(first, min(first + block, size)) for first in range(0, size, block)]


def _finite(shift: Tensor) -> Tensor:
    """0 where a token has no item left, so that ``-inf - shift`` is not a NaN."""
    return torch.where(shift == -math.inf, 0.0, shift)


def _exponentiate(logits: Tensor, shift: Tensor) -> None:
    """exp(logits - shift), in place."""
    logits.sub_(shift).mul_(LOG2_E).exp2_()


def _logits(hidden: Tensor, rows: Tensor, at: slice, item_at: slice, inputs: Inputs) -> Tensor:
    _, _, offset, item_ids, excluded_ids = inputs
    logits = hidden @ rows.T
    if offset is not None:
        logits += offset[item_at].to(logits.dtype)
    if item_ids is not None and excluded_ids is not None:
        logits.masked_fill_(excluded_ids[at, None] == item_ids[None, item_at], -math.inf)
    return logits
