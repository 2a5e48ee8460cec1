"""Checks of the losses' arguments; how errors read: ``kernels/checks.py``."""

from typing import Literal

import torch
from torch import Tensor

from kernels import checks
from kernels.checks import require

Reduction = Literal["mean", "sum", "none"]


def check_inputs(
    hidden: Tensor,
    item_embedding: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    reduction: Reduction,
) -> None:
    """What both losses take.

    Raises:
        ValueError: an argument has the wrong shape, dtype, device or range.
    """
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
    check_ids(targets, "targets", (hidden.shape[0],), item_embedding)
    if weights is not None:
        check_vector(weights, "weights", hidden.shape[0], hidden)
    require(reduction in ("mean", "sum", "none"), "reduction", "'mean', 'sum' or 'none'", reduction)


def check_ids(ids: Tensor, name: str, shape: tuple[int, ...], item_embedding: Tensor) -> None:
    """Rows of the table, as many as ``shape`` says."""
    require(ids.dtype == torch.int64, name, "int64", ids.dtype)
    require(tuple(ids.shape) == shape, name, "shape {}", tuple(ids.shape), shape)
    checks.check_device(ids, item_embedding, name, "item_embedding")
    if not torch.compiler.is_compiling():  # values would end the graph
        checks.check_ids_contents(ids, name, item_embedding.shape[0])


def check_vector(vector: Tensor, name: str, size: int, hidden: Tensor) -> None:
    """One number for each of ``size``."""
    require(vector.is_floating_point(), name, "a floating-point tensor", vector.dtype)
    require(vector.shape == (size,), name, "shape ({},)", tuple(vector.shape), size)
    checks.check_device(vector, hidden, name, "hidden")
