"""The event log as it is read: segments of frames, written by serving (`serving/event_log.py`).

The format is the contract between the two, so each side has its own codec and a test holds them
together. A segment is a run of frames: uint32 length, uint32 CRC-32 of the payload (little-endian),
payload (a JSON object). A frame that is torn or damaged ends its segment.
"""

import fcntl
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

HEADER = struct.Struct("<II")

Record = dict[str, Any]


def read_log(folder: Path) -> Iterator[Record]:
    """Every whole record, oldest segment first; an event may appear more than once."""
    for segment in segments(folder):
        for frame in frames(segment.read_bytes()):
            yield orjson.loads(frame[HEADER.size :])


def segments(folder: Path) -> list[Path]:
    """Segment files, oldest first; none if the folder is absent."""
    return sorted(Path(folder).glob("*.log"))


def frames(segment: bytes) -> Iterator[bytes]:
    """Each whole frame, header included."""
    offset = 0
    while offset + HEADER.size <= len(segment):
        length, crc = HEADER.unpack_from(segment, offset)
        end = offset + HEADER.size + length
        if end > len(segment) or zlib.crc32(segment[offset + HEADER.size : end]) != crc:
            return
        yield segment[offset:end]
        offset = end


def rewrite(folder: Path, keep: Callable[[Record], bool]) -> tuple[int, list[Path]]:
    """Drop records from all segments that no writer holds open.

    Returns:
        The records dropped, and the segments still being written, which were left alone.
    """
    dropped, open_segments = 0, []
    for path in segments(folder):
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                open_segments.append(path)
                continue
            before = list(frames(file.read()))
            after = [frame for frame in before if keep(orjson.loads(frame[HEADER.size :]))]
            if len(after) < len(before):
                replacement = path.with_suffix(".rewritten")
                replacement.write_bytes(b"".join(after))
                replacement.replace(path)
                dropped += len(before) - len(after)
    return dropped, open_segments
