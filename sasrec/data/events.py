"""Events out of a file that may not fit in memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from sasrec.data.vocabulary import Vocabulary


def events_of(interactions: Path, user_ids: pa.ChunkedArray) -> pa.Table:
    """The columns user_id, item_id and timestamp of these users' events, in the file's order.

    Args:
        interactions: a Parquet file of `sasrec.data.schema.INTERACTIONS`, or a folder of them.
    """
    theirs = ds.field("user_id").isin(pc.unique(user_ids))
    return ds.dataset(interactions, format="parquet").to_table(
        columns=["user_id", "item_id", "timestamp"], filter=theirs
    )


def timed_items(
    interactions: Path, vocabulary: Vocabulary
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(items, times) of all events, in parts: vocabulary indices, and microseconds.

    Args:
        interactions: as `events_of` has it.
    """
    file = ds.dataset(interactions, format="parquet")
    for batch in file.to_batches(columns=["item_id", "timestamp"]):
        times = batch["timestamp"].cast(pa.int64()).to_numpy()
        yield vocabulary.encode(batch["item_id"]), times
