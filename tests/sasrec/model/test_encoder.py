"""The encoder of one history is the model, whatever the model's options."""

import itertools

import pytest
import torch

from sasrec.model.config import ModelConfig
from sasrec.model.encoder import Encoder, alike
from sasrec.model.sasrec import SASRec

ITEMS = 50
LONGEST = 20
OPTIONS = {
    "norm": ["pre", "post"],
    "feed_forward": ["relu", "swiglu"],
    "positions": ["oldest", "newest", "none"],
    "position_bias": [False, True],
    "time_bias": [False, True],
    "cosine_temperature": [0.0, 0.05],
}


def random_model(**options: object) -> SASRec:
    """Every weight random, so that none of them can be left out unnoticed."""
    torch.manual_seed(0)
    config = ModelConfig(dim=32, heads=2, blocks=3, max_length=LONGEST, **options)
    model = SASRec(config, ITEMS).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


@pytest.mark.parametrize("values", list(itertools.product(*OPTIONS.values())), ids=str)
def test_the_hidden_state_is_that_of_the_model(values):
    model = random_model(**dict(zip(OPTIONS, values, strict=True)))
    encoder = Encoder(model)
    for length in (1, 2, 7, LONGEST):
        items = torch.randint(1, ITEMS + 1, (length,))
        seconds = torch.randint(0, 10**7, (length,)).cumsum(0) + 1_700_000_000
        with torch.inference_mode():
            cu_seqlens = torch.tensor([0, length], dtype=torch.int32)
            expected = model.encode_last(items, cu_seqlens, seconds)[0]
            torch.testing.assert_close(encoder.encode(items, seconds), expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"positions": "newest", "position_bias": True},
        {"positions": "none", "time_bias": True, "norm": "post"},
        {"position_bias": True, "time_bias": True, "cosine_temperature": 0.05},
    ],
    ids=str,
)
@pytest.mark.parametrize("most_events", [2048, 24])
def test_histories_together_are_what_they_are_alone(options, most_events, monkeypatch):
    monkeypatch.setattr("sasrec.model.encoder.MOST_EVENTS", most_events)
    encoder = Encoder(random_model(**options))
    lengths = [3, LONGEST, 1, 4, 19, 7, 1, 6]
    items = torch.randint(1, ITEMS + 1, (sum(lengths),))
    seconds = torch.cat([torch.randint(0, 10**7, (n,)).cumsum(0) for n in lengths])
    with torch.inference_mode():
        together = encoder.encode_rows(encoder.matrix[items], seconds, lengths)
        alone = [
            encoder.encode(*history)
            for history in zip(items.split(lengths), seconds.split(lengths), strict=True)
        ]
    torch.testing.assert_close(together, torch.stack(alone))


def test_only_histories_of_about_one_length_are_padded_to_one():
    groups = list(alike([5, 200, 9, 1, 150, 10]))
    assert sorted(i for group in groups for i in group) == list(range(6))
    assert groups == [[3], [0, 2], [5], [4, 1]]


def test_only_the_newest_events_count():
    encoder = Encoder(random_model(time_bias=True))
    items, seconds = torch.arange(1, 41), torch.arange(40) ** 3
    with torch.inference_mode():
        longer = encoder.encode(items, seconds)
        newest = encoder.encode(items[-LONGEST:], seconds[-LONGEST:])
    assert torch.equal(longer, newest)
