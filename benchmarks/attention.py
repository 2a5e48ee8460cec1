"""Packed attention against what one would use instead, on the same users.

    python -m benchmarks.attention --device cpu
    python -m benchmarks.attention --device cuda

Forward, and forward + backward. The padded baselines get padded inputs as a gift: neither the
copy into the padding nor the one out of it is in their time. On a GPU: time by replay of a CUDA
graph and wall time separately, inputs rotated beyond L2, and memory. On a CPU: wall time, and
shape C with fewer and shorter users. Results go to benchmarks/results/attention-DEVICE.json.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import stopwatch
from benchmarks.provenance import provenance
from kernels import jagged_causal_attention
from kernels.attention.inputs import cu_seqlens

RESULTS = Path(__file__).parent / "results"
DROPOUT = 0.2
BEYOND_L2 = 200e6  # bytes; an H200 has 60 MB of L2


@dataclass(frozen=True)
class Shape:
    """Users with log-normal numbers of items, cut at the longest that a model keeps."""

    users: int
    median: float
    sigma: float
    longest: int
    heads: int
    head_dim: int

    def lengths(self) -> Tensor:
        """int32 ``(users,)``; the first user is as long as any may be."""
        normal = torch.randn(self.users, generator=torch.Generator().manual_seed(0))
        lengths = (self.median * (self.sigma * normal).exp()).clamp(1, self.longest).int()
        lengths[0] = self.longest
        return lengths


def work(shape: Shape, nbytes: int) -> dict[str, dict[str, float]]:
    """Operations and bytes that our passes cannot do without, in one dtype of ``nbytes``.

    Each matrix product over the visible pairs is 2 · head_dim operations a pair: two in forward;
    seven in backward, since both of its kernels compute scores and their gradient anew. Bytes:
    every operand once for each kernel, the log-sum-exp and delta in float32.
    """
    lengths = shape.lengths().double()
    tokens, pairs = float(lengths.sum()), float((lengths * (lengths + 1) / 2).sum())
    product = 2 * shape.heads * shape.head_dim * pairs
    row, scalar = tokens * shape.heads * shape.head_dim * nbytes, tokens * shape.heads * 4
    return {
        "forward": {"operations": 2 * product, "bytes": 4 * row + scalar},
        # dQ reads q, k, v, out, d_out; dK and dV read q, k, v, d_out.
        "backward": {"operations": 7 * product, "bytes": (6 + 6) * row + 4 * scalar},
    }


SHAPES = {
    "A": Shape(1024, 96, 0.95, 200, heads=1, head_dim=64),  # MovieLens-1M
    "A, 2 heads": Shape(1024, 96, 0.95, 200, heads=2, head_dim=32),
    "B": Shape(4096, 8, 0.7, 50, heads=1, head_dim=64),  # a shop
    "C": Shape(64, 1500, 1.0, 8192, heads=4, head_dim=64),  # long histories
}
SHAPES_CPU = SHAPES | {"C": Shape(8, 500, 1.0, 2048, heads=4, head_dim=64)}

# Ratios to ours, in forward + backward, that were aimed at.
TARGETS = {
    "cpu float32": {"padded, dropout": {"A": 1.5, "B": 3.0}},
    "cuda bfloat16": {
        "padded, dropout": {"A": 3.0, "B": 6.0, "C": 3.5},
        "FA2 varlen": {"A": 1.5, "B": 3.0, "C": 1.1},
        "FA2 varlen, dropout": {"A": 1.5, "B": 3.0, "C": 1.0},
        "FlexAttention": {"A": 1.3, "B": 2.0, "C": 1.1},
        "FlexAttention, mask rebuilt": {"A": 3.0, "B": 5.0, "C": 1.3},
    },
    "cuda float32": {"padded, dropout": {"A": 3.0}},
}
# Whom a baseline is compared with: the one of ours that does the same work.
OURS = {
    "padded": "ours",
    "padded, dropout": "ours, dropout",
    "padded with a boolean mask, dropout": "ours, dropout",
    "FA2 varlen": "ours",
    "FA2 varlen, dropout": "ours, dropout",
    "FlexAttention": "ours",
    "FlexAttention, mask rebuilt": "ours",
}


@dataclass
class Problem:
    """One shape's random inputs: packed, padded, and as FlexAttention takes them."""

    shape: Shape
    device: str
    dtype: torch.dtype
    seed: int

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.lengths = self.shape.lengths().to(self.device)
        self.cu_seqlens = cu_seqlens(self.lengths)
        self.tokens = int(self.cu_seqlens[-1])
        size = (self.tokens, self.shape.heads, self.shape.head_dim)
        self.packed = [self._normal(size).requires_grad_() for _ in range(3)]
        self.d_packed = self._normal(size)
        heads = self.shape.heads
        self.position_bias = torch.randn(heads, 200, device=self.device, requires_grad=True)
        self.time_bias = torch.randn(heads, 32, device=self.device, requires_grad=True)
        self.timestamps = torch.arange(self.tokens, device=self.device) * 3600

    def _normal(self, size: tuple[int, ...]) -> Tensor:
        return torch.randn(size, device=self.device, dtype=self.dtype)

    def pad(self) -> None:
        """Add the padded inputs ``(users, heads, longest, head_dim)``."""
        shape = self.shape
        inside = torch.arange(shape.longest, device=self.device) < self.lengths[:, None]

        def padded(x: Tensor) -> Tensor:
            whole = x.new_zeros(shape.users, shape.longest, *x.shape[1:])
            whole[inside] = x.detach()
            return whole.transpose(1, 2).contiguous()

        self.padded = [padded(x).requires_grad_() for x in self.packed]
        self.d_padded = padded(self.d_packed)
        position = torch.arange(shape.longest, device=self.device)
        causal = position[:, None] >= position
        self.mask = (causal & inside[:, None, :])[:, None]


