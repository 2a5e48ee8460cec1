"""Compile every tile of the table ahead of time, without a GPU, and show what it takes.

``python -m kernels.tiles.aot`` prints registers, stack and shared memory of each kernel for each
line of ``tiles.json``, and fails if any spills (a spilled register goes to the stack, so a stack of
0 bytes means none) or needs more shared memory than there is. ``--report FILE`` also writes the
table as JSON, with a digest of the sources, by which the tests know a report that is out of date.
The whole table takes about ten minutes on two cores; the options narrow it down.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels import dropout_triton, triton_shared
from kernels.attention import triton_forward, triton_gradients, triton_steps
from kernels.cross_entropy import triton_kernels as cross_entropy_kernels
from kernels.precision import float32_precision
from kernels.tiles import table as tiles
from kernels.tiles.table import Key, Tile

FUNCTIONS = {
    "forward": triton_forward.forward_kernel,
    "query_gradient": triton_gradients.query_gradient_kernel,
    "key_value_gradient": triton_gradients.key_value_gradient_kernel,
    "bias_gradient": triton_gradients.bias_gradient_kernel,
    "log_sum_exp": cross_entropy_kernels.log_sum_exp_kernel,
    "items_gradient": cross_entropy_kernels.items_gradient_kernel,
}
SOURCES = (
    dropout_triton,
    triton_shared,
    triton_steps,
    triton_forward,
    triton_gradients,
    cross_entropy_kernels,
)
# Sizes of the bias tables; they are compile-time constants.
MAX_DISTANCE, BUCKETS = 199, 32

POINTERS = {
    **dict.fromkeys(("q", "k", "v", "out", "d_out", "d_q", "d_k", "d_v"), "input"),
    **dict.fromkeys(("hidden", "items", "d_items"), "input"),
    **dict.fromkeys(("lse", "d_lse", "delta", "d_position", "d_time"), "fp32"),
    **dict.fromkeys(("position_bias", "time_bias", "offset", "maxima", "totals", "means"), "fp32"),
    **dict.fromkeys(("start", "end", "times"), "i32"),
    **dict.fromkeys(("seed", "item_ids", "excluded_ids", "targets"), "i64"),
}
# Bytes that a program may have. Consumer GPUs run the tiles of sm_80, in the 99 KiB that they have.
SHARED_LIMITS = {"sm_80": 99 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024}
INTEGERS = ("tokens", "item_count", "items_per_part", "threshold")


@dataclass(frozen=True)
class Resources:
    """What one compiled kernel takes of an SM."""

    kernel: str
    key: Key
    tile: Tile
    registers: int  # per thread
    stack_bytes: int  # per thread
    shared_bytes: int  # per program

    def fits(self) -> bool:
        """No spill, and within shared memory."""
        return not self.stack_bytes and self.shared_bytes <= SHARED_LIMITS[self.key.architecture]


def compiled(kernel: str, key: Key, tile: Tile) -> Resources:
    """Compile one kernel for one line of the table."""
    function = FUNCTIONS[kernel]
    constants = _constants(kernel, key, tile)
    signature: dict[str, str] = {}
    values: dict[tuple[int], Any] = {}
    attributes: dict[tuple[int], Any] = {}
    for index, name in enumerate(function.arg_names):
        if name in constants:
            signature[name], values[(index,)] = "constexpr", constants[name]
        elif name in POINTERS:
            element = _element(key.dtype) if POINTERS[name] == "input" else POINTERS[name]
            signature[name] = f"*{element}"
        else:
            whole = name in INTEGERS or name.endswith("stride")
            signature[name] = "i32" if whole else "fp32"
        if signature[name].startswith("*") or name.endswith("stride"):
            # What Triton finds of aligned tensors at call time.
            attributes[(index,)] = [["tt.divisibility", 16]]
    binary = triton.compile(
        ASTSource(function, signature, values, attributes),
        target=GPUTarget("cuda", int(key.architecture.removeprefix("sm_")), 32),
        options={"num_warps": tile.num_warps, "num_stages": tile.num_stages},
    )
    registers, stack = _registers_and_stack(binary.asm["cubin"])
    return Resources(kernel, key, tile, registers, stack, binary.metadata.shared)


def _element(dtype: str) -> str:
    return "fp32" if dtype == "float32" else "bf16"


def _constants(kernel: str, key: Key, tile: Tile) -> dict[str, Any]:
    dtype = torch.float32 if key.dtype == "float32" else torch.bfloat16
    absent = [] if key.dropout else ["seed"]
    absent += [] if key.bias else ["position_bias", "time_bias", "times"]
    if kernel == "query_gradient" and not key.bias:
        absent.append("d_lse")  # so that the table has it both ways
    return {
        **dict.fromkeys(absent),
        "HEADS": 2,
        "HEAD_DIM": key.block_d,
        "WIDTH": key.block_d,
        "DROPOUT": key.dropout,
        "MAX_DISTANCE": MAX_DISTANCE if key.bias else None,
        "BUCKETS": BUCKETS if key.bias else None,
        "BLOCK_BUCKETS": BUCKETS,
        "PRECISION": float32_precision(dtype),
        "HAS_D_LSE": key.bias,
        "HAS_OFFSET": True,
        "EXCLUDES": True,
        "WITH_MEAN": True,
        "HAS_TARGETS": True,
        "BLOCK_D": key.block_d,
        "BLOCK_M": tile.block_m,
        "BLOCK_N": tile.block_n,
    }


def _registers_and_stack(cubin: bytes) -> tuple[int, int]:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"cuobjdump says nothing of registers: {usage}")
    return int(found[1]), int(found[2])


def digest() -> str:
    """Identifies what a report is about: the kernels, the table and Triton's version."""
    content = hashlib.sha256(triton.__version__.encode())
    for module in SOURCES:
        content.update(Path(str(module.__file__)).read_bytes())
    content.update(tiles.TABLE.read_bytes())
    return content.hexdigest()


