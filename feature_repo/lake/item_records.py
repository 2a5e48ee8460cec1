"""Item records of the event log as rows of the lake: each item as it was left by the newest."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import duckdb
import pyarrow as pa

from feature_repo.event_codec import Record
from feature_repo.lake.lake import LAKE_ITEMS

AVAILABLE = "available"


def item_rows(
    connection: duckdb.DuckDBPyConnection, records: Iterable[Record], batch: int
) -> tuple[pa.Table, Counter[str]]:
    """Rows for `lake_items`: one for each item, attributes as free columns.

    A record replaces what was known, but for the moment that an item was created; one that deletes
    keeps all and says that the item is not available. Numbers are doubles, and where the lake has
    another type for a column, what does not fit that is null.

    Args:
        connection: with the relation `lake_items`.
        batch: of the log, which the lake may have taken in part.

    Returns:
        The rows, and how many values did not fit, by reason.
    """
    ordered = sorted(records, key=lambda record: (record["timestamp"], record["update_id"]))
    known, types = _known(connection, {record["item_id"] for record in ordered}, batch)
    names = {name.lower(): name for name in types}
    rows: dict[str, dict[str, Any]] = {}
    for record in ordered:
        item_id = record["item_id"]
        before = rows.get(item_id) or known.get(item_id) or {"item_id": item_id}
        if not record["deleted"]:
            before = {
                "item_id": item_id,
                "title": record["title"],
                "category": record["category"],
                "created_at": record["created_at"]
                or before.get("created_at")
                or record["timestamp"],
                **{
                    names.setdefault(name.lower(), name): value
                    for name, value in record["attributes"].items()
                },
            }
        rows[item_id] = {
            **before,
            AVAILABLE: record["available"],
            "written": record["timestamp"],
            "batch": batch,
        }
    return _table(list(rows.values()), types)


def _known(
    connection: duckdb.DuckDBPyConnection, item_ids: set[str], batch: int
) -> tuple[dict[str, dict[str, Any]], dict[str, pa.DataType]]:
    """The newest rows of these items, moments in microseconds, and the type of each free column."""
    connection.register("wanted_items", pa.table({"item_id": pa.array(item_ids, pa.string())}))
    found = connection.sql(
        f"SELECT * FROM lake_items SEMI JOIN wanted_items USING (item_id) WHERE batch < {batch}"
        " QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY batch DESC) = 1"
    ).to_arrow_table()
    types = {field.name: field.type for field in found.schema if field.name not in LAKE_ITEMS.names}
    for name in ("created_at", "written"):
        place = found.column_names.index(name)
        micros = found[name].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        found = found.set_column(place, name, micros)
    return {row["item_id"]: row for row in found.to_pylist()}, types


def _table(
    rows: list[dict[str, Any]], types: dict[str, pa.DataType]
) -> tuple[pa.Table, Counter[str]]:
    columns = {
        field.name: pa.array([row.get(field.name) for row in rows], _plain(field.type)).cast(
            field.type
        )
        for field in LAKE_ITEMS
    }
    misfits: Counter[str] = Counter()
    free = dict.fromkeys(name for row in rows for name in row if name not in LAKE_ITEMS.names)
    for name in free:
        values = [row.get(name) for row in rows]
        kind = types.get(name) or _type_of(values)
        fitting = [_fit(value, kind) for value in values]
        columns[name] = pa.array(fitting, kind)
        if missed := sum(a is not None and b is None for a, b in zip(values, fitting, strict=True)):
            misfits[f"item: '{name}' is no {kind}, as in the lake; set to null"] += missed
    fields = [*LAKE_ITEMS, *(pa.field(name, columns[name].type) for name in free)]
    return pa.table(columns, schema=pa.schema(fields)), misfits


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.int64() if pa.types.is_timestamp(kind) else kind


def _type_of(values: list[Any]) -> pa.DataType:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.bool_()
    return pa.float64() if kinds <= {int, float} else pa.string()


def _fit(value: Any, kind: pa.DataType) -> Any:
    """The value in a column's type; None where it does not fit."""
    if value is None:
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if pa.types.is_boolean(kind) != isinstance(value, bool):
        return None
    if pa.types.is_floating(kind) and not isinstance(value, str):
        return float(value)
    try:
        fitting = pa.scalar(value, kind).as_py()
        return fitting if fitting == value else None  # 3.5 would be 3
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None
