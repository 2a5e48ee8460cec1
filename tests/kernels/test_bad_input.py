"""Bad input: a ``ValueError`` that names the argument and says what was expected."""

import pytest
import torch

from kernels import jagged_causal_attention, next_item_cross_entropy, sampled_cross_entropy

HALF = torch.float16
X = torch.zeros(5, 2, 16)
OFFSETS = torch.tensor([0, 2, 5], dtype=torch.int32)
TIMES = torch.arange(5)


def offsets(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


ATTENTION = {
    "q of two dimensions": ({"q": X[0]}, r"^q: expected shape \(tokens, heads, head_dim\)"),
    "integers": ({"q": X.int()}, "^q: expected one of float32, bfloat16, float16"),
    "head dimension below": (dict.fromkeys("qkv", X[..., :7]), "^q: .* from 8 to 128, got 7"),
    "head dimension above": ({n: torch.zeros(5, 2, 136) for n in "qkv"}, "^q: .*got 136"),
    "no heads": (dict.fromkeys("qkv", X[:, :0]), "^q: expected at least one head"),
    "k of another shape": ({"k": X[1:]}, r"^k: expected q's shape \(5, 2, 16\)"),
    "v of another dtype": ({"v": X.to(HALF)}, "^v: expected q's dtype torch.float32"),
    "k on another device": ({"k": X.to("meta")}, "^k: expected q's device cpu, got meta"),
    "offsets of int64": ({"cu_seqlens": OFFSETS.long()}, "^cu_seqlens: expected int32"),
    "offsets of two dimensions": ({"cu_seqlens": OFFSETS[None]}, "^cu_seqlens: expected shape"),
    "no offsets": ({"cu_seqlens": OFFSETS[:0]}, "^cu_seqlens: expected shape"),
    "offsets from 1": ({"cu_seqlens": offsets(1, 5)}, "^cu_seqlens: .* first value of 0, got 1"),
    "decreasing offsets": ({"cu_seqlens": offsets(0, 4, 3, 5)}, "^cu_seqlens: .*never decrease"),
    "offsets that end early": ({"cu_seqlens": offsets(0, 4)}, "^cu_seqlens: .*last value of 5"),
    "dropout of 1": ({"dropout_p": 1.0}, r"^dropout_p: expected a probability in \[0, 1\)"),
    "negative dropout": ({"dropout_p": -0.1}, "^dropout_p: "),
    "dropout that is no number": ({"dropout_p": float("nan")}, "^dropout_p: "),
    "seed of 65 bits": ({"dropout_p": 0.1, "dropout_seed": 2**63}, "^dropout_seed: .*64-bit"),
    "two seeds": (
        {"dropout_p": 0.1, "dropout_seed": torch.zeros(2, dtype=torch.int64)},
        "^dropout_seed: expected an int64 tensor with one element",
    ),
    "bias for other heads": ({"position_bias": torch.zeros(3, 4)}, "^position_bias: .*2 heads"),
    "empty bias": ({"position_bias": torch.zeros(2, 0)}, "^position_bias: "),
    "integer bias": ({"position_bias": torch.zeros(2, 4).int()}, "^position_bias: .*float32"),
    "time bias alone": ({"time_bias": torch.zeros(2, 4)}, "^timestamps: .*got timestamps missing"),
    "timestamps alone": ({"timestamps": TIMES}, "^timestamps: .*got timestamps alone"),
    "timestamps of int32": (
        {"time_bias": torch.zeros(2, 4), "timestamps": TIMES.int()},
        "^timestamps: expected int64",
    ),
    "too few timestamps": (
        {"time_bias": torch.zeros(2, 4), "timestamps": TIMES[1:]},
        r"^timestamps: expected shape \(5,\)",
    ),
    "decreasing timestamps": (
        {"time_bias": torch.zeros(2, 4), "timestamps": TIMES.flip(0)},
        "^timestamps: expected seconds that do not decrease within a sequence, got a step of -1",
    ),
}


@pytest.mark.parametrize(("change", "message"), ATTENTION.values(), ids=ATTENTION.keys())
def test_attention_refuses(change, message):
    arguments = {"q": X, "k": X, "v": X, "cu_seqlens": OFFSETS} | change
    with pytest.raises(ValueError, match=message):
        jagged_causal_attention(**arguments)


def test_timestamps_may_decrease_between_users():
    timestamps = torch.tensor([8, 9, 1, 2, 3])
    bias = torch.zeros(2, 4)
    jagged_causal_attention(X, X, X, OFFSETS, time_bias=bias, timestamps=timestamps)
    # Empty users at both ends.
    bounds = offsets(0, 0, 2, 2, 5, 5)
    jagged_causal_attention(X, X, X, bounds, time_bias=bias, timestamps=timestamps)


HIDDEN, ITEMS = torch.zeros(4, 8), torch.zeros(6, 8)
TARGETS, NEGATIVES = torch.tensor([0, 1, 2, 5]), torch.tensor([3, 3, 4])
LOSSES = {
    "hidden of one dimension": ({"hidden": HIDDEN[0]}, "^hidden: expected shape"),
    "hidden of integers": ({"hidden": HIDDEN.int()}, "^hidden: expected one of"),
    "items of another width": ({"item_embedding": ITEMS[:, 1:]}, "^item_embedding: .*8"),
    "no items": ({"item_embedding": ITEMS[:0]}, "^item_embedding: .*at least 1"),
    "items of another dtype": ({"item_embedding": ITEMS.to(HALF)}, "^item_embedding: .*dtype"),
    "targets of int32": ({"targets": TARGETS.int()}, "^targets: expected int64"),
    "too few targets": ({"targets": TARGETS[1:]}, r"^targets: expected shape \(4,\)"),
    "a target past the end": ({"targets": TARGETS + 1}, "^targets: expected rows from 0 to 5, got"),
    "a negative target": ({"targets": TARGETS - 1}, "^targets: .*values from -1 to 4"),
    "too few weights": ({"weights": torch.ones(3)}, r"^weights: expected shape \(4,\)"),
    "integer weights": ({"weights": torch.ones(4).int()}, "^weights: .*floating-point"),
    "an unknown reduction": ({"reduction": "max"}, "^reduction: expected 'mean', 'sum' or 'none'"),
}
SAMPLED = {
    "negatives of int32": ({"negatives": NEGATIVES.int()}, "^negatives: expected int64"),
    "negatives of two dimensions": ({"negatives": NEGATIVES[None]}, "^negatives: expected shape"),
    "a negative past the end": ({"negatives": NEGATIVES + 2}, "^negatives: .*rows from 0 to 5"),
    "log q of another size": ({"negative_log_q": torch.zeros(4)}, r"^negative_log_q: .*\(3,\)"),
    "integer log q": ({"target_log_q": torch.zeros(4).int()}, "^target_log_q: .*floating-point"),
}


@pytest.mark.parametrize(("change", "message"), LOSSES.values(), ids=LOSSES.keys())
def test_both_losses_refuse(change, message):
    arguments = {"hidden": HIDDEN, "item_embedding": ITEMS, "targets": TARGETS} | change
    with pytest.raises(ValueError, match=message):
        next_item_cross_entropy(**arguments)
    with pytest.raises(ValueError, match=message):
        sampled_cross_entropy(**arguments, negatives=NEGATIVES)


@pytest.mark.parametrize(("change", "message"), SAMPLED.values(), ids=SAMPLED.keys())
def test_sampled_loss_refuses(change, message):
    arguments = {"targets": TARGETS, "negatives": NEGATIVES} | change
    with pytest.raises(ValueError, match=message):
        sampled_cross_entropy(HIDDEN, ITEMS, **arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpus_contents_are_checked_in_debug_mode(monkeypatch):
    monkeypatch.setenv("KERNELS_DEBUG", "1")
    x = X.cuda()
    with pytest.raises(ValueError, match=r"^cu_seqlens: .*last value of 5"):
        jagged_causal_attention(x, x, x, offsets(0, 4).cuda())