Call = Callable[[], tuple[Tensor, Tensor, list[Tensor]]]  # output, its gradient, what has one


def ours(problem: Problem, *, dropout_p: float = 0.0, bias: bool = False) -> Call:
    """Our kernel, or on a CPU our blocks."""
    seed = torch.zeros(1, dtype=torch.int64, device=problem.device)
    tables = [problem.position_bias, problem.time_bias] if bias else []
    options: dict[str, Any] = {}
    if bias:
        options = dict(zip(("position_bias", "time_bias"), tables, strict=True))
        options["timestamps"] = problem.timestamps

    def call() -> tuple[Tensor, Tensor, list[Tensor]]:
        q, k, v = problem.packed
        out = jagged_causal_attention(
            q, k, v, problem.cu_seqlens, dropout_p=dropout_p, dropout_seed=seed, **options
        )
        return out, problem.d_packed, [q, k, v, *tables]

    return call


def padded(problem: Problem, *, dropout_p: float = 0.0, masked: bool = False) -> Call:
    """PyTorch's own attention on padded users, causal, or with a mask of padding and future."""

    def call() -> tuple[Tensor, Tensor, list[Tensor]]:
        mask = problem.mask if masked else None
        q, k, v = problem.padded
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout_p, is_causal=not masked
        )
        return out, problem.d_padded, problem.padded

    return call


def flash_varlen(problem: Problem) -> Call:
    """FlashAttention-2 on packed users, through torch's public function; it has no dropout."""
    from torch.nn.attention.varlen import varlen_attn

    longest, bounds = problem.shape.longest, problem.cu_seqlens

    def call() -> tuple[Tensor, Tensor, list[Tensor]]:
        q, k, v = problem.packed
        out = varlen_attn(q, k, v, bounds, bounds, longest, longest, window_size=(-1, 0))
        assert isinstance(out, Tensor)
        return out, problem.d_packed, problem.packed

    return call


