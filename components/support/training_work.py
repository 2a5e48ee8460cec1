"""One training of a run: its sequences, what stands beside them, and what it begins from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.support.settings import RunConfig
from sasrec.data.dataset import SequenceDataset
from sasrec.data.digest import digest_of
from sasrec.data.propensities import FILE as PROPENSITIES
from sasrec.model.item_features import ItemFeatures
from sasrec.model.recommender import Recommender
from sasrec.training import loop as training
from sasrec.training.loop import TrainResult
from sasrec.training.losses import inverse_propensity_weights


@dataclass(frozen=True)
class TrainingWork:
    """What a training reads, however many processes share it.

    Attributes:
        weights: (T,) of each training event by its propensity; None where the run takes none.
    """

    run: RunConfig
    dataset: SequenceDataset
    item_features: ItemFeatures | None
    weights: np.ndarray | None

    @classmethod
    def load(cls, run: RunConfig, sequences: Path) -> "TrainingWork":
        """Read what `extract_sequences` wrote."""
        weights = None
        if run.train.propensity_weights:
            propensities = np.load(sequences / PROPENSITIES)
            weights = inverse_propensity_weights(propensities, run.train.propensity_clip)
        return cls(run, SequenceDataset.load(sequences), ItemFeatures.load(sequences), weights)

    @property
    def digest(self) -> str:
        """Of what the split's hash does not cover: weights and item features."""
        features = self.item_features
        arrays = [self.dataset.train.weights, self.weights]
        arrays += [features.rows, features.offsets] if features else []
        return digest_of(*(array for array in arrays if array is not None))

    def train(self, run_dir: Path, *, warm_start: Path | None) -> TrainResult:
        """Train in `run_dir`; from the weights in the model directory `warm_start`, if given."""
        return training.train(
            self.dataset.train,
            self.dataset.validation,
            self.dataset.vocabulary,
            self.run.model,
            self.run.train,
            run_dir,
            weights=self.weights,
            warm_start=warm_start and Recommender.load(warm_start),
            item_features=self.item_features,
        )

    def describe(self) -> dict[str, Any]:
        """For the run's summary: which abilities were in use, as JSON can hold it."""
        event_weights = self.dataset.train.weights
        return {
            "features_of_items": 0 if self.item_features is None else len(self.item_features.rows),
            "weighed_by_propensity": None
            if self.weights is None
            else float((self.weights != 1).mean()),
            "weighed_by_event_type": event_weights is not None,
        }
