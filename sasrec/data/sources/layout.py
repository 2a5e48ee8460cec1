"""How the rows of a text are written: what stands above them, the delimiter, and the header."""

import csv
import io
import re
from itertools import islice
from typing import NamedTuple

from sasrec.data.sources.columns import names_an_id
from sasrec.errors import DataError

# Files without a header whose columns their publisher fixed.
# fmt: off
ML_100K_GENRES = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
]
# fmt: on
PUBLISHED = {
    "movies.dat": ("::", ["item_id", "title", "genres"]),
    "u.item": ("|", ["item_id", "title", "release_date", "video_date", "url", *ML_100K_GENRES]),
}
# Any other file without a header: what its columns are, by their number.
_HEADERLESS_COLUMNS = {
    2: ["user_id", "item_id"],
    3: ["user_id", "item_id", "timestamp"],
    4: ["user_id", "item_id", "rating", "timestamp"],
}
# In order of preference where two would do equally well; a space is the last resort.
_DELIMITERS = ("\t", ",", ";", "|", "::")
_SAMPLE_BYTES, _SAMPLE_ROWS = 1 << 16, 200
_VALUE = re.compile(
    r"\s*[-+]?(\d[\d.,]*|\.\d+)(e[-+]?\d+)?\s*$|\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?!\d)", re.I
)


class Layout(NamedTuple):
    """How the rows of a file are written.

    Attributes:
        delimiter: one character.
        names: of the columns; "" for one that only a delimiter at each row's end makes.
        header: whether the first row holds the names.
        blanks: whether a space follows each delimiter.
    """

    delimiter: str
    names: list[str]
    header: bool
    blanks: bool


def without_top(content: bytes) -> tuple[bytes, int]:
    """Without blank lines and comments before the first row, and the number of comments.

    Excel's `sep=;` goes as well. A line that begins with '#' is a comment unless it has as many
    fields as the row below.
    """
    rest, comments = content, []
    while rest:
        line = first_line(rest)
        if line.strip().startswith(b"#"):
            comments.append(line)
        elif re.fullmatch(rb"\"?sep=.\"?\s*", line, re.I):
            pass  # Excel's word on the delimiter, which the rows tell as well
        elif line.strip() or (line.endswith(b"\r") and b"\n" in content):
            break
        rest = rest[len(line) :]
    if not comments:
        return rest, 0
    delimiter = _delimiter(rest)
    below = first_line(rest).decode().strip()
    widths = {line.decode().strip().count(delimiter) for line in comments}
    if rest and delimiter != " " and below.count(delimiter) in widths:
        return content.lstrip(b"\r\n"), 0
    return rest, len(comments)


def find_layout(content: bytes, *, name: str, source: str) -> tuple[bytes, Layout]:
    """How the rows are written, and the content with a delimiter of one character."""
    published, names = PUBLISHED.get(name, (None, None))
    delimiter = published or _delimiter(content)
    if delimiter == "::":
        # Neither reader splits at two characters.
        delimiter = next((d for d in "\x1f\x1e\x1d\t" if d.encode() not in content), "")
        if not delimiter:
            raise DataError(f"{source}: has control characters; write it as CSV")
        content = content.replace(b"::", delimiter.encode())
    first, second = [*_sample(content, delimiter, csv.QUOTE_MINIMAL)[:2], [], []][:2]
    if names:
        return content, Layout(delimiter, list(names), False, False)
    blanks = delimiter != " " and len(first) > 1 and all(f.startswith(" ") for f in first[1:])
    stripped = [field.strip().strip('"').strip() for field in first]
    header = any(map(names_an_id, stripped)) or not any(map(_VALUE.match, first))
    if header:
        # RecBole writes `name:type`.
        names = [re.sub(r":(token|float)(_seq)?$", "", field) for field in stripped]
        if len(second) == len(names) + 1 and second[-1] == "":
            names.append("")
    else:
        width = len(first) - (first[-1] == "")
        if width not in _HEADERLESS_COLUMNS:
            raise DataError(
                f"{source}: no header, and {width} columns could mean anything; add a header line"
            )
        names = [*_HEADERLESS_COLUMNS[width], *([""] if width < len(first) else [])]
    return content, Layout(delimiter, names, header, blanks)


def _delimiter(content: bytes) -> str:
    """The one that splits most rows of a sample into as many fields as the first has."""
    best, chosen = (0.0, 0), " "
    for delimiter in _DELIMITERS:
        sample = content[:_SAMPLE_BYTES]
        single = delimiter
        if delimiter == "::":
            sample, single = sample.replace(b"::", b"::\x1f"), "\x1f"  # its length stays enough
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            rows = _sample(sample, single, quoting)
            width = len(rows[0]) if rows else 0
            if width < 2:
                continue
            alike = sum(_fits(row, width) for row in rows) / len(rows)
            if (alike, width) > best:
                best, chosen = (alike, width), delimiter
    return chosen


def _fits(row: list[str], width: int) -> bool:
    return len(row) == width or (len(row) == width + 1 and row[-1] == "")


def _sample(content: bytes, delimiter: str, quoting: int) -> list[list[str]]:
    """The first rows, without one that the sample's end may cut."""
    text = content[:_SAMPLE_BYTES].decode(errors="ignore")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    rows = list(islice(filter(None, reader), _SAMPLE_ROWS))
    cut = len(content) >= _SAMPLE_BYTES and len(rows) < _SAMPLE_ROWS
    return rows[:-1] if cut and len(rows) > 1 else rows


def first_line(content: bytes) -> bytes:
    """With its line break."""
    return re.match(rb"[^\r\n]*(\r\n|\n|\r|$)", content).group()  # type: ignore[union-attr]
