"""The losses against float64 and a plain reference, and the memory that they may take."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import next_item_cross_entropy, sampled_cross_entropy
from kernels.cross_entropy import reference
from tests.kernels.packed import INTERPRETED, rms

# Past a block of the CPU's, tokens and items both; or past some of the interpreter's 16 × 16.
TOKENS, ITEMS = (37, 70) if INTERPRETED else (300, 1100)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


class Inputs:
    """Arguments of both losses; the same numbers in any dtype."""

    def __init__(self, tokens=TOKENS, items=ITEMS, width=16, dtype=torch.float32, device="cpu"):
        generator = torch.Generator().manual_seed(0)

        def normal(*shape):
            return torch.randn(*shape, generator=generator).to(device)

        self.hidden = normal(tokens, width).to(dtype).requires_grad_()
        self.items = normal(items, width).to(dtype).requires_grad_()
        # The mean divides by their sum, so that it must not vanish.
        self.weights = (1 + normal(tokens).abs()).requires_grad_()
        self.targets = torch.randint(items, (tokens,), generator=generator).to(device)
        # Few of many, so repetitions and accidental hits are certain.
        some = torch.randint(items, (50,), generator=generator).to(device)
        self.negatives = torch.cat([some, some[:10], self.targets[:20]])
        self.target_log_q = normal(tokens)
        self.negative_log_q = normal(len(self.negatives))

    def leaves(self, dtype):
        leaves = (self.hidden, self.items, self.weights)
        return [x.detach().to(dtype).requires_grad_() for x in leaves]

    def sampled(self, dtype=torch.float64):
        return {
            "negatives": self.negatives,
            "target_log_q": self.target_log_q.to(dtype),
            "negative_log_q": self.negative_log_q.to(dtype),
        }


def loss_and_gradients(function, leaves, targets, **options):
    hidden, items, weights = leaves
    loss = function(hidden, items, targets, weights=weights, **options)
    return [loss, *torch.autograd.grad(loss, leaves)]


def assert_as_exact_as_torch(inputs, dtype, ours, plain, **options):
    leaves = inputs.leaves(dtype)
    exact_options = {k: v.double() if v.is_floating_point() else v for k, v in options.items()}
    truth = loss_and_gradients(plain, inputs.leaves(torch.float64), inputs.targets, **exact_options)
    found = loss_and_gradients(ours, leaves, inputs.targets, **options)
    torchs = loss_and_gradients(plain, leaves, inputs.targets, **options)
    logits = inputs.hidden.detach().double() @ inputs.items.detach().double().T
    largest_logit = float(logits.abs().max()) if logits.numel() else 0.0
    for name, exact, a, b in zip(
        ("loss", "d_hidden", "d_items", "d_weights"), truth, found, torchs, strict=True
    ):
        if exact.numel() == 0:
            continue
        error, torchs_error = rms(a.double() - exact), rms(b.double() - exact)
        # A loss is the difference of two sums of a logit's size, each rounded to float32.
        rounding = torch.finfo(dtype).eps * rms(exact)
        rounding += torch.finfo(torch.float32).eps * largest_logit
        assert error <= 2 * torchs_error + rounding, f"{name}: {error} against {torchs_error}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_as_exact_as_torch(dtype, device):
    assert_as_exact_as_torch(
        Inputs(dtype=dtype, device=device),
        dtype,
        next_item_cross_entropy,
        reference.next_item_cross_entropy,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_sampled_as_exact_as_torch(dtype, device):
    inputs = Inputs(dtype=dtype, device=device)
    assert_as_exact_as_torch(
        inputs,
        dtype,
        sampled_cross_entropy,
        reference.sampled_cross_entropy,
        **inputs.sampled(dtype),
    )


@settings(max_examples=5 if INTERPRETED else 30, deadline=None, derandomize=True)
@given(
    tokens=st.integers(1, 40),
    items=st.integers(1, 80),
    width=st.sampled_from([1, 8, 50, 64, 200]),
)
def test_any_shape(tokens, items, width):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs = Inputs(tokens, items, width, device=device)
    dtype = torch.float32
    assert_as_exact_as_torch(
        inputs, dtype, next_item_cross_entropy, reference.next_item_cross_entropy
    )
    assert_as_exact_as_torch(
        inputs,
        dtype,
        sampled_cross_entropy,
        reference.sampled_cross_entropy,
        **inputs.sampled(dtype),
    )


@pytest.mark.skipif(INTERPRETED, reason="needs float64, which the Triton kernels do not take")
def test_gradients_by_finite_differences():
    inputs = Inputs(6, 9, 5, dtype=torch.float64)
    leaves = tuple(inputs.leaves(torch.float64))

    def full(hidden, items, weights):
        return next_item_cross_entropy(hidden, items, inputs.targets, weights=weights)

    def sampled(hidden, items, weights):
        return sampled_cross_entropy(
            hidden, items, inputs.targets, weights=weights, **inputs.sampled()
        )

    assert torch.autograd.gradcheck(full, leaves)
    assert torch.autograd.gradcheck(sampled, leaves)


def test_reductions(device):
    inputs = Inputs(device=device)
    arguments = (inputs.hidden, inputs.items, inputs.targets)
    each = next_item_cross_entropy(*arguments, reduction="none")
    weights = inputs.weights
    close = torch.testing.assert_close
    close(next_item_cross_entropy(*arguments), each.mean())
    close(next_item_cross_entropy(*arguments, reduction="sum"), each.sum())
    weighed = next_item_cross_entropy(*arguments, weights=weights, reduction="none")
    close(weighed, each * weights)
    mean = next_item_cross_entropy(*arguments, weights=weights)
    close(mean, (each * weights).sum() / weights.sum())


def test_all_items_as_negatives_without_correction_is_the_whole_softmax(device):
    inputs = Inputs(device=device)
    everything = torch.arange(len(inputs.items), device=device)
    arguments = (inputs.hidden, inputs.items, inputs.targets)
    sampled = sampled_cross_entropy(*arguments, everything)
    torch.testing.assert_close(sampled, next_item_cross_entropy(*arguments))


def test_a_token_whose_negatives_are_all_its_target_loses_nothing(device):
    inputs = Inputs(tokens=3, items=5, device=device)
    targets = torch.full((3,), 2, device=device)
    loss = sampled_cross_entropy(inputs.hidden, inputs.items, targets, targets[:2])
    gradients = torch.autograd.grad(loss, (inputs.hidden, inputs.items))
    assert loss == 0.0
    assert all(torch.equal(x, torch.zeros_like(x)) for x in gradients)


def test_no_negatives_lose_nothing(device):
    inputs = Inputs(tokens=3, items=5, device=device)
    none = torch.empty(0, dtype=torch.int64, device=device)
    assert sampled_cross_entropy(inputs.hidden, inputs.items, inputs.targets, none) == 0.0


def test_no_tokens_have_no_losses(device):
    inputs = Inputs(tokens=0, items=5, device=device)
    arguments = (inputs.hidden, inputs.items, inputs.targets)
    losses = next_item_cross_entropy(*arguments, reduction="none")
    assert losses.shape == (0,)
    gradients = torch.autograd.grad(losses.sum(), (inputs.hidden, inputs.items))
    assert torch.equal(gradients[1], torch.zeros_like(inputs.items))


def test_large_logits_neither_overflow_nor_vanish(device):
    inputs = Inputs(device=device)
    hidden = (inputs.hidden * 300).detach().requires_grad_()
    leaves = (hidden, inputs.items)
    loss = next_item_cross_entropy(*leaves, inputs.targets)
    exact = reference.next_item_cross_entropy(*(x.double() for x in leaves), inputs.targets)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
    assert all(x.isfinite().all() for x in torch.autograd.grad(loss, leaves))


def test_memory_beneath_is_never_read(device, poisoned_memory):
    inputs = Inputs(device=device)
    options = inputs.sampled(torch.float32)
    for function, extra in ((next_item_cross_entropy, {}), (sampled_cross_entropy, options)):
        found = loss_and_gradients(function, inputs.leaves(torch.float32), inputs.targets, **extra)
        assert all(x.isfinite().all() for x in found)


def test_repeated_calls_are_bitwise_equal(device):
    inputs = Inputs(device=device)
    leaves = inputs.leaves(torch.float32)
    for function, extra in (
        (next_item_cross_entropy, {}),
        (sampled_cross_entropy, inputs.sampled(torch.float32)),
    ):
        first, second = (
            loss_and_gradients(function, leaves, inputs.targets, **extra) for _ in range(2)
        )
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_non_contiguous_inputs_and_gradients(device):
    inputs = Inputs(device=device)
    hidden = inputs.hidden.detach().T.contiguous().T.requires_grad_()
    items = inputs.items.detach().T.contiguous().T.requires_grad_()
    expected = torch.autograd.grad(
        next_item_cross_entropy(inputs.hidden, inputs.items, inputs.targets),
        (inputs.hidden, inputs.items),
    )
    losses = next_item_cross_entropy(hidden, items, inputs.targets, reduction="none")
    stride_0 = torch.full((), 1 / len(losses), device=device).expand_as(losses)
    found = torch.autograd.grad(losses, (hidden, items), stride_0)
    torch.testing.assert_close(found, expected)


@pytest.mark.skipif(
    INTERPRETED or sys.platform != "linux",
    reason="needs Linux's count of peak memory, and kernels that are not interpreted",
)
def test_memory_is_linear_in_tokens_and_items():
    # The logits of one pass alone would be 400 MB.
    script = """
import re
from pathlib import Path
import torch
from kernels import next_item_cross_entropy
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
def step(tokens, items):
    hidden = torch.randn(tokens, 8, requires_grad=True)
    table = torch.randn(items, 8, requires_grad=True)
    next_item_cross_entropy(hidden, table, torch.zeros(tokens, dtype=torch.int64)).backward()
step(16, 2000)
before = peak()
step(500, 200_000)
print(peak() - before)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60.0  # MB; the table and its gradient are 13
