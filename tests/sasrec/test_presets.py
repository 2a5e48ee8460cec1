import pytest
from pydantic import ValidationError

from sasrec.errors import DataError
from sasrec.model.config import ModelConfig
from sasrec.presets import PRESETS, preset
from sasrec.training.config import TrainConfig


def test_the_paper_preset_is_the_paper():
    model, train = PRESETS["paper"].model, PRESETS["paper"].train
    assert (model.dim, model.blocks, model.heads, model.feed_forward) == (50, 2, 1, "relu")
    assert (train.loss, train.negatives, train.shared_negatives) == ("bce", 1, False)


def test_the_bpr_preset_differs_from_the_paper_in_its_loss_alone():
    paper, bpr = PRESETS["paper"], PRESETS["bpr"]
    assert bpr.model == paper.model
    assert bpr.train == paper.train.model_copy(update={"loss": "bpr"})


def test_overrides_reach_both_halves():
    chosen = preset("default", dim=32, epochs=7)
    assert (chosen.model.dim, chosen.train.epochs) == (32, 7)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("fast", {}, "preset 'fast' is unknown; did you mean"),
        ("default", {"width": 3}, "setting 'width' is unknown"),
        ("default", {"max_length": 1}, r"model\.max_length: "),
        ("default", {"dropout": 1.0}, r"model\.dropout: "),
        ("default", {"learning_rate": float("nan")}, r"train\.learning_rate: "),
        ("default", {"loss": "hinge"}, r"train\.loss: "),
        ("default", {"dim": 50, "heads": 3}, "heads=3 must divide dim=50"),
        ("default", {"dim": 512, "heads": 2}, "heads=2 of dim=512 are 256 wide"),
    ],
)
def test_bad_settings_are_named_in_one_line(name, overrides, message):
    with pytest.raises(DataError, match=message) as caught:
        preset(name, **overrides)
    assert "\n" not in str(caught.value)


def test_configurations_are_frozen_and_closed():
    with pytest.raises(ValidationError):
        ModelConfig(depth=3)
    with pytest.raises(ValidationError):
        TrainConfig().epochs = 3


def test_every_field_is_described():
    for config in (ModelConfig, TrainConfig):
        assert all(field.description for field in config.model_fields.values())
