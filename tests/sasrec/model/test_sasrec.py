import pytest
import torch

from sasrec.model.sasrec import SASRec
from sasrec.presets import preset

VARIANTS = [
    {},
    {"norm": "post", "feed_forward": "swiglu", "positions": "newest"},
    {"heads": 2, "position_bias": True, "time_bias": True, "positions": "none"},
    {"cosine_temperature": 0.1},
]


def model(**overrides):
    torch.manual_seed(0)
    built = SASRec(preset("default", **({"dim": 16, "max_length": 8} | overrides)).model, 20)
    for name, parameter in built.named_parameters():
        if "bias" in name:  # zero at the start: give every term something to do
            torch.nn.init.normal_(parameter)
    return built.eval()


def inputs(*sequences):
    items = torch.tensor([item for sequence in sequences for item in sequence])
    lengths = [len(sequence) for sequence in sequences]
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    times = torch.cat([torch.arange(length) ** 3 for length in lengths])
    return items, cu_seqlens, times


@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_a_state_depends_on_its_own_past_alone(variant):
    both = model(**variant)(*inputs([1, 2, 3, 4], [5, 6]))
    changed = model(**variant)(*inputs([1, 2, 3, 9], [7, 8]))
    assert torch.equal(both[:3], changed[:3]) or variant.get("positions") == "newest"
    assert torch.allclose(both[:3], changed[:3], atol=1e-6)
    alone = model(**variant)(*inputs([1, 2, 3, 4]))
    assert torch.allclose(both[:4], alone, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_encoding_the_last_event_is_the_last_row(variant):
    arguments = inputs([1, 2, 3], [4], [5, 6])
    last = model(**variant).encode_last(*arguments)
    assert torch.allclose(last, model(**variant)(*arguments)[[2, 3, 5]], atol=1e-6)


@torch.inference_mode()
def test_positions_count_from_the_oldest_or_the_newest_event():
    _, cu_seqlens, _ = inputs([1, 2, 3], [4, 5])
    assert model()._positions(5, cu_seqlens).tolist() == [0, 1, 2, 0, 1]
    newest = model(positions="newest")
    assert newest._positions(5, cu_seqlens).tolist() == [2, 1, 0, 1, 0]


@torch.inference_mode()
def test_order_and_time_matter_when_they_should():
    items, cu_seqlens, times = inputs([1, 2, 3])
    plain, timed = model(), model(time_bias=True)
    assert torch.equal(plain(items, cu_seqlens, times), plain(items, cu_seqlens, times * 9))
    assert not torch.allclose(timed(items, cu_seqlens, times), timed(items, cu_seqlens, times * 9))
    swapped = torch.tensor([2, 1, 3])
    assert not torch.allclose(plain(items, cu_seqlens)[2], plain(swapped, cu_seqlens)[2])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant):
    built = model(**variant).train()
    built(*inputs([1, 2, 3, 4], [5, 6])).pow(2).mul(torch.arange(16)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in built.parameters())


def test_scores_are_tied_to_the_input_embedding():
    built = model()
    assert built.item_matrix() is built.item_embedding.weight
    assert built.item_matrix().shape == (21, 16)
    assert not SASRec(built.config, 20).item_matrix()[0].any()


@torch.inference_mode()
def test_cosine_scores_lie_within_one_over_the_temperature():
    built = model(cosine_temperature=0.1)
    scores = built(*inputs([1, 2, 3], [4])) @ built.item_matrix()[1:].T
    assert 5 < scores.abs().max() <= 10.001