def _jobs(arguments: argparse.Namespace) -> Iterator[tuple[str, Key, Tile]]:
    for key, by_kernel in tiles.table().items():
        if (
            arguments.architecture in (None, key.architecture)
            and arguments.dtype in (None, key.dtype)
            and arguments.block_d in (None, key.block_d)
        ):
            for kernel, tile in by_kernel.items():
                if arguments.kernel in (None, kernel):
                    yield kernel, key, tile


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m kernels.tiles.aot",
        description="Compile the table of tiles without a GPU; fail if a kernel spills registers.",
    )
    parser.add_argument("--architecture", choices=tiles.ARCHITECTURES, help="only this one")
    parser.add_argument("--dtype", choices=("float32", "half"), help="only this one")
    parser.add_argument("--block-d", type=int, help="only this padded head dimension")
    parser.add_argument("--kernel", choices=FUNCTIONS, help="only this one")
    parser.add_argument("--processes", type=int, default=2, help="compilers at a time (default 2)")
    parser.add_argument("--report", type=Path, help="write the table to this JSON file too")
    arguments = parser.parse_args()

    jobs = list(_jobs(arguments))
    rows: list[Resources] = []
    numbers = f"{'registers':>10}{'stack':>7}{'shared':>9}"
    print(f"{'kernel':20}{'line of the table':38}{'tile':16}{numbers}")
    with ProcessPoolExecutor(arguments.processes) as pool:
        for row in pool.map(compiled, *zip(*jobs, strict=True)):
            rows.append(row)
            key, tile = row.key, row.tile
            flags = ("dropout " if key.dropout else "") + ("bias" if key.bias else "")
            line = f"{key.architecture} {key.dtype} {key.block_d} {flags}"
            size = f"{tile.block_m}x{tile.block_n} {tile.num_warps}w {tile.num_stages}s"
            numbers = f"{row.registers:10}{row.stack_bytes:7}{row.shared_bytes:9}"
            print(f"{row.kernel:20}{line:38}{size:16}{numbers}", flush=True)
    if arguments.report:
        lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
        text = (
            f'{{"digest": "{digest()}", "triton": "{triton.__version__}", "rows": [\n{lines}\n]}}\n'
        )
        arguments.report.write_text(text)
    misfits = sum(not row.fits() for row in rows)
    print(f"{len(rows)} kernels, {misfits} that spill registers or exceed shared memory")
    sys.exit(1 if misfits else 0)


if __name__ == "__main__":
    main()
