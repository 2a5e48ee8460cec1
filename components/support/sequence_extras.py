"""What a run's settings put beside its sequences: item features, and weights by propensity."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from components.support.settings import RunConfig
from sasrec.data.digest import digest_of
from sasrec.data.packed import PackedSequences
from sasrec.data.propensities import FILE as PROPENSITIES
from sasrec.data.propensities import logged_propensities, of_histories
from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError
from sasrec.model.config import ModelConfig
from sasrec.model.item_features import (
    FeatureColumns,
    ItemFeatures,
    described_items,
    feature_columns,
)
from sasrec.training.config import TrainConfig
from sasrec.training.losses import inverse_propensity_weights


@dataclass(frozen=True)
class RunTables:
    """The cleaned tables of a run, as Parquet files."""

    interactions: Path
    items: Path
    impressions: Path


def known_items(run: RunConfig, known: Iterable[str], items: Path) -> list[str]:
    """A vocabulary in ascending order: `known`, and with features every item that has one.

    An item that nobody has met yet is then ranked by what it is.
    """
    if not run.model.feature_buckets:
        return sorted(known)
    table = pq.read_table(items)
    described = described_items(table, feature_columns(table, run.data.feature_columns))
    return sorted({*known, *described})


def write_extras(
    run: RunConfig,
    tables: RunTables,
    vocabulary: Vocabulary,
    users: Sequence[str],
    histories: PackedSequences,
    folder: Path,
) -> None:
    """Put beside sequences in `folder` what the run's settings ask for.

    Args:
        users: one id per history.
        histories: what is learned from, in `vocabulary`.

    Raises:
        DataError: a column of the items is missing, or none groups items and none is named.
    """
    if buckets := run.model.feature_buckets:
        table = pq.read_table(tables.items)
        columns = feature_columns(table, run.data.feature_columns)
        features = ItemFeatures.of(table, vocabulary, columns=columns, buckets=buckets)
        features.save(folder, FeatureColumns.of(table, columns))
    if run.train.propensity_weights:
        names = ["user_id", "item_id", "timestamp", "request_id"]
        found = pq.ParquetDataset(tables.interactions).schema.names  # a file, or a folder of Spark
        events = pq.read_table(tables.interactions, columns=[n for n in names if n in found])
        slots = pq.read_table(tables.impressions)
        logged = logged_propensities(
            events, slots, within=timedelta(hours=run.events.attribution_hours)
        )
        np.save(folder / PROPENSITIES, of_histories(logged, events, users, histories))


@dataclass(frozen=True)
class SequenceExtras:
    """What `write_extras` put beside sequences.

    Attributes:
        buckets: that the features were hashed into.
        item_features: of the vocabulary; None where the run takes none.
        propensities: (T,) of each event that is learned from; None where the run takes none.
    """

    buckets: int
    item_features: ItemFeatures | None
    propensities: np.ndarray | None

    @classmethod
    def load(cls, run: RunConfig, folder: Path) -> "SequenceExtras":
        """Read what stands in the folder of the sequences."""
        propensities = np.load(folder / PROPENSITIES) if run.train.propensity_weights else None
        return cls(run.model.feature_buckets, ItemFeatures.load(folder), propensities)

    @property
    def digest(self) -> str:
        """Of the contents: two trainings on other extras are other trainings."""
        features = self.item_features
        arrays = [] if features is None else [features.rows, features.offsets]
        arrays += [] if self.propensities is None else [self.propensities]
        return digest_of(*arrays)

    def features_of(self, model: ModelConfig) -> ItemFeatures | None:
        """The features for a model of this architecture; None if there are none of its size."""
        return self.item_features if model.feature_buckets == self.buckets else None

    def weigh(self, histories: PackedSequences, config: TrainConfig) -> PackedSequences:
        """The histories, with what their events weigh under `config`.

        Raises:
            DataError: it weighs by propensity, and the run has extracted none.
        """
        if not config.propensity_weights:
            return histories
        if self.propensities is None:
            raise DataError("training: propensities are missing; set train.propensity_weights")
        weights = inverse_propensity_weights(self.propensities, config.propensity_clip)
        if histories.weights is not None:
            weights = weights * histories.weights
        return replace(histories, weights=weights)
