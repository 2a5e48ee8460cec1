"""How a model is made: with data and code, all that decides it."""

from dataclasses import dataclass

from sasrec.model.config import ModelConfig
from sasrec.scoring.trend_config import TrendConfig
from sasrec.training.config import TrainConfig

NO_TREND = TrendConfig(enabled=False)
"""Of versions of before there were trends."""


@dataclass(frozen=True)
class Recipe:
    """The settings of one model; equal recipes on equal data make equal models."""

    model: ModelConfig
    train: TrainConfig
    trend: TrendConfig = NO_TREND
