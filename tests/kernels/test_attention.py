"""The attention against float64, and what must hold of it whatever the implementation.

On a GPU these tests run again with the Triton kernels, and without one in Triton's interpreter
(``test_interpreter.py``).
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import jagged_causal_attention
from tests.kernels.packed import (
    INTERPRETED,
    LENGTHS,
    assert_as_exact_as_torch,
    offsets,
    packed,
    results,
)

OPTIONS = {
    "plain": {},
    "dropout": {"dropout_p": 0.3},
    "bias": {"bias": True},
    "dropout and bias": {"dropout_p": 0.3, "bias": True},
}
if INTERPRETED:  # each of the two alone takes half as long as all of this file should
    OPTIONS = {name: OPTIONS[name] for name in ("plain", "dropout and bias")}
in_all_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


@in_all_options
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_as_exact_as_torch_in_every_dtype(dtype, options, device):
    assert_as_exact_as_torch(packed(LENGTHS, dtype=dtype, device=device, **options))


@pytest.mark.parametrize("head_dim", [8, 16, 32, 50, 64, 80, 128])
def test_as_exact_as_torch_in_every_head_dimension(head_dim, device):
    inputs = packed([20, 7], head_dim=head_dim, heads=1, device=device, dropout_p=0.2)
    assert_as_exact_as_torch(inputs)


@in_all_options
@pytest.mark.parametrize(
    "lengths",
    [[], [0], [0, 0, 0], [1], [0, 1, 0], [1] * 20, [40, 1, 1]],
    ids=["no user", "empty user", "empty users", "one token", "a token between", "tokens", "long"],
)
def test_degenerate_batches(lengths, options, device):
    assert_as_exact_as_torch(packed(lengths, device=device, **options))


@pytest.mark.skipif(INTERPRETED, reason="needs compiled kernels: interpreted ones take minutes")
def test_one_very_long_user(device):
    inputs = packed([3, 2500, 1], heads=1, device=device, dropout_p=0.1)
    assert_as_exact_as_torch(inputs)


@pytest.mark.skipif(INTERPRETED, reason="needs float64, which the Triton kernels do not take")
@in_all_options
def test_gradients_by_finite_differences(options):
    inputs = packed([3, 0, 6, 1], head_dim=8, dtype=torch.float64, **options)
    leaves = inputs.leaves()
    rest = {name: value for name, value in inputs.options.items() if name not in leaves}

    def attention(q, k, v, *tables):
        named = dict(zip(list(leaves)[3:], tables, strict=True))
        return jagged_causal_attention(q, k, v, inputs.cu_seqlens, return_lse=True, **rest, **named)

    assert torch.autograd.gradcheck(attention, tuple(leaves.values()))


@in_all_options
def test_a_broken_user_breaks_no_other(options, device):
    lengths = [4, 11, 6]
    clean = packed(lengths, device=device, **options)
    poisoned = packed(lengths, device=device, **options)
    broken = clean.user(1)
    with torch.no_grad():
        for x in (poisoned.q, poisoned.k, poisoned.v):
            x[broken] = float("nan")
    expected, found = results(clean), results(poisoned)
    for name in ("out", "lse", "d_q", "d_k", "d_v"):
        values = found[name][broken]
        # No number may look sound; but what dropout has dropped is 0, whatever it was.
        assert (values.isnan() | ((values == 0.0) & bool(clean.options.get("dropout_p")))).all()
        assert values.isnan().any(), name
        for user in (0, 2):
            rows = clean.user(user)
            torch.testing.assert_close(
                found[name][rows], expected[name][rows], rtol=1e-5, atol=1e-5
            )


def test_a_broken_gradient_breaks_no_other_user(device):
    inputs = packed([4, 11, 6], device=device)
    out = jagged_causal_attention(inputs.q, inputs.k, inputs.v, inputs.cu_seqlens)
    gradient = torch.ones_like(out)
    gradient[inputs.user(1)] = float("nan")
    for found in torch.autograd.grad(out, (inputs.q, inputs.k, inputs.v), gradient):
        assert found[inputs.user(1)].isnan().any()
        assert not found[inputs.user(0)].isnan().any()
        assert not found[inputs.user(2)].isnan().any()


@in_all_options
def test_memory_around_and_beneath_is_never_read(options, device, poisoned_memory):
    inputs = packed([4, 11, 6], device=device, **options)
    expected = results(inputs)
    for name in ("q", "k", "v"):
        x = getattr(inputs, name)
        padded = torch.full((x.shape[0] + 64, *x.shape[1:]), float("nan"), device=device)
        padded[32:-32] = x.detach()
        setattr(inputs, name, padded[32:-32].requires_grad_())
    for name, found in results(inputs).items():
        assert not found.isnan().any(), name
        torch.testing.assert_close(found, expected[name], rtol=0, atol=0)


def test_permuting_users_permutes_the_result_alone(device):
    lengths = [5, 0, 18, 1, 7]
    inputs = packed(lengths, device=device, bias=True)
    expected = results(inputs)
    order = [2, 4, 1, 0, 3]
    rows = torch.cat([torch.arange(*inputs.user(u).indices(10**6)) for u in order]).to(device)
    permuted = packed(lengths, device=device, bias=True)
    for name in ("q", "k", "v"):
        setattr(permuted, name, getattr(inputs, name).detach()[rows].requires_grad_())
    permuted.options["timestamps"] = inputs.options["timestamps"][rows]
    permuted.cu_seqlens = offsets([lengths[u] for u in order], device)
    out, lse = jagged_causal_attention(
        permuted.q, permuted.k, permuted.v, permuted.cu_seqlens, return_lse=True, **permuted.options
    )
    torch.testing.assert_close(out, expected["out"][rows], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lse, expected["lse"][rows], rtol=1e-5, atol=1e-5)


@in_all_options
def test_no_output_depends_on_a_later_item(options, device):
    inputs = packed([6, 24, 5], device=device, **options)
    before = results(inputs)["out"]
    item = inputs.user(1).start + 9
    with torch.no_grad():
        for x in (inputs.q, inputs.k, inputs.v):
            x[item] += 1.0
    after = results(inputs)["out"]
    assert torch.equal(before[:item], after[:item])
    assert not torch.equal(before[item], after[item])
    assert torch.equal(before[inputs.user(2)], after[inputs.user(2)])


@in_all_options
def test_repeated_calls_are_bitwise_equal(options, device):
    inputs = packed([6, 24, 5], device=device, **options)
    first, second = results(inputs), results(inputs)
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_gradients_of_stride_zero_and_out_of_order(device):
    inputs = packed([6, 9], device=device)
    leaves = (inputs.q, inputs.k, inputs.v)

    def gradients(d_out):
        out = jagged_causal_attention(*leaves, inputs.cu_seqlens)
        return torch.autograd.grad(out, leaves, d_out(out))

    expanded = gradients(lambda out: torch.ones((), device=device).expand_as(out))
    turned = gradients(lambda out: torch.ones_like(out.transpose(0, 2)).transpose(0, 2))
    whole = gradients(torch.ones_like)
    for a, b, c in zip(expanded, turned, whole, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, c)


def test_inputs_may_be_views_of_one_projection(device):
    fused = torch.randn(15, 3, 2, 16, device=device, requires_grad=True)
    cu_seqlens = offsets([6, 9], device)
    out = jagged_causal_attention(*fused.unbind(1), cu_seqlens)
    (found,) = torch.autograd.grad(out.square().sum(), fused)
    q, k, v = (x.detach().contiguous().requires_grad_() for x in fused.unbind(1))
    apart = jagged_causal_attention(q, k, v, cu_seqlens)
    expected = torch.autograd.grad(apart.square().sum(), (q, k, v))
    assert torch.equal(out, apart)
    assert torch.equal(found, torch.stack(expected, dim=1))


def test_another_scale(device):
    inputs = packed([9, 4], device=device)
    inputs.options["softmax_scale"] = 0.7
    assert_as_exact_as_torch(inputs)


def test_one_bias_for_all_distances_changes_nothing(device):
    inputs = packed([9, 4], device=device)
    expected = results(inputs)["out"]
    inputs.options["position_bias"] = torch.randn(2, 1, device=device).requires_grad_()
    found = results(inputs)
    torch.testing.assert_close(found["out"], expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=5 if INTERPRETED else 40, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(0, 20 if INTERPRETED else 90), max_size=3 if INTERPRETED else 12),
    heads=st.integers(1, 3),
    head_dim=st.integers(8, 40),
    dropout_p=st.sampled_from([0.0, 0.1, 0.9]),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_any_shape(lengths, heads, head_dim, dropout_p, bias, dtype):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert_as_exact_as_torch(
        packed(
            lengths,
            heads=heads,
            head_dim=head_dim,
            dtype=dtype,
            device=device,
            dropout_p=dropout_p,
            bias=bias,
        )
    )
