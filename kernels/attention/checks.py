"""Checks of the attention's arguments; how errors read: ``kernels/checks.py``."""

import torch
from torch import Tensor

from kernels import checks
from kernels.attention.inputs import Inputs
from kernels.attention.limits import HEAD_DIM_MAX, HEAD_DIM_MIN
from kernels.checks import require


def check_inputs(inputs: Inputs) -> None:
    """What shapes, dtypes, devices and numbers show.

    Raises:
        ValueError: one of them is wrong.
    """
    q, k, v, cu_seqlens, _, position_bias, time_bias, timestamps, dropout_p, _ = inputs
    require(q.dim() == 3, "q", "shape (tokens, heads, head_dim)", tuple(q.shape))
    checks.check_float_dtype(q, "q")
    tokens, heads, head_dim = q.shape
    require(
        HEAD_DIM_MIN <= head_dim <= HEAD_DIM_MAX,
        "q",
        f"a head dimension from {HEAD_DIM_MIN} to {HEAD_DIM_MAX}",
        head_dim,
    )
    require(heads >= 1, "q", "at least one head", heads)
    for name, tensor in (("k", k), ("v", v)):
        shape = tuple(q.shape)
        require(tensor.shape == q.shape, name, "q's shape {}", tuple(tensor.shape), shape)
        checks.check_same(tensor, q, name, "q")
    require(cu_seqlens.dtype == torch.int32, "cu_seqlens", "int32", cu_seqlens.dtype)
    require(
        cu_seqlens.dim() == 1 and cu_seqlens.numel() >= 1,
        "cu_seqlens",
        "shape (batch + 1,)",
        tuple(cu_seqlens.shape),
    )
    checks.check_device(cu_seqlens, q, "cu_seqlens", "q")
    require(0.0 <= dropout_p < 1.0, "dropout_p", "a probability in [0, 1)", dropout_p)
    for name, table in (("position_bias", position_bias), ("time_bias", time_bias)):
        if table is not None:
            require(
                table.dim() == 2 and table.shape[0] == heads and table.shape[1] >= 1,
                name,
                f"shape ({heads} heads, at least 1)",
                tuple(table.shape),
            )
            checks.check_float_dtype(table, name)
            checks.check_device(table, q, name, "q")
    require(
        (time_bias is None) == (timestamps is None),
        "timestamps",
        "timestamps exactly when there is a time_bias",
        f"timestamps {'missing' if timestamps is None else 'alone'}",
    )
    if timestamps is not None:
        require(timestamps.dtype == torch.int64, "timestamps", "int64", timestamps.dtype)
        require(
            timestamps.shape == (tokens,),
            "timestamps",
            "shape ({},)",
            tuple(timestamps.shape),
            tokens,
        )
        checks.check_device(timestamps, q, "timestamps", "q")


def check_contents(inputs: Inputs) -> None:
    """What only the values show, where they are looked at.

    Raises:
        ValueError: ``cu_seqlens`` or ``timestamps`` are no such.
    """
    if not checks.contents_are_checked(inputs.cu_seqlens.device):
        return
    _check_cu_seqlens(inputs.cu_seqlens, inputs.q.shape[0])
    if inputs.timestamps is not None:
        _check_timestamps(inputs.timestamps, inputs.cu_seqlens)


def _check_cu_seqlens(cu_seqlens: Tensor, tokens: int) -> None:
    """Starts at 0, never decreases, ends at the number of tokens."""
    first, last = int(cu_seqlens[0]), int(cu_seqlens[-1])
    require(first == 0, "cu_seqlens", "a first value of 0", first)
    smallest = int(cu_seqlens.diff().min()) if cu_seqlens.numel() > 1 else 0
    require(smallest >= 0, "cu_seqlens", "values that never decrease", f"a step of {smallest}")
    require(last == tokens, "cu_seqlens", f"a last value of {tokens} (the rows of q)", last)


def _check_timestamps(timestamps: Tensor, cu_seqlens: Tensor) -> None:
    """Never decreasing within a sequence."""
    steps = timestamps.diff()
    borders = cu_seqlens.long() - 1
    steps[borders[(borders >= 0) & (borders < steps.numel())]] = 0
    smallest = int(steps.min()) if steps.numel() else 0
    expected = "seconds that do not decrease within a sequence"
    require(smallest >= 0, "timestamps", expected, f"a step of {smallest}")