def flash_varlen_dropout(problem: Problem) -> Call:
    """The same with dropout, which only the private operator takes."""
    longest, bounds = problem.shape.longest, problem.cu_seqlens
    operator = torch.ops.aten._flash_attention_forward

    def call() -> tuple[Tensor, Tensor, list[Tensor]]:
        q, k, v = problem.packed
        out, *_ = operator(q, k, v, bounds, bounds, longest, longest, DROPOUT, True, False)
        return out, problem.d_packed, problem.packed

    return call


def flex(problem: Problem, *, rebuilt: bool) -> Call:
    """Compiled FlexAttention on packed users; with ``rebuilt``, a new block mask for each batch."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    compiled = torch.compile(flex_attention, dynamic=False)
    build = torch.compile(create_block_mask)
    token = torch.arange(problem.tokens, device=problem.device)
    user = torch.searchsorted(problem.cu_seqlens[1:], token, right=True, out_int32=True)

    def visible(_batch: Tensor, _head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return (user[row] == user[column]) & (row >= column)

    def mask() -> Any:
        return build(visible, None, None, problem.tokens, problem.tokens, device=problem.device)

    once = mask()

    def call() -> tuple[Tensor, Tensor, list[Tensor]]:
        q, k, v = (x.transpose(0, 1)[None] for x in problem.packed)
        out = compiled(q, k, v, block_mask=mask() if rebuilt else once)
        return out[0].transpose(0, 1), problem.d_packed, problem.packed

    return call


def arms(problem: Problem) -> dict[str, Callable[[Problem], Call]]:
    """Everything that runs on this device in this dtype."""
    found: dict[str, Callable[[Problem], Call]] = {
        "ours": ours,
        "ours, dropout": partial(ours, dropout_p=DROPOUT),
        "ours, bias": partial(ours, bias=True),
        "ours, dropout and bias": partial(ours, dropout_p=DROPOUT, bias=True),
        "padded": padded,
        "padded, dropout": partial(padded, dropout_p=DROPOUT),
        "padded with a boolean mask, dropout": partial(padded, dropout_p=DROPOUT, masked=True),
    }
    if problem.device == "cuda":
        found["FlexAttention"] = partial(flex, rebuilt=False)
        found["FlexAttention, mask rebuilt"] = partial(flex, rebuilt=True)
        if problem.dtype != torch.float32:
            found["FA2 varlen"] = flash_varlen
            found["FA2 varlen, dropout"] = flash_varlen_dropout
    return found


def forward_alone(call: Call) -> None:
    """Without autograd, as in serving."""
    with torch.no_grad():
        call()


def forward_and_backward(call: Call) -> None:
    """As in training."""
    out, d_out, leaves = call()
    torch.autograd.grad(out, leaves, d_out)


PASSES = {"forward": forward_alone, "forward + backward": forward_and_backward}


def measured_on_cpu(problem: Problem, repeats: int) -> dict[str, Any]:
    """Wall time, all arms in turns."""
    calls = {name: make(problem) for name, make in arms(problem).items()}
    report: dict[str, Any] = {name: {} for name in calls}
    for pass_name, run in PASSES.items():
        runs = {name: partial(run, call) for name, call in calls.items()}
        for name, seconds in stopwatch.in_turns(runs, repeats).items():
            report[name][pass_name] = {"wall_ms": stopwatch.summary(seconds)}
    return report


def measured_on_gpu(problems: list[Problem], repeats: int) -> dict[str, Any]:
    """GPU time over the rotated inputs, wall time and memory; an arm that fails says why."""
    report: dict[str, Any] = {}
    for name, make in arms(problems[0]).items():
        try:
            report[name] = _arm_on_gpu([make(problem) for problem in problems], repeats)
        except (RuntimeError, NotImplementedError) as error:
            report[name] = {"failed": str(error).splitlines()[0]}
    return report


def _arm_on_gpu(calls: list[Call], repeats: int) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for pass_name, run in PASSES.items():
        runs = [partial(run, call) for call in calls]
        wall = stopwatch.in_turns({"": runs[0]}, repeats)[""]
        found: dict[str, Any] = {
            "wall_ms": stopwatch.summary(wall),
            "peak_bytes": stopwatch.gpu_peak_bytes(runs[0]),
        }
        try:
            found["gpu_ms"] = stopwatch.summary(stopwatch.gpu_seconds(runs, repeats))
        except RuntimeError as error:  # an arm that waits for the GPU cannot be captured
            found["gpu_ms"] = found["wall_ms"]
            found["no_graph"] = str(error).splitlines()[0]
        report[pass_name] = found
    return report


def rotated(shape: Shape, device: str, dtype: torch.dtype) -> list[Problem]:
    """As many inputs as do not fit a GPU's L2 together; on a CPU one."""
    problems = [Problem(shape, device, dtype, seed=0)]
    nbytes = sum(x.nbytes for x in problems[0].packed)
    copies = 1 if device == "cpu" else max(1, min(16, round(BEYOND_L2 / nbytes)))
    problems += [Problem(shape, device, dtype, seed) for seed in range(1, copies)]
    for problem in problems:
        problem.pad()
    return problems


