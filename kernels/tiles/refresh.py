"""Make the table of tiles anew.

``python -m kernels.tiles.refresh`` times every candidate on the GPU at hand and replaces the lines
of its architecture in ``tiles.json``, or those of them that the options name. ``--without-gpu``
replaces lines without timing: each kernel gets the first candidate, in an order of reasoned
preference, that compiles for that architecture within its shared memory and without spilling a
register.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, astuple
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
import triton

from kernels.attention import triton_launch as attention
from kernels.attention.inputs import Inputs, cu_seqlens
from kernels.cross_entropy import triton_launch as cross_entropy
from kernels.cross_entropy.inputs import Inputs as LossInputs
from kernels.tiles import aot
from kernels.tiles import table as tiles
from kernels.tiles.table import Key, Tile

ATTENTION_DIMS = (32, 64, 128)
# A loss sees the model's width, not a head's.
LOSS_DIMS = {"half": (*ATTENTION_DIMS, 256), "float32": ATTENTION_DIMS}
LOSSES = ("log_sum_exp", "items_gradient")

# Most users are short: a small tile wastes least on its neighbours' rows, and 64 rows are what a
# tensor core instruction of sm_90 takes. From there on, ever less shared memory and registers.
PREFERRED = (
    Tile(64, 64, 4, 3),
    Tile(64, 64, 4, 2),
    Tile(64, 32, 4, 2),
    Tile(32, 64, 4, 2),
    Tile(32, 32, 4, 2),
    Tile(32, 32, 4, 1),
    Tile(32, 32, 8, 1),
    Tile(16, 32, 4, 1),
    Tile(16, 16, 4, 1),
    Tile(16, 32, 8, 2),
    Tile(16, 16, 8, 2),
    Tile(16, 16, 8, 1),
)
# What only a measurement can favour.
LARGER = (
    Tile(128, 32, 4, 3),
    Tile(128, 64, 4, 3),
    Tile(128, 64, 8, 3),
    Tile(64, 128, 4, 2),
    Tile(128, 128, 8, 2),
)


def lines(architecture: str) -> Iterator[tuple[Key, list[str]]]:
    """Every line that the table has for an architecture, with the kernels it names."""
    flags = (False, True)
    combinations = ((dtype, dim) for dtype, dims in LOSS_DIMS.items() for dim in dims)
    for (dtype, block_d), dropout, bias in itertools.product(combinations, flags, flags):
        kernels: list[str] = []
        if bias and (architecture, dtype, block_d) == ("sm_100", "float32", 128):
            continue  # the bias' gradient spills 8 bytes however small its tile
        if block_d in ATTENTION_DIMS:
            kernels += ["forward", "query_gradient", "key_value_gradient"]
            kernels += ["bias_gradient"] if bias else []
        if not dropout and not bias:
            kernels += LOSSES
        if kernels:
            yield Key(architecture, dtype, block_d, dropout, bias), kernels


def fits(kernel: str, key: Key, tile: Tile) -> bool:
    """Whether the tile compiles, within shared memory and without a spill."""
    if kernel == "bias_gradient" and tile.block_m != tile.block_n:
        return False
    return aot.compiled(kernel, key, tile).fits()


def candidates(key: Key, among: tuple[Tile, ...]) -> list[Tile]:
    """The tiles worth compiling: larger float32 operands spill, but only after a while."""
    limit = 8192 if key.dtype == "float32" else math.inf
    return [tile for tile in among if (tile.block_m + tile.block_n) * key.block_d <= limit]


def first_fit(job: tuple[str, Key]) -> Tile:
    """The preferred tile among those that fit."""
    kernel, key = job
    for tile in candidates(key, PREFERRED):
        if fits(kernel, key, tile):
            return tile
    raise RuntimeError(f"no candidate tile fits {kernel} for {key}")


def runs(job: tuple[str, Key], tile: Tile) -> bool:
    """Whether the tile fits; if so its kernel has run once, and lies in Triton's cache."""
    kernel, key = job
    if not fits(kernel, key, tile):
        return False
    tiles.table()[key][kernel] = tile
    try:
        _run(kernel, key)()
    except triton.OutOfResources:
        return False
    torch.cuda.synchronize()
    return True


def fastest(job: tuple[str, Key], among: list[Tile]) -> Tile:
    """The tile with which the operation that holds this kernel takes the least time.

    Replays of a CUDA graph are timed: launching takes longer than some of these kernels.
    """
    kernel, key = job
    run = _run(kernel, key)
    current = tiles.table()[key]
    shipped, times = current[kernel], {}
    for tile in among:
        current[kernel] = tile
        times[tile] = triton.testing.do_bench_cudagraph(run, rep=30, return_mode="median")
    current[kernel] = shipped
    return min(times, key=lambda tile: times[tile])


