"""The presets that have a name."""

from sasrec.model.config import ModelConfig
from sasrec.presets.settings import Preset
from sasrec.training.config import TrainConfig

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