def ratios(times: dict[str, Any], shape: str, targets: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each baseline's time over that of the one of ours that does the same work."""
    for baseline, our_name in OURS.items():
        if "forward" not in times.get(baseline, {}):
            continue
        found: dict[str, Any] = {"baseline": baseline, "ours": our_name}
        for pass_name in PASSES:
            theirs, ours_ = times[baseline][pass_name], times[our_name][pass_name]
            clock = "gpu_ms" if "gpu_ms" in theirs else "wall_ms"
            found[pass_name] = theirs[clock]["median"] / ours_[clock]["median"]
        target = targets.get(baseline, {}).get(shape[0])
        if target is not None:
            found |= {"target": target, "holds": found["forward + backward"] >= target}
        yield found


def show(shape: str, dtype: str, times: dict[str, Any], ratios: list[dict[str, Any]]) -> None:
    """A table of times, and one of ratios."""
    print(f"\n{shape}, {dtype}: milliseconds, median of forward and of forward + backward")
    for name, passes in times.items():
        if "failed" in passes:
            print(f"  {name:38} {passes['failed'][:60]}")
            continue
        for clock in ("gpu_ms", "wall_ms"):
            if clock in passes["forward"]:
                values = "".join(f"{passes[p][clock]['median']:10.3f}" for p in PASSES)
                print(f"  {name:38}{values}  {clock.removesuffix('_ms')}")
    print("  times as long as ours")
    for row in ratios:
        verdict = ""
        if "target" in row:
            verdict = f"  target {row['target']}: {'holds' if row['holds'] else 'missed'}"
        numbers = "".join(f"{row[p]:10.2f}" for p in PASSES)
        print(f"  {row['baseline']:38}{numbers}{verdict}", flush=True)


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--shapes", nargs="+", choices=tuple(SHAPES), default=tuple(SHAPES))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="on a CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    on_cpu = arguments.device == "cpu"
    dtypes = arguments.dtypes or (["float32"] if on_cpu else ["bfloat16", "float16", "float32"])
    report: dict[str, Any] = {"provenance": provenance(), "shapes": {}}
    for name in arguments.shapes:
        shape = (SHAPES_CPU if on_cpu else SHAPES)[name]
        of_shape = report["shapes"][name] = {**asdict(shape), "dtypes": {}}
        for dtype in dtypes:
            problems = rotated(shape, arguments.device, getattr(torch, dtype))
            of_shape["tokens"] = problems[0].tokens
            if on_cpu:
                times = measured_on_cpu(problems[0], arguments.repeats)
            else:
                times = measured_on_gpu(problems, arguments.repeats)
            targets = TARGETS.get(f"{arguments.device} {dtype}", {})
            found = list(ratios(times, name, targets))
            passes = work(shape, problems[0].packed[0].element_size())
            of_shape["dtypes"][dtype] = {"work": passes, "times": times, "ratios": found}
            show(name, dtype, times, found)
            del problems
    device = "cpu" if on_cpu else re.sub(r"\W+", "-", torch.cuda.get_device_name()).lower()
    path = RESULTS / f"attention-{device}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
