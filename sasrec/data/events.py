"""Some users' events out of a file that may not fit in memory."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds


def events_of(interactions: Path, user_ids: pa.ChunkedArray) -> pa.Table:
    """The columns user_id, item_id and timestamp of these users' events, in the file's order.

    Args:
        interactions: a Parquet file of `sasrec.data.schema.INTERACTIONS`, or a folder of them.
    """
    theirs = ds.field("user_id").isin(pc.unique(user_ids))
    return ds.dataset(interactions, format="parquet").to_table(
        columns=["user_id", "item_id", "timestamp"], filter=theirs
    )
