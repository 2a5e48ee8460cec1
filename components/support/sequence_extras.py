"""What a run's settings add to its sequences: item features, and weights by propensity."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from components.support.settings import RunConfig
from sasrec.data.dataset import SequenceDataset
from sasrec.data.propensities import FILE as PROPENSITIES
from sasrec.data.propensities import logged_propensities, of_histories
from sasrec.data.vocabulary import Vocabulary
from sasrec.model.item_features import ItemFeatures, described_items, feature_columns

ATTRIBUTION = timedelta(hours=24)


def known_items(run: RunConfig, met: Sequence[str], items: Path) -> list[str]:
    """The vocabulary in ascending order: items met or launched, and with features all described.

    An item that nobody has met yet is then ranked by what it is.
    """
    if not run.model.feature_buckets:
        return list(met)
    table = pq.read_table(items)
    described = described_items(table, feature_columns(table, run.data.feature_columns))
    return sorted({*met, *described})


def write_item_features(
    run: RunConfig, vocabulary: Vocabulary, items: Path, sequences: Path
) -> None:
    """Put the features of the vocabulary's items beside the sequences, if the model has any.

    Raises:
        DataError: a column is missing, or none groups items and none is named.
    """
    if not run.model.feature_buckets:
        return
    table = pq.read_table(items)
    columns = feature_columns(table, run.data.feature_columns)
    features = ItemFeatures.of(
        table, vocabulary, columns=columns, buckets=run.model.feature_buckets
    )
    features.save(sequences, columns=columns)


def write_propensities(
    run: RunConfig, dataset: SequenceDataset, interactions: Path, impressions: Path, sequences: Path
) -> None:
    """Put the propensity of each training event beside the sequences, if the run weighs by them."""
    if not run.train.propensity_weights:
        return
    names = ["user_id", "item_id", "timestamp", "request_id"]
    known = [name for name in names if name in pq.read_schema(interactions).names]
    events = pq.read_table(interactions, columns=known)
    logged = logged_propensities(events, pq.read_table(impressions), within=ATTRIBUTION)
    aligned = of_histories(logged, events, dataset.train_users, dataset.train)
    np.save(sequences / PROPENSITIES, aligned)
