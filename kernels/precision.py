"""In which precision the kernels compute: dtypes of sums, float32 products, and units of log 2.

Scores and logits are kept in units of log 2 everywhere: ``exp2`` is one instruction on a GPU, and
on a CPU ``exp`` is slow where its result is very small and ``exp2`` is not.
"""

import math

import torch
from torch import Tensor

LOG2_E = math.log2(math.e)
LN_2 = math.log(2.0)


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums, and of a log-sum-exp: float32, or float64 for float64 inputs."""
    return torch.promote_types(dtype, torch.float32)


def float32_precision(dtype: torch.dtype) -> str:
    """How Triton computes float32 products: three TF32 ones, or one if the user has asked for it.

    Asking is PyTorch's own switch, ``torch.set_float32_matmul_precision("high")``.
    """
    if dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest":
        return "tf32x3"
    return "tf32"


def autocast(*inputs: Tensor) -> tuple[Tensor, ...]:
    """An operator's inputs in autocast's dtype, where it is on."""
    device = inputs[0].device.type
    if not torch.is_autocast_enabled(device):
        return inputs
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) for x in inputs)


def autocast_off(tensor: Tensor) -> torch.autocast:
    """A context in which an implementation's own float32 products stay float32.

    Autocast has done its work when an operator's inputs are converted; left on, it would reach
    the products inside as well.
    """
    return torch.autocast(tensor.device.type, enabled=False)
