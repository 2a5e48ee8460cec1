"""What is split at once equals what the standard library reads, row by row."""

import csv
import io
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrec.data.sources import quotes, rows
from sasrec.data.sources.layout import Layout

FIELD = st.text(st.sampled_from('"",ab\n\r '), max_size=4)


@given(
    body=st.one_of(
        st.text(st.sampled_from('"",ab\n\r '), max_size=14),
        st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=4).map(
            lambda table: "\r\n".join(
                ",".join('"' + field.replace('"', '""') + '"' for field in row) for row in table
            )
        ),
    ),
    header=st.sampled_from(["", "x,y\n", 'x,"y\n"\n']),
    block=st.sampled_from([1, 2, 3, 1 << 20]),
)
@settings(max_examples=300, deadline=None)
def test_rows_are_those_of_csv(body, header, block):
    content, layout = header + body, Layout(",", ["a", "b"], bool(header), False)
    with patch.object(quotes, "_BLOCK_BYTES", block):
        lines = quotes.lines_of_rows(content.encode(), ",")
    table = lines and rows._at_once(content.encode(), layout, lines)
    if not table:
        return
    reader = csv.reader(io.StringIO(content, newline="\n"), strict=True)
    expected = [row for row in reader if row][bool(header) :]
    assert [list(row.values()) for row in table.to_pylist()] == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('a,"bc"\n\n"d","e""f"\n', (2, 0)),
        ('"a\nb",c\r\n\r\n"","",', (2, 1)),
        ('a,b"c"\n', None),
        ('"a" ,b\n', None),
        ('"a"b,c\n', None),
        ('"a,b\n', None),
        ('"a\rb",c\n', None),
    ],
)
def test_quotes_out_of_place_are_found(content, expected):
    assert quotes.lines_of_rows(content.encode(), ",") == expected
