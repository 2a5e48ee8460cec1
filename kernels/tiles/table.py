"""The tile of each kernel, from a checked-in table: nothing is tuned at call time.

``tiles.json`` has one line for each (architecture, dtype, padded head dimension, dropout, bias),
with ``[BLOCK_M, BLOCK_N, warps, stages]`` for each kernel. ``python -m kernels.tiles.refresh``
measures it anew on a GPU; ``python -m kernels.tiles.aot`` compiles every line of it without one.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

TABLE = Path(__file__).with_name("tiles.json")
KERNELS = (
    "forward",
    "query_gradient",
    "key_value_gradient",
    "bias_gradient",
    "log_sum_exp",
    "items_gradient",
)
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


@dataclass(frozen=True)
class Key:
    """What a line of the table is for."""

    architecture: str
    dtype: str  # "float32", or "half" for bfloat16 and float16
    block_d: int
    dropout: bool
    bias: bool


@dataclass(frozen=True)
class Tile:
    """How a kernel is cut up: rows and columns of a tile, warps, stages of the load pipeline."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


# In the interpreter tiles are small, so that small inputs cross many borders.
_INTERPRETER_TILE = Tile(16, 16, 1, 1)


@cache
def table() -> dict[Key, dict[str, Tile]]:
    """The checked-in table."""
    lines = json.loads(TABLE.read_text())
    return {
        Key(*(line[name] for name in ("architecture", "dtype", "block_d", "dropout", "bias"))): {
            kernel: Tile(*line[kernel]) for kernel in KERNELS if kernel in line
        }
        for line in lines
    }


def block_d(head_dim: int) -> int:
    """The head dimension padded to that of a tile."""
    return max(32, 1 << (head_dim - 1).bit_length())


def architecture(device: torch.device) -> str:
    """The table's architecture for a GPU: the newest one that it is not older than.

    Consumer GPUs (compute capability 8.6, 8.9 and 12) have the shared memory of none of them, but
    the tiles of sm_80 fit.
    """
    major, _ = torch.cuda.get_device_capability(device)
    return {9: "sm_90", 10: "sm_100"}.get(major, "sm_80")


def tiles_for(
    device: torch.device, dtype: torch.dtype, head_dim: int, *, dropout: bool, bias: bool
) -> dict[str, Tile]:
    """The tile of each kernel for a call.

    Raises:
        NotImplementedError: nothing fits this GPU's registers: float32 heads wider than 64 with a
            relative bias, on sm_100.
    """
    if device.type == "cpu":
        return dict.fromkeys(KERNELS, _INTERPRETER_TILE)
    dtype_name = "float32" if dtype == torch.float32 else "half"
    key = Key(architecture(device), dtype_name, block_d(head_dim), dropout, bias)
    if key not in table():
        raise NotImplementedError(f"no tile fits {key}; take bfloat16 or narrower heads")
    return table()[key]
