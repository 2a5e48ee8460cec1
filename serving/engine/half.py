"""Products with the whole catalogue at half the memory traffic, and how wrong they can be.

Reading the items' embeddings is what scoring a large catalogue costs. A copy in half precision is
half of that, and more of it stays in the cache; products are summed in single precision.

The bound: a number rounds to 11 significant bits, so each weight is off by at most a share of
2^-11 (or by 2^-25, where it is too small to have them all), and with the inequality of Cauchy and
Schwarz a product w·h is off by at most 2^-11 |w| |h| + 2^-25 sqrt(dim) |h|. What summing in another
order adds is at most dim 2^-23 |w| |h|.
"""

import numpy as np
import torch
from torch import Tensor

LEAST_ITEMS = 20_000
"""From which on it pays: a smaller matrix is in the cache as it is."""

LARGEST = 65_504.0
"""Of half precision."""


class HalfMatrix:
    """A copy of (V + 1, dim) float32 output embeddings, for products alone.

    Args:
        matrix: with entries of at most `LARGEST` by magnitude.
    """

    def __init__(self, matrix: Tensor) -> None:
        self._packed = torch.ops.quantized.linear_prepack_fp16(matrix, None)
        dim = matrix.shape[1]
        longest = float(torch.linalg.vector_norm(matrix, dim=1).max())
        self._error = (2.0**-11 + dim * 2.0**-23) * longest + 2.0**-25 * dim**0.5

    @classmethod
    def of(cls, matrix: Tensor) -> "HalfMatrix | None":
        """Of a matrix that is large enough to gain by it, and small enough in its entries."""
        if len(matrix) <= LEAST_ITEMS or float(matrix.abs().max()) > LARGEST:
            return None
        return cls(matrix)

    def score(self, hidden: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Products (B, V + 1) float32 with (B, dim) `hidden`, and (B,) how far off each may be."""
        with torch.inference_mode():
            products = torch.ops.quantized.linear_dynamic_fp16(hidden, self._packed)
            bounds = self._error * torch.linalg.vector_norm(hidden, dim=1)
        return products.numpy(), bounds.numpy()
