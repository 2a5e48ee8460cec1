"""Named pairs of model and training settings."""

from typing import Any

from pydantic import ValidationError

from sasrec.errors import DataError, SettingsError, first_problem
from sasrec.model.config import ModelConfig
from sasrec.section import Section
from sasrec.training.config import TrainConfig


class Preset(Section):
    """A named pair of model and training settings."""

    model: ModelConfig
    train: TrainConfig

    def with_overrides(self, **fields: object) -> "Preset":
        """This preset with fields of either half replaced, checked as if written by hand.

        Raises:
            DataError: an unknown field or a value out of bounds, named in one line.
        """
        unknown = fields.keys() - ModelConfig.model_fields.keys() - TrainConfig.model_fields.keys()
        if unknown:
            known = sorted(ModelConfig.model_fields.keys() | TrainConfig.model_fields.keys())
            raise DataError(f"config: unknown field '{min(unknown)}'; known fields are {known}")
        halves: dict[str, Any] = {}
        for name, half in (("model", self.model), ("train", self.train)):
            own = {k: v for k, v in fields.items() if k in type(half).model_fields}
            try:
                halves[name] = type(half)(**{**half.model_dump(), **own})
            except ValidationError as error:
                field, message = first_problem(error)
                raise SettingsError(f"config: field '{field or name}': {message}") from None
        return Preset(**halves)


# Kang & McAuley 2018, section IV: 2 blocks, 1 head, d = 50, ReLU, BCE with one negative, dropout .2
# on MovieLens; the norm is applied to a block's input.
_PAPER = ModelConfig(dim=50, blocks=2, heads=1, max_length=200, dropout=0.2, attention_dropout=0.2)

# What benchmarks/search.py found, on validation, to add most to the paper's model.
_DEFAULT = ModelConfig(
    heads=2, position_bias=True, feed_forward="swiglu", feed_forward_multiplier=2.0
)

PRESETS: dict[str, Preset] = {
    "paper": Preset(
        model=_PAPER,
        train=TrainConfig(
            loss="bce",
            negatives=1,
            shared_negatives=False,
            epochs=400,
            patience=20,
            batch_tokens=16384,
            learning_rate=1e-3,
        ),
    ),
    "bpr": Preset(
        model=_PAPER,
        train=TrainConfig(
            loss="bpr",
            negatives=1,
            shared_negatives=False,
            epochs=400,
            patience=20,
            batch_tokens=16384,
            learning_rate=1e-3,
        ),
    ),
    # For two CPU cores as well as for a GPU.
    "default": Preset(
        model=_DEFAULT,
        train=TrainConfig(whole_histories=True),
    ),
    # Three times the arithmetic, and better where histories are long: for a GPU.
    "large": Preset(
        model=_DEFAULT.model_copy(update={"dim": 128, "blocks": 3, "heads": 4, "dropout": 0.2}),
        train=TrainConfig(whole_histories=True),
    ),
    # A handful of events a user over many items: a shop.
    "sparse": Preset(
        model=_DEFAULT.model_copy(
            update={
                "max_length": 50,
                "dropout": 0.5,
                "cosine_temperature": 0.07,
                "time_bias": True,
            }
        ),
        train=TrainConfig(whole_histories=True, weight_decay=0.3),
    ),
}


def preset(name: str, **overrides: object) -> Preset:
    """The preset `name` with single fields replaced.

    Raises:
        DataError: an unknown preset or field, or a value out of bounds.
    """
    if name not in PRESETS:
        raise DataError(f"config: unknown preset '{name}'; known presets are {sorted(PRESETS)}")
    return PRESETS[name].with_overrides(**overrides)
