"""How a model is made: with data and code, all that decides it."""

from dataclasses import dataclass

from sasrec.model.config import ModelConfig
from sasrec.training.config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """The settings of one training; equal recipes on equal data make equal models."""

    model: ModelConfig
    train: TrainConfig
