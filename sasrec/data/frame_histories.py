"""Histories straight from a table of interactions, where no feature store stands between."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def histories_before(interactions: pa.Table, cutoffs: pa.Table) -> pa.Table:
    """What each user did strictly before a time: the feature store's answer, computed in memory.

    Args:
        interactions: cleaned: sorted by user, then by strictly increasing time.
        cutoffs: columns `user_id` and `cutoff`; every user has an interaction.

    Returns:
        `item_ids` and `timestamps` lists, row for row with `cutoffs`.
    """
    users = interactions["user_id"].combine_chunks().dictionary_encode()
    code = users.indices.to_numpy()
    asked = pc.index_in(cutoffs["user_id"], value_set=users.dictionary).to_numpy()
    time = interactions["timestamp"].cast(pa.int64()).to_numpy()
    cutoff = cutoffs["cutoff"].cast(pa.int64()).to_numpy()
    # Users and times in one ordered key: each is replaced by its rank among all times.
    ranks = np.unique(np.concatenate([time, cutoff]))
    key = code.astype(np.int64) * len(ranks) + np.searchsorted(ranks, time)
    end = np.searchsorted(key, asked.astype(np.int64) * len(ranks) + np.searchsorted(ranks, cutoff))
    start = np.searchsorted(code, asked)
    lengths = end - start
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths)
    events = interactions.select(["item_id", "timestamp"]).take(pa.array(rows))
    return pa.table(
        {
            "item_ids": _lists(offsets, events["item_id"]),
            "timestamps": _lists(offsets, events["timestamp"]),
        }
    )


def _lists(offsets: np.ndarray, values: pa.ChunkedArray) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values.combine_chunks())
