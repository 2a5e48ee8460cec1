"""What a run can choose: the model, its training, and the named presets of both."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kernels.attention.checks import HEAD_DIM_MAX, HEAD_DIM_MIN
from sasrec.errors import DataError, SettingsError, first_problem

Positive = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]

Loss = Literal["bpr", "bce", "cross_entropy", "sampled_softmax", "gbce"]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(_Config):
    """The architecture: everything needed to rebuild the module that a weights file fits."""

    dim: int = Field(
        default=64, ge=8, le=2048, description="Width of item embeddings and hidden states."
    )
    blocks: int = Field(default=2, ge=1, le=48, description="Self-attention blocks.")
    heads: int = Field(default=1, ge=1, le=64, description="Attention heads; must divide dim.")
    max_length: int = Field(
        default=200, ge=2, le=8192, description="Newest events of a history used."
    )
    dropout: Probability = Field(
        default=0.1, description="On embeddings and each sub-layer's output."
    )
    attention_dropout: Probability = Field(default=0.0, description="On attention weights.")
    norm: Literal["pre", "post"] = Field(
        default="pre", description="Layer norm before or after a block."
    )
    feed_forward: Literal["relu", "swiglu"] = Field(
        default="relu", description="The paper's two-layer ReLU, or SwiGLU (Shazeer 2020)."
    )
    feed_forward_multiplier: float = Field(
        default=1.0, gt=0, le=8, description="Width of the feed-forward layer over dim."
    )
    positions: Literal["oldest", "newest", "none"] = Field(
        default="oldest", description="Where absolute positions count from within a history."
    )
    position_bias: bool = Field(
        default=False, description="Learned attention bias by distance within the history."
    )
    time_bias: bool = Field(
        default=False, description="Learned attention bias by elapsed time, in octaves of seconds."
    )
    cosine_temperature: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Scores are cosines over this; 0 scores by the plain product of the paper.",
    )
    feature_buckets: int = Field(
        default=0, ge=0, description="Rows of the hashed table of item features; 0 uses none."
    )
    id_dropout: Probability = Field(
        default=0.1,
        description="Share of items that a training step knows by their features alone.",
    )

    def model_post_init(self, _: object) -> None:
        """Refuse heads that do not divide the width, or that attention does not take."""
        if self.dim % self.heads:
            raise ValueError(f"heads={self.heads} must divide dim={self.dim}")
        if not HEAD_DIM_MIN <= self.dim // self.heads <= HEAD_DIM_MAX:
            raise ValueError(
                f"heads={self.heads} of dim={self.dim} are {self.dim // self.heads} wide; "
                f"attention takes {HEAD_DIM_MIN} to {HEAD_DIM_MAX}"
            )


class TrainConfig(_Config):
    """How the model is fitted."""

    loss: Loss = Field(default="cross_entropy", description="See sasrec.training.losses.")
    negatives: Positive = Field(default=512, description="Sampled items for losses that sample.")
    shared_negatives: bool = Field(
        default=True,
        description="One draw per step for all its events, or one per event, of items its user has "
        "not met (few negatives).",
    )
    sampling: Literal["uniform", "popularity", "in_batch"] = Field(
        default="uniform", description="Where negatives are drawn from."
    )
    gbce_calibration: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="t of gBCE: 0 is BCE, 1 undoes the sampling's overconfidence.",
    )
    learning_rate: float = Field(
        default=4e-3, gt=0, le=1, description="Adam's step size after warm-up."
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Decoupled, as in AdamW.")
    warmup_steps: int = Field(default=100, ge=0, description="Steps of linear warm-up.")
    averaging: Probability = Field(
        default=0.995,
        description="Decay per step of the moving average of the weights that is validated and "
        "returned; 0 takes the weights themselves.",
    )
    gradient_clip: float = Field(default=1.0, gt=0, description="Largest global gradient norm.")
    epochs: int = Field(
        default=200, ge=0, description="Upper bound; 0 returns the model untrained."
    )
    patience: Positive = Field(
        default=10, description="Validations without a better NDCG@10 to stop at."
    )
    validate_every: Positive = Field(default=1, description="Epochs between validations.")
    batch_tokens: int = Field(
        default=4096,
        ge=2,
        description="Events per step, over all processes; histories are never split.",
    )
    whole_histories: bool = Field(
        default=False,
        description="Learn from all of a history, cut into windows of max_length events, and not "
        "from its newest window alone.",
    )
    warm_start: Literal["none", "champion"] = Field(
        default="none",
        description="Of a run: begin from the champion's weights, where it has learned from "
        "nothing that this run evaluates on and has the same architecture.",
    )
    propensity_weights: bool = Field(
        default=False,
        description="Of a run: weigh events that a served slot led to by the inverse of its "
        "propensity.",
    )
    propensity_clip: float = Field(
        default=10.0, ge=1, description="Largest such weight, as a multiple of the median one."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Of matrix products; weights and optimiser stay float32."
    )
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Of initialisation, order, dropout, negatives."
    )


class Preset(_Config):
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
                raise SettingsError(f"{name}.{field}: {message}") from None
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
