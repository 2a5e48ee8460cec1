"""What a training can choose."""

from typing import Literal

from pydantic import Field

from sasrec.section import Positive, Probability, Section

Loss = Literal["bpr", "bce", "cross_entropy", "sampled_softmax", "gbce"]
"""The functions of `sasrec.training.losses`; `Objective` chooses."""


class TrainConfig(Section):
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
