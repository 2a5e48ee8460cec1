"""The Arrow contracts between the parts of the system, and the check at every boundary."""

import pyarrow as pa
import pyarrow.compute as pc

from sasrec.errors import DataError

TIMESTAMP = pa.timestamp("us", tz="UTC")

# Characters of a user or item id, in a file as in a request.
MAX_ID_LENGTH = 256


def _required(name: str, dtype: pa.DataType) -> pa.Field:
    return pa.field(name, dtype, nullable=False)


# `sequence` is the row order of the source. After cleaning, `timestamp` strictly increases within
# a user: ties are spread by 1 us in `sequence` order, so time alone orders a history everywhere.
INTERACTIONS = pa.schema(
    [
        _required("user_id", pa.string()),
        _required("item_id", pa.string()),
        _required("timestamp", TIMESTAMP),
        _required("event_type", pa.string()),
        pa.field("value", pa.float32()),
        _required("sequence", pa.int64()),
    ]
)

# What a run trains on: cleaned positive events, with what their type weighs in the loss, and the
# request whose slate led to them, if any. Sorted by user_id, timestamp.
TRAINING_EVENTS = pa.schema(
    [
        *INTERACTIONS,
        _required("weight", pa.float32()),
        pa.field("request_id", pa.string()),
    ]
)

# Free columns may follow these.
ITEMS = pa.schema(
    [
        _required("item_id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("category", pa.string()),
        pa.field("created_at", TIMESTAMP),
    ]
)

PLACED_BY_RULE = "rule:"
"""What the `policy` of a slot begins with that nobody drew: "rule:pin". Nothing can be learned from
such a slot about any other choice."""

# Every served slot, clicked or not; `propensity` is the probability with which the logging policy
# put this item into this slot, given the slots above it. It is 1 where a rule did.
IMPRESSIONS = pa.schema(
    [
        _required("request_id", pa.string()),
        _required("user_id", pa.string()),
        _required("item_id", pa.string()),
        _required("position", pa.int16()),
        _required("timestamp", TIMESTAMP),
        _required("policy", pa.string()),
        _required("model_version", pa.string()),
        pa.field("score", pa.float32()),
        _required("propensity", pa.float64()),
        _required("candidates", pa.int32()),
        pa.field("reward", pa.float32()),
    ]
)


def check(table: pa.Table, schema: pa.Schema, *, source: str) -> pa.Table:
    """Return `table` with the columns of `schema` first, in order and cast, free columns after.

    Raises:
        DataError: a column is missing, does not cast, or holds a null where none is allowed.
    """
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            raise DataError(
                f"{source}: column '{field.name}' is missing; found {table.column_names}; add it"
            )
        column = table.column(field.name)
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                reason = str(error).splitlines()[0]
                raise DataError(
                    f"{source}: column '{field.name}' is {column.type}, "
                    f"expected {field.type} ({reason})"
                ) from None
        if not field.nullable and column.null_count:
            row = pc.index(column.is_null(), True).as_py()
            raise DataError(
                f"{source}: column '{field.name}' is null at row {row}; "
                "fill it in, or remove the row"
            )
        columns.append(column)
    free = [name for name in table.column_names if name not in schema.names]
    return pa.table(
        columns + [table.column(name) for name in free],
        schema=pa.schema(list(schema) + [table.schema.field(name) for name in free]),
    )
