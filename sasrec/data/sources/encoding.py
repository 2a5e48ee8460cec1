"""Bytes as UTF-8 text: which encoding they are in, and what is no text at all."""

from pathlib import Path

from sasrec.errors import DataError

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it, or save it as CSV",
    b"PAR1": "Parquet; name it .parquet",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save it as CSV",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it, or compress it by gzip",
    b"BZh": "compressed by bzip2; unpack it, or compress it by gzip",
}


def decode(content: bytes, *, source: str, legacy: bool) -> tuple[bytes, list[str]]:
    """The text as UTF-8 without a mark, and notes.

    Args:
        legacy: take it for Latin-1 if it is no UTF-8.

    Raises:
        DataError: it is no text, or in an encoding that cannot be told.
    """
    for magic, what in _OTHER_KINDS.items():
        if content.startswith(magic):
            raise DataError(f"{source}: is not text but {what}")
    mark, encoding = next(((m, e) for m, e in _BOMS if content.startswith(m)), (b"", ""))
    if not mark:
        encoding = _encoding_without_mark(content)
    content = content.removeprefix(mark)
    notes = []
    try:
        if encoding == "utf-8":
            content.decode()
        else:
            content = content.decode(encoding).encode()
            notes.append(f"{Path(source).name}: read as {encoding.upper()}")
    except UnicodeError as error:
        at = error.start if isinstance(error, UnicodeDecodeError) else 0
        if not (legacy and encoding == "utf-8"):
            bad = content[at : at + 1].hex()
            raise DataError(
                f"{source}: line {line_number(content, at)} is not {encoding.upper()} "
                f"(byte 0x{bad}); save the file as UTF-8"
            ) from None
        content = content.decode("latin-1").encode()
    nul = content.find(b"\0")
    if nul >= 0:
        raise DataError(
            f"{source}: line {line_number(content, nul)} holds a NUL byte; remove it, or write the "
            "file again"
        )
    return content, notes


def _encoding_without_mark(content: bytes) -> str:
    """UTF-16 shows by the zero byte of each ASCII character."""
    head = content[:1024]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = head[first::2].count(0), head[1 - first :: 2].count(0)
        if zeros > 0.4 * (len(head) // 2) and not others:
            return encoding
    return "utf-8"


def line_number(content: bytes, at: int) -> int:
    """Of the byte at `at`, from 1."""
    return content.count(b"\n", 0, at) + 1
