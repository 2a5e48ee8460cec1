"""The arguments of one call of the attention, as one record."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional


class Inputs(NamedTuple):
    """What the operators and every implementation take, in this order.

    Shapes and meanings: :func:`kernels.jagged_causal_attention`.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    cu_seqlens: Tensor
    seed: Tensor | None  # int64, one element; None for no dropout
    position_bias: Tensor | None
    time_bias: Tensor | None
    timestamps: Tensor | None
    dropout_p: float
    scale: float


# The same arguments in the language of torch.library.
SCHEMA = (
    "Tensor q, Tensor k, Tensor v, Tensor cu_seqlens, Tensor? seed, Tensor? position_bias, "
    "Tensor? time_bias, Tensor? timestamps, float dropout_p, float scale"
)


def cu_seqlens(lengths: Tensor) -> Tensor:
    """Cumulative lengths ``(B + 1,)``, int32, of sequences of these lengths ``(B,)``."""
    return functional.pad(lengths.cumsum(0), (1, 0)).int()