def measured(jobs: list[tuple[str, Key]], processes: int) -> Iterator[Tile]:
    """The fastest tile of each job: compiled side by side, then timed one after the other."""
    tried = [(job, tile) for job in jobs for tile in candidates(job[1], (*PREFERRED, *LARGER))]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        fit = list(pool.map(runs, *zip(*tried, strict=True)))
    usable = [one for one, ok in zip(tried, fit, strict=True) if ok]
    for job in jobs:
        yield fastest(job, [tile for of, tile in usable if of == job])


def _run(kernel: str, key: Key) -> Callable[[], Any]:
    return _loss_run(kernel, key) if kernel in LOSSES else _attention_run(kernel, key)


def _attention_run(kernel: str, key: Key) -> Callable[[], Any]:
    """65,536 tokens or so of users as in MovieLens-1M: up to 200 items, half below a hundred."""
    lengths = torch.randn(640, generator=torch.Generator().manual_seed(0)).mul(0.9).add(4.6).exp()
    bounds = cu_seqlens(lengths.clamp(1, 200).int()).cuda()
    tokens, dtype = int(bounds[-1]), _dtype(key)
    q, k, v, d_out = torch.randn(4, tokens, 2, key.block_d, device="cuda", dtype=dtype).unbind()
    seed = torch.zeros(1, dtype=torch.int64, device="cuda") if key.dropout else None
    position, time, timestamps = None, None, None
    if key.bias:
        position = torch.randn(2, aot.MAX_DISTANCE + 1, device="cuda")
        time = torch.randn(2, aot.BUCKETS, device="cuda")
        timestamps = torch.arange(tokens, device="cuda") * 3600
    dropout_p = 0.2 if key.dropout else 0.0
    inputs = Inputs(q, k, v, bounds, seed, position, time, timestamps, dropout_p, 0.1)
    forward = partial(attention.forward, inputs)
    if kernel == "forward":
        return forward
    out, lse = forward()
    return partial(attention.backward, d_out, None, out, lse, inputs)


def _loss_run(kernel: str, key: Key) -> Callable[[], Any]:
    """8,192 tokens over 200,000 items."""
    hidden = torch.randn(8192, key.block_d, device="cuda", dtype=_dtype(key))
    items = torch.randn(200_000, key.block_d, device="cuda", dtype=_dtype(key)) * 0.1
    inputs = LossInputs(hidden, items)
    forward = partial(cross_entropy.forward, inputs, True)
    if kernel == "log_sum_exp":
        return forward
    lse, _ = forward()
    targets = torch.zeros(8192, dtype=torch.int64, device="cuda")
    return partial(cross_entropy.items_gradient, lse, lse, targets, inputs)


def _dtype(key: Key) -> torch.dtype:
    return torch.float32 if key.dtype == "float32" else torch.bfloat16


def write(table: dict[Key, dict[str, Any]]) -> None:
    """Write the whole table, a line for each key."""
    text = ",\n".join(json.dumps(asdict(key) | values) for key, values in table.items())
    tiles.TABLE.write_text(f"[\n{text}\n]\n")


def _gpu_architecture() -> str:
    if not torch.cuda.is_available():
        sys.exit("error: no GPU here to measure on; --without-gpu makes an unmeasured table")
    major, minor = torch.cuda.get_device_capability()
    if minor or f"sm_{major}0" not in tiles.ARCHITECTURES:
        sys.exit(f"error: the table has no lines for a GPU of capability {major}.{minor}")
    return f"sm_{major}0"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m kernels.tiles.refresh", description="Make the table of tiles anew."
    )
    parser.add_argument("--without-gpu", action="store_true", help="what fits, all unmeasured")
    parser.add_argument("--dtype", choices=LOSS_DIMS, help="only this one")
    parser.add_argument("--block-d", type=int, help="only this padded head dimension")
    parser.add_argument("--processes", type=int, default=2, help="compilers at a time (default 2)")
    arguments = parser.parse_args()
    architectures = tiles.ARCHITECTURES if arguments.without_gpu else (_gpu_architecture(),)
    jobs = [
        (kernel, key)
        for architecture in architectures
        for key, kernels in lines(architecture)
        if arguments.dtype in (None, key.dtype) and arguments.block_d in (None, key.block_d)
        for kernel in kernels
    ]
    measured_on = None if arguments.without_gpu else torch.cuda.get_device_name()
    table: dict[Key, dict[str, Any]] = {}
    for line in json.loads(tiles.TABLE.read_text()):
        key = Key(**{name: line.pop(name) for name in Key.__dataclass_fields__})
        table[key] = line
    with ProcessPoolExecutor(arguments.processes) as pool:
        found = (
            pool.map(first_fit, jobs)
            if arguments.without_gpu
            else measured(jobs, arguments.processes)
        )
        for (kernel, key), tile in zip(jobs, found, strict=True):
            print(f"{kernel:20} {astuple(key)} {astuple(tile)}", flush=True)
            line = table.setdefault(key, {})
            line |= {"measured_on": measured_on, kernel: astuple(tile)}
    write(table)


if __name__ == "__main__":
    main()
