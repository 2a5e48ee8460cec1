"""What an architecture can choose."""

from typing import Literal

from pydantic import Field

from kernels.attention.limits import HEAD_DIM_MAX, HEAD_DIM_MIN
from sasrec.section import Probability, Section


class ModelConfig(Section):
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
