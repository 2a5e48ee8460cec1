"""Dropout (Srivastava et al. 2014) from one random byte per unit.

On a CPU torch's own draws a Bernoulli variable per unit, and that was a tenth of a training step;
a byte each costs a quarter as much. The rate is rounded to 1/256 and the survivors are scaled by
what it was rounded to, so the mean is exact.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 256


class Dropout(nn.Module):
    """Drops units in training.

    Args:
        p: rate in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.dropped = min(round(p * LEVELS), LEVELS - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and dtype."""
        if not self.training or self.dropped == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        words = torch.empty(x.numel() // 8 + 1, dtype=torch.int64)
        words.random_(-(2**63), 2**63 - 1)
        bytes_ = words.view(torch.uint8)[: x.numel()].view(x.shape)
        keep = (bytes_ >= self.dropped).to(x.dtype)
        return x * keep.mul_(LEVELS / (LEVELS - self.dropped))
