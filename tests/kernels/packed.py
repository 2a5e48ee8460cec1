"""Packed inputs for the kernels' tests, and the yardstick that all implementations are held to."""

import os
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels import jagged_causal_attention
from kernels.attention import reference
from kernels.attention.inputs import cu_seqlens

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# The interpreter is a thousand times slower; its tiles are 16 × 16, so this still crosses many.
LENGTHS = [0, 1, 5, 0, 18, 3, 9, 0] if INTERPRETED else [0, 1, 5, 0, 61, 200, 3, 3, 9, 150, 0]


@dataclass
class Packed:
    """Arguments of one call."""

    q: Tensor
    k: Tensor
    v: Tensor
    cu_seqlens: Tensor
    options: dict = field(default_factory=dict)

    def leaves(self) -> dict[str, Tensor]:
        """What has a gradient."""
        tables = {name: table for name, table in self.options.items() if name.endswith("_bias")}
        return {"q": self.q, "k": self.k, "v": self.v, **tables}

    def to(self, dtype: torch.dtype) -> "Packed":
        """The same numbers in another dtype, as new leaves."""

        def convert(x: object) -> object:
            if isinstance(x, Tensor) and x.is_floating_point():
                return x.detach().to(dtype).requires_grad_()
            return x

        tensors = (convert(x) for x in (self.q, self.k, self.v))
        options = {name: convert(value) for name, value in self.options.items()}
        return Packed(*tensors, self.cu_seqlens, options)

    def pairs(self) -> int:
        """How many scores there are in one head."""
        lengths = self.cu_seqlens.diff().tolist()
        return sum(length * (length + 1) // 2 for length in lengths)

    def user(self, index: int) -> slice:
        """One user's rows."""
        bounds = self.cu_seqlens.tolist()
        return slice(bounds[index], bounds[index + 1])


def offsets(lengths: list[int], device: str = "cpu") -> Tensor:
    return cu_seqlens(torch.tensor(lengths, dtype=torch.int32)).to(device)


def packed(
    lengths: list[int],
    *,
    heads: int = 2,
    head_dim: int = 16,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    dropout_p: float = 0.0,
    bias: bool = False,
    seed: int = 0,
) -> Packed:
    """Random inputs for users of these lengths."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    tokens = sum(lengths)
    tensors = [normal(tokens, heads, head_dim).to(device, dtype).requires_grad_() for _ in range(3)]
    options: dict = {}
    if dropout_p:
        options |= {"dropout_p": dropout_p, "dropout_seed": 1234567890123}
    if bias:
        gaps = torch.randint(0, 5000, (tokens,), generator=generator)
        options |= {
            "position_bias": normal(heads, 12).to(device, dtype).requires_grad_(),
            "time_bias": normal(heads, 14).to(device, dtype).requires_grad_(),
            "timestamps": (1_700_000_000 + gaps.cumsum(0)).to(device),
        }
    return Packed(*tensors, offsets(lengths, device), options)


def results(inputs: Packed, function=None) -> dict[str, Tensor]:
    """Outputs and all gradients, for a loss that weighs every output differently."""
    if function is None:
        out, lse = jagged_causal_attention(
            inputs.q, inputs.k, inputs.v, inputs.cu_seqlens, return_lse=True, **inputs.options
        )
    else:
        out, lse = function(inputs.q, inputs.k, inputs.v, inputs.cu_seqlens, **inputs.options)
    generator = torch.Generator().manual_seed(99)
    loss = torch.zeros((), dtype=torch.float64, device=out.device)
    for x in (out, lse):
        weights = torch.randn(x.shape, generator=generator).to(out.device)
        loss = loss + (x.double() * weights.to(inputs.q.dtype).double()).sum()
    leaves = inputs.leaves()
    gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    found = {"out": out, "lse": lse}
    found |= {f"d_{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    return {name: x.detach() for name, x in found.items()}


def assert_as_exact_as_torch(inputs: Packed) -> None:
    """Against float64, at most twice the error of plain torch in the same precision."""
    ours, torchs = results(inputs), results(inputs, reference.attention)
    truth = results(inputs.to(torch.float64), reference.attention)
    for name, exact in truth.items():
        if exact.numel() == 0:
            continue
        error, torchs_error = (rms(x[name].double() - exact) for x in (ours, torchs))
        # Where torch happens to be exact, as for users of one item, a rounding of the inputs'
        # size, 1, is still allowed.
        rounding = torch.finfo(inputs.q.dtype).eps * (1.0 + rms(exact))
        # A gradient of q or k is a difference of dot products of two rows, kept in float32.
        products = inputs.q.shape[-1] ** 0.5 / (1.0 - inputs.options.get("dropout_p", 0.0))
        rounding = rounding + torch.finfo(torch.float32).eps * products
        if name.endswith("_bias"):
            # An entry sums a score of most pairs, and they cancel: their float32 roundings do not.
            rounding = rounding + torch.finfo(torch.float32).eps * inputs.pairs() ** 0.5
        assert error <= 2 * torchs_error + rounding, f"{name}: {error} against {torchs_error}"


def rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()
