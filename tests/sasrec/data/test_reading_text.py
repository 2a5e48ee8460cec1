"""Delimited text and JSON Lines as they come: dialects, encodings, names, and what is refused."""

import gzip
import json

import pytest

from sasrec.data.sources import load
from sasrec.errors import DataError

HEADER = "user_id,item_id,timestamp\n"
ROWS = [("ann", "a1", 1_700_000_000), ("ann", "a2", 1_700_000_060), ("bob", "a1", 1_700_000_120)]
GOOD = HEADER + "".join(f"{u},{i},{t}\n" for u, i, t in ROWS)


def rows(source):
    return [
        (row["user_id"], row["item_id"], int(row["timestamp"].timestamp()))
        for row in source.interactions.to_pylist()
    ]


def table(delimiter: str, quote: str = "", end: str = "\n") -> str:
    lines = [HEADER.strip().split(","), *[[u, i, str(t)] for u, i, t in ROWS]]
    return "".join(delimiter.join(f"{quote}{f}{quote}" for f in line) + end for line in lines)


def named(cases):
    """Cases under their names: a content that is no text would be another in every process."""
    return [pytest.param(*case, id=name) for name, case in cases.items()]


@pytest.mark.parametrize(
    ("name", "content"),
    named({
        "semicolons, quoted": ("a.csv", table(";", '"').encode()),
        "tabs, quoted": ("a.tsv", table("\t", '"').encode()),
        "pipes": ("a.csv", table("|").encode()),
        "two colons": ("a.dat", table("::").encode()),
        "spaces after the delimiter": ("a.csv", table(", ").encode()),
        "spaces and quotes": ("a.csv", table(", ", '"').encode()),
        "carriage returns": ("a.csv", table(",", end="\r").encode()),
        "CRLF": ("a.csv", table(",", '"', "\r\n").encode("utf-8-sig")),
        "no last line end": ("a.csv", GOOD.strip().encode()),
        "a blank line first, in between and last": (
            "a.csv",
            ("\r\n" + GOOD.replace("\n", "\n\n")).encode(),
        ),
        "comments first": ("a.csv", ("# by shop 3\n#\n" + GOOD).encode()),
        "Excel's word on the delimiter": ("a.csv", b"sep=;\r\n" + table(";").encode()),
        "a header that is a comment": ("a.csv", ("#" + GOOD).encode()),
        "a delimiter after each row": (
            "a.csv",
            GOOD.replace("\n", ",\n").replace("timestamp,", "timestamp").encode(),
        ),
        "UTF-16 with a mark": ("a.csv", table("\t").encode("utf-16")),
        "UTF-16 without": ("a.csv", table("\t").encode("utf-16-be")),
        "upper case": ("EVENTS.CSV", GOOD.encode()),
        "gzip": ("a.csv.gz", gzip.compress(GOOD.encode(), mtime=0)),
        "gzip, in upper case": ("A.TSV.GZ", gzip.compress(table("\t").encode(), mtime=0)),
        "gzip without the name": ("a.csv", gzip.compress(GOOD.encode(), mtime=0)),
        "no header, dates": ("a.csv", b"ann,a1,2023-11-14T22:13:20\nann,a2,2023-11-14T22:14:20\n"
            b"bob,a1,2023-11-14T22:15:20\n"),
        "JSON Lines": (
            "a.jsonl",
            "\n".join(json.dumps({"user": u, "item": i, "ts": t}) for u, i, t in ROWS).encode(),
        ),
        "JSON Lines, gzip": (
            "a.jsonl.gz",
            gzip.compress(
                b"\n\n".join(
                    json.dumps({"user": u, "item": i, "ts": t}).encode() for u, i, t in ROWS
                )
            ),
        ),
    }),
)  # fmt: skip
def test_dialects_read_alike(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert rows(load(tmp_path / name)) == ROWS


@pytest.mark.parametrize("name", ["Interactions.CSV", "interactions.csv.gz", "U.DATA.gz"])
def test_a_folder_finds_files_in_either_case_and_compressed(tmp_path, name):
    content = GOOD.encode() if "csv" in name.lower() else table("\t").encode()
    (tmp_path / name).write_bytes(
        gzip.compress(content, mtime=0) if name.endswith("gz") else content
    )
    (tmp_path / "ITEMS.csv.GZ").write_bytes(
        gzip.compress(b"item_id,title\na1,One\na2,Two\n", mtime=0)
    )
    source = load(tmp_path)
    assert rows(source) == ROWS
    assert source.items["title"].to_pylist() == ["One", "Two"]


def test_headers_may_hold_other_delimiters(tmp_path):
    (tmp_path / "a.csv").write_text(
        GOOD.replace("timestamp\n", 'timestamp,price|eur,"tax, EUR"\n').replace("0\n", "0,1,2\n")
    )
    assert rows(load(tmp_path / "a.csv")) == ROWS


def test_ids_keep_quotes_delimiters_and_blanks(tmp_path):
    (tmp_path / "a.csv").write_text(
        HEADER + '"a ""b"", c"," 7 ",1700000000\n"007","x\ny",1700000001\n'
    )
    assert [row[:2] for row in rows(load(tmp_path / "a.csv"))] == [
        ('a "b", c', " 7 "),
        ("007", "x\ny"),
    ]


def test_blanks_around_ids_are_kept_and_told(tmp_path):
    (tmp_path / "a.csv").write_text(GOOD + "ann ,a1,1700000000\n")
    assert "a.csv: 1 values of user_id begin or end in a blank, kept" in (
        load(tmp_path / "a.csv").notes
    )


def test_a_header_that_alone_is_quoted(tmp_path):
    (tmp_path / "a.csv").write_text('"user_id","item_id","timestamp"\n' + GOOD.split("\n", 1)[1])
    assert rows(load(tmp_path / "a.csv")) == ROWS


@pytest.mark.parametrize("megabytes", [3, 20])
def test_line_breaks_in_quotes_at_any_size(tmp_path, megabytes):
    (tmp_path / "interactions.csv").write_text(GOOD)
    count = megabytes * 100
    text = "line one\nline, two\r\n" + 'a "word" ' * 1200
    quoted = text.replace('"', '""')
    (tmp_path / "items.csv").write_bytes(
        b"item_id,description,title\n"
        + b"".join(f'a{n},"{quoted}",Item {n}\n'.encode() for n in range(count))
    )
    items = load(tmp_path).items
    assert items["item_id"].to_pylist() == [f"a{n}" for n in range(count)]
    assert items["title"].to_pylist() == [f"Item {n}" for n in range(count)]
    assert set(items["description"].to_pylist()) == {text}


@pytest.mark.parametrize(
    ("name", "line", "title"),
    [
        ("items.csv", 'a1,The 7" single', 'The 7" single'),
        ("items.tsv", 'a1\tThe 7" single', 'The 7" single'),
        ("items.csv", 'a1,"Heroes" live', '"Heroes" live'),
        ("items.csv", 'a1,"Heroes', '"Heroes'),
        ("items.csv", 'a1,"say \\"hi\\", you"', 'say "hi", you'),
        ("items.csv", 'a1,"say ""hi"", you"', 'say "hi", you'),
    ],
)
def test_quotes_as_they_are_written(tmp_path, name, line, title):
    (tmp_path / "interactions.csv").write_text(GOOD)
    header = "item_id\ttitle" if name.endswith("tsv") else "item_id,title"
    (tmp_path / name).write_text(f"{header}\n{line}\n")
    assert load(tmp_path).items["title"].to_pylist()[0] == title


def test_published_titles_in_utf8_and_latin_1(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::1::5::978300760\n")
    for encoding in ("utf-8", "latin-1"):
        (tmp_path / "movies.dat").write_text("1::Amélie (2001)::Comedy\n", encoding=encoding)
        assert load(tmp_path).items["title"].to_pylist() == ["Amélie (2001)"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    named(
        {
            "a short row": ("a.csv", GOOD + "x,y\n", r"row 3: Expected 3 columns, got 2: 'x,y'; "),
            "a long row": (
                "a.csv",
                GOOD + "x,y,1700000000,9\n",
                r"row 3: Expected 3 columns, got 4",
            ),
            "a short row among quotes": ("a.csv", GOOD + '"x",y\n', "row 3: Expected 3 .* got 2"),
            "a comment in between": ("a.csv", GOOD + "# end\n", "row 3: Expected 3 columns, got 1"),
            "two files in one": ("a.csv", GOOD + GOOD, "row 3 repeats the header; remove"),
            "one name twice": (
                "a.csv",
                GOOD.replace("timestamp", "item_id"),
                "two columns are named 'item_id'; rename one",
            ),
            "lines lost in quotes": (
                "a.csv",
                HEADER + 'u,"x,1700000000\nu,y",1700000001\n',
                "has 1 rows if its quotes enclose line breaks and others if they are text",
            ),
            "a lone carriage return": ("a.csv", GOOD + "x\r,y,1700000000\n", "line 5 holds a carr"),
            "not UTF-8": (
                "a.csv",
                GOOD.encode() + b"\xe9,a,1700000000\n",
                r"line 5 is not UTF-8 .*xe9",
            ),
            "NUL": ("a.csv", GOOD + "x,y\0,1700000000\n", "line 5 holds a NUL byte"),
            "many columns, no header": (
                "a.tsv",
                "u\t2023-11-14T22:13:20Z\ta\tb\tc\n",
                "no header, and 5 columns could mean anything; add a header line",
            ),
            "a workbook": ("a.csv", b"PK\x03\x04rest", "not text but a zip archive or an Excel"),
            "Parquet by another name": ("a.csv", b"PAR1rest", "not text but Parquet"),
            "half a gzip": (
                "a.csv.gz",
                gzip.compress(GOOD.encode(), mtime=0)[:-12],
                "cannot be read .*again",
            ),
            "no gzip inside": ("a.parquet.gz", b"", "Parquet compresses itself"),
            "no JSON": (
                "a.jsonl",
                '{"user": 1}\n{"user\n',
                r"row 1 \(line 2\) is not a JSON object",
            ),
            "a JSON array": ("a.jsonl", "[1, 2]\n", r"row 0 .* is not a JSON object: '\[1, 2\]'"),
            "half a character": (
                "a.jsonl",
                '{"user": "é"}\n{"user": "\\ud800"}\n',
                "column 'user' at row 1 holds half a character",
            ),
            "nothing but comments": ("a.csv", "# a\n# b\n", "the file is empty"),
            "other ids": (
                "a.csv",
                HEADER + "7.65612E+16,a,1700000000\n",
                "'user_id' at row 0 is 7.65612E.16: a spreadsheet has cut these digits",
            ),
            "long ids": (
                "a.csv",
                GOOD + f"x,{'y' * 257},1700000000\n",
                "'item_id' at row 3 has 257 characters, ids at most 256",
            ),
            "words for numbers": (
                "a.csv",
                "user,item,ts,rating\nu,i,1700000000,PG-13\n",
                "'rating' at row 0 is not a number: 'PG-13'; --column value= leaves the column out",
            ),
        }
    ),
)
def test_what_is_refused_says_where_and_what_to_do(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_look_alike_column_can_be_left_out(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,ts,rating\nu,i,1700000000,PG-13\n")
    source = load(tmp_path / "a.csv", columns={"value": ""})
    assert source.interactions["value"].to_pylist() == [None]


def test_a_file_without_time_can_be_taken_in_its_order(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,rating\nu,i,4\nu,j,5\n")
    with pytest.raises(DataError, match="no column for 'timestamp'"):
        load(tmp_path / "a.csv")
    assert load(tmp_path / "a.csv", columns={"timestamp": ""}).clock == "row-order"


def test_missing_values_and_decimal_commas(tmp_path):
    (tmp_path / "a.csv").write_text(
        "user;item;ts;rating\n"
        + "".join(f"u;i;1700000000;{v}\n" for v in ("4,5", "NA", "", "-", "NULL", "3"))
    )
    values = load(tmp_path / "a.csv").interactions["value"].to_pylist()
    assert values == [4.5, None, None, None, None, 3.0]


def test_ids_that_pandas_made_floats(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "1.0,17.0,1700000000\n2.0,x.0,1700000001\n")
    source = load(tmp_path / "a.csv")
    assert source.interactions["user_id"].to_pylist() == ["1", "2"]
    assert source.interactions["item_id"].to_pylist() == ["17.0", "x.0"]


def test_impressions_with_epoch_times_and_empty_fields(tmp_path):
    (tmp_path / "interactions.csv").write_text(GOOD)
    header = "request_id,user_id,item_id,position,timestamp,policy,model_version,score,propensity,"
    (tmp_path / "impressions.csv").write_text(
        header + "candidates,reward\nr,ann,a1,0,1700000000,p,v,,0.5,40,\n"
    )
    (row,) = load(tmp_path).impressions.to_pylist()
    assert (row["score"], row["reward"], row["propensity"], row["position"]) == (None, None, 0.5, 0)
    assert row["timestamp"].timestamp() == 1_700_000_000
    (tmp_path / "impressions.csv").write_text(
        header + "candidates,reward\nr,ann,a1,1.5,1700000000,p,v,,0.5,40,\n"
    )
    with pytest.raises(DataError, match=r"'position' at row 0 is not a whole number .*'1.5'"):
        load(tmp_path)


def test_an_item_without_an_id(tmp_path):
    (tmp_path / "interactions.csv").write_text(GOOD)
    (tmp_path / "items.csv").write_text("item_id,title\na1,One\n,Two\n")
    with pytest.raises(DataError, match=r"items.csv: column 'item_id' is empty at row 1; remove"):
        load(tmp_path)


def test_items_without_a_column_of_ids(tmp_path):
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\nu,a,1700000000\n")
    (tmp_path / "items.csv").write_text("thing,title\na,A\n")
    with pytest.raises(DataError, match=r"items.csv: no column for 'item_id'.*; name that column"):
        load(tmp_path)
