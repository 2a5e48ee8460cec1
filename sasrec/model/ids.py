"""Ids as Python programs have them, and as the text that every vocabulary holds."""

from typing import Any, Literal
from uuid import UUID

import numpy as np
import pandas as pd

from sasrec.errors import DataError

Kind = Literal["text", "int", "uuid"]
"""What a caller's ids are: text, whole numbers, or UUIDs."""


def kind_of(ids: pd.Series) -> Kind:
    """Of a column of a frame; mixed ones are text."""
    if pd.api.types.is_integer_dtype(ids.dtype):
        return "int"
    return (
        "uuid" if ids.dtype == object and ids.map(lambda i: isinstance(i, UUID)).all() else "text"
    )


def text_of(value: Any) -> str:
    """The text of one id, as a frame or file with it has been read.

    Raises:
        DataError: it is none.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    raise DataError(f"recommend: {value!r} is no id; ids are text, whole numbers or UUIDs")


def is_id(value: Any) -> bool:
    """Whether this is one id and not a list of them."""
    return isinstance(value, str | UUID | int | float | np.number | np.bool_)


def as_given(text: str, kind: Kind) -> str | int | UUID:
    """An id as the caller had it."""
    return int(text) if kind == "int" else UUID(text) if kind == "uuid" else text
