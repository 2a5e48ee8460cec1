"""Which implementation a call runs on: Triton on CUDA, blocked torch on the CPU.

A loss whose rows are too wide for a Triton tile runs in blocked torch on the GPU as well.

With ``TRITON_INTERPRET=1`` CPU tensors go to the Triton kernels as well, interpreted: that is how
the tests run them without a GPU.
"""

import os
from types import ModuleType

import torch
from torch import Tensor

from kernels.attention import cpu as attention_cpu
from kernels.cross_entropy import cpu as cross_entropy_cpu

attention_triton: ModuleType | None
cross_entropy_triton: ModuleType | None
try:
    from kernels.attention import triton_launch as attention_triton
    from kernels.cross_entropy import triton_launch as cross_entropy_triton
except ImportError:  # no Triton on this platform
    attention_triton = cross_entropy_triton = None


def _choose(device: torch.device, triton: ModuleType | None, cpu: ModuleType) -> ModuleType:
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device.type == "cpu" and not (interpreted and triton is not None):
        return cpu
    if triton is None or device.type not in ("cpu", "cuda"):
        raise NotImplementedError(f"no kernels for {device}: CUDA needs Triton, others are unknown")
    return triton


def attention(device: torch.device) -> ModuleType:
    """The module with the attention's ``forward`` and ``backward``."""
    return _choose(device, attention_triton, attention_cpu)


def cross_entropy(hidden: Tensor) -> ModuleType:
    """The module with the losses' ``forward`` and ``items_gradient``."""
    chosen = _choose(hidden.device, cross_entropy_triton, cross_entropy_cpu)
    if chosen is cross_entropy_triton and not chosen.fits(hidden):
        return cross_entropy_cpu
    return chosen
