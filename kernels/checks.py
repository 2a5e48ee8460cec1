"""Argument checks: a ``ValueError`` that names the argument and says what was expected.

What the metadata shows (shapes, dtypes, devices) is always checked. What only the contents show
would make the host wait for a GPU, so it is checked on the CPU, and on a GPU when the environment
variable ``KERNELS_DEBUG`` is 1.
"""

import os

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def contents_are_checked(device: torch.device) -> bool:
    """Whether to look at values on this device, at the price of a synchronisation."""
    return device.type == "cpu" or os.environ.get("KERNELS_DEBUG") == "1"


def require(condition: bool, argument: str, expected: str, got: object, *values: object) -> None:
    """Raise a ``ValueError`` about ``argument`` unless the condition holds.

    ``values`` fill the ``{}`` of ``expected``. A size goes there: in an f-string, it would be
    formatted before the check, and ``torch.compile`` would compile anew for every size.
    """
    if not condition:
        raise ValueError(f"{argument}: expected {expected.format(*values)}, got {got}")


def check_float_dtype(tensor: Tensor, argument: str) -> None:
    """float32, bfloat16 or float16; float64 on the CPU only."""
    allowed = FLOAT_DTYPES + ((torch.float64,) if tensor.device.type == "cpu" else ())
    names = ", ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
    require(tensor.dtype in allowed, argument, f"one of {names}", tensor.dtype)


def check_same(tensor: Tensor, other: Tensor, argument: str, other_argument: str) -> None:
    """Same dtype and device as another argument."""
    require(
        tensor.dtype == other.dtype,
        argument,
        f"{other_argument}'s dtype {other.dtype}",
        tensor.dtype,
    )
    check_device(tensor, other, argument, other_argument)


def check_device(tensor: Tensor, other: Tensor, argument: str, other_argument: str) -> None:
    """Same device as another argument."""
    expected = f"{other_argument}'s device {other.device}"
    require(tensor.device == other.device, argument, expected, tensor.device)


def check_ids_contents(ids: Tensor, argument: str, rows: int) -> None:
    """Every id is a row of a table with this many rows."""
    if ids.numel() and contents_are_checked(ids.device):
        smallest, largest = int(ids.min()), int(ids.max())
        got = f"values from {smallest} to {largest}"
        require(smallest >= 0 and largest < rows, argument, "rows from 0 to {}", got, rows - 1)
