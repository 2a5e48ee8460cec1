"""Whether a text's quotes all stand where RFC 4180 has them, and how many rows there are then."""

import re
from typing import NamedTuple

import numpy as np

_QUOTE, _LINE_FEED, _RETURN = b'"\n\r'
_BLOCK_BYTES = 1 << 24


class Lines(NamedTuple):
    """The line breaks of a text.

    Attributes:
        rows: lines that end a row, without blank ones.
        enclosed: line breaks within quotes.
    """

    rows: int
    enclosed: int


def lines_of_rows(content: bytes, delimiter: str) -> Lines | None:
    """The lines, or None where a quote stands elsewhere than RFC 4180 has it.

    There, quotes open and close in turn: one that opens stands behind a delimiter, a line break or
    the quote that it doubles, one that closes before them. So whether a byte is quoted is the
    parity of the quotes before it.

    Args:
        content: UTF-8.
        delimiter: one byte.
    """
    if len(delimiter.encode()) > 1 or re.search(rb"\r(?!\n)", content):
        return None
    # A row's end at both ends of the text, so that every byte has neighbours.
    text = np.frombuffer(b"\n" + content + (b"" if content.endswith(b"\n") else b"\n"), np.uint8)
    rows = enclosed = parity = 0
    for start in range(1, len(text), _BLOCK_BYTES):
        block = text[start : start + _BLOCK_BYTES]
        before, after = text[start - 1 :][: len(block)], text[start + 1 :][: len(block)]
        quotes = block == _QUOTE
        quoted = (np.bitwise_xor.accumulate(quotes.view(np.uint8)) ^ np.uint8(parity)).view(bool)
        opens, closes = quotes & quoted, quotes & ~quoted
        if (opens & ~_one_of(before, delimiter)).any():
            return None
        if (closes[: len(after)] & ~_one_of(after, delimiter)).any():
            return None
        breaks = block == _LINE_FEED
        ends = np.flatnonzero(breaks & ~quoted) + start
        last = np.where(text[ends - 1] == _RETURN, text[ends - 2], text[ends - 1])
        rows += int((last != _LINE_FEED).sum())
        enclosed += int(np.count_nonzero(breaks & quoted))
        parity = int(quoted[-1])
    return None if parity else Lines(rows, enclosed)


def _one_of(neighbour: np.ndarray, delimiter: str) -> np.ndarray:
    """Where a quote's neighbour is a field's end or another quote; no `\\r` stands alone here."""
    ends = (neighbour == ord(delimiter)) | (neighbour == _LINE_FEED) | (neighbour == _RETURN)
    return ends | (neighbour == _QUOTE)
