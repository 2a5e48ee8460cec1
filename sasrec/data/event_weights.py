"""What an event of each type weighs as a target, as the cleaned interactions say it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from sasrec.errors import DataError

WEIGHT = "weight"
"""Column of cleaned interactions, float32."""


def read_event_weights(interactions: Path) -> dict[str, float] | None:
    """Event type -> its weight; None where all weigh one, or where there is no column `weight`.

    Args:
        interactions: a Parquet file or a folder of them, read batch by batch.

    Raises:
        DataError: a type has two weights, or one that is not a positive number.
    """
    file = ds.dataset(interactions, format="parquet")
    if WEIGHT not in file.schema.names:
        return None
    found: dict[str, float] = {}
    for batch in file.to_batches(columns=["event_type", WEIGHT]):
        distinct = pa.Table.from_batches([batch]).group_by(["event_type", WEIGHT]).aggregate([])
        for row in distinct.to_pylist():
            weight = found.setdefault(row["event_type"], row[WEIGHT])
            if weight != row[WEIGHT]:
                raise DataError(
                    f"{interactions}: column 'weight' holds {weight} and {row[WEIGHT]} for the "
                    f"event type '{row['event_type']}'; an event type has one weight"
                )
            if weight is None or not 0 < weight < float("inf"):
                raise DataError(
                    f"{interactions}: column 'weight' holds {weight} for the event type "
                    f"'{row['event_type']}'; a weight is a positive number"
                )
    return found if any(weight != 1 for weight in found.values()) else None
