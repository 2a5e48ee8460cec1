"""The registration with torch.library: opcheck, torch.compile and autocast."""

import pytest
import torch

from kernels import jagged_causal_attention, next_item_cross_entropy, sampled_cross_entropy
from kernels.attention.operators import attention, attention_backward
from kernels.cross_entropy.operators import items_gradient, log_sum_exp, next_item_losses
from tests.kernels.packed import packed, results

# What opcheck tries besides these, compiling with symbolic shapes, test_compile_* covers.
CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("dropout_p", [0.0, 0.3], ids=["", "dropout"])
def test_attention_operators_are_as_declared(dropout_p, bias, device):
    inputs = packed([4, 0, 7], device=device, bias=bias)
    q, k, v = inputs.q, inputs.k, inputs.v
    seed = torch.tensor([3], device=device) if dropout_p else None
    tables = [inputs.options.get(n) for n in ("position_bias", "time_bias", "timestamps")]
    rest = (inputs.cu_seqlens, seed, *tables, dropout_p, 0.25)
    torch.library.opcheck(attention, (q, k, v, *rest), test_utils=CHECKS)
    with torch.no_grad():
        out, lse = attention(q, k, v, *rest)
        q, k, v, *rest = (
            x.detach() if isinstance(x, torch.Tensor) else x for x in (q, k, v, *rest)
        )
        backward = (torch.ones_like(out), torch.ones_like(lse), out, lse, q, k, v, *rest)
        torch.library.opcheck(attention_backward, backward, test_utils=CHECKS)


def test_loss_operators_are_as_declared(device):
    hidden = torch.randn(5, 16, device=device, requires_grad=True)
    items = torch.randn(9, 16, device=device, requires_grad=True)
    targets = torch.tensor([0, 3, 3, 8, 1], device=device)
    ids, offset = torch.arange(9, device=device), torch.randn(9, device=device)
    torch.library.opcheck(next_item_losses, (hidden, items, targets, True), test_utils=CHECKS)
    sampled = (hidden, items, offset, ids, targets, True)
    torch.library.opcheck(log_sum_exp, sampled, test_utils=CHECKS)
    hidden, items = hidden.detach(), items.detach()
    lse, _ = log_sum_exp(hidden, items, offset, ids, targets, False)
    gradient = (torch.ones_like(lse), lse, None, hidden, items, offset, ids, targets)
    torch.library.opcheck(items_gradient, gradient, test_utils=CHECKS)


def test_compile_attention_once_for_all_lengths(device):
    compilations = 0

    def counted(graph, _):
        nonlocal compilations
        compilations += 1
        return graph

    compiled = torch.compile(jagged_causal_attention, backend=counted, fullgraph=True, dynamic=True)
    for lengths in ([4, 9], [3, 3, 8, 2], [17, 2, 5]):
        inputs = packed(lengths, device=device, bias=True, dropout_p=0.2)
        inputs.options["dropout_seed"] = torch.tensor([7], device=device)
        arguments = (inputs.q, inputs.k, inputs.v, inputs.cu_seqlens)
        expected = jagged_causal_attention(*arguments, **inputs.options)
        assert torch.equal(compiled(*arguments, **inputs.options), expected)
    assert compilations == 1


def test_compiled_gradients_are_the_same(device):
    inputs = packed([4, 9], device=device, bias=True)

    def loss(q, k, v, position_bias, time_bias):
        out = jagged_causal_attention(
            q,
            k,
            v,
            inputs.cu_seqlens,
            position_bias=position_bias,
            time_bias=time_bias,
            timestamps=inputs.options["timestamps"],
        )
        return out.square().sum()

    leaves = list(inputs.leaves().values())
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(*leaves), leaves)
    expected = torch.autograd.grad(loss(*leaves), leaves)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_compiled_losses_are_the_same(device):
    hidden = torch.randn(5, 16, device=device, requires_grad=True)
    items = torch.randn(9, 16, device=device, requires_grad=True)
    targets = torch.tensor([0, 3, 3, 8, 1], device=device)
    negatives = torch.tensor([2, 3, 5], device=device)

    def loss(hidden, items):
        full = next_item_cross_entropy(hidden, items, targets)
        return full + sampled_cross_entropy(hidden, items, targets, negatives)

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(hidden, items), (hidden, items))
    expected = torch.autograd.grad(loss(hidden, items), (hidden, items))
    torch.testing.assert_close(found, expected)


def test_autocast_converts_the_inputs(device):
    inputs = packed([4, 9], device=device)
    with torch.autocast(device, torch.bfloat16):
        found = results(inputs)
    assert found["out"].dtype == torch.bfloat16
    assert found["lse"].dtype == torch.float32
    assert found["d_q"].dtype == torch.float32
    half = results(inputs.to(torch.bfloat16))
    assert torch.equal(found["out"], half["out"])

    hidden, items = torch.randn(5, 16, device=device), torch.randn(9, 16, device=device)
    targets = torch.tensor([0, 3, 3, 8, 1], device=device)
    with torch.autocast(device, torch.bfloat16):
        loss = next_item_cross_entropy(hidden, items, targets)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, next_item_cross_entropy(hidden.bfloat16(), items.bfloat16(), targets))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_replays_of_one_cuda_graph_differ_by_the_seed():
    inputs = packed([40, 90], device="cuda")
    seed = torch.zeros(1, dtype=torch.int64, device="cuda")
    arguments = (inputs.q.detach(), inputs.k.detach(), inputs.v.detach(), inputs.cu_seqlens)

    def attention():
        return jagged_causal_attention(*arguments, dropout_p=0.5, dropout_seed=seed)

    attention()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = attention()
    found = []
    for value in (1, 2):
        seed.fill_(value)
        graph.replay()
        found.append(out.clone())
        assert torch.equal(found[-1], attention())
    assert not torch.equal(*found)
