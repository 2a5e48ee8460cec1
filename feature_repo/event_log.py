"""The event log as it is read: segments of frames, written by serving (`serving/events/writer.py`).

The format is the contract between the two, so each side has its own codec and a test holds them
together. A segment is a run of frames: uint32 length, uint32 CRC-32 of the payload (little-endian),
payload (a JSON object). A frame that is torn or damaged ends its segment.

A server may hold its segment open for long, so that a user's records cannot be cut out of it at
once. `forgotten.json` beside the segments (SHA-256 of the user id -> microseconds since the epoch)
makes every reader skip them from the moment that a user is forgotten.
"""

import fcntl
import struct
import time
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

FORGOTTEN = "forgotten.json"
HEADER = struct.Struct("<II")

Record = dict[str, Any]


def read_log(folder: Path) -> Iterator[Record]:
    """Every whole record of a user not forgotten, oldest segment first.

    An event may appear more than once.
    """
    forgotten = _read_forgotten(folder)
    for segment in segments(folder):
        for frame in frames(segment.read_bytes()):
            record = orjson.loads(frame[HEADER.size :])
            if not _is_forgotten(record, forgotten):
                yield record


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


def forget(folder: Path, user_id: str) -> int:
    """Hide a user's records from all readers, and cut those of all forgotten users out.

    Returns:
        How many segments are still being written: they are cut when one is forgotten later.
    """
    folder.mkdir(parents=True, exist_ok=True)
    forgotten = _read_forgotten(folder) | {_digest(user_id): time.time_ns() // 1000}
    replacement = folder / f"{FORGOTTEN}.new"
    replacement.write_bytes(orjson.dumps(forgotten))
    replacement.replace(folder / FORGOTTEN)
    return sum(not _cut(segment, forgotten) for segment in segments(folder))


def _cut(segment: Path, forgotten: dict[str, int]) -> bool:
    """Rewrite a segment without the forgotten users; False if a writer holds it."""
    with segment.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        before = list(frames(file.read()))
        after = [f for f in before if not _is_forgotten(orjson.loads(f[HEADER.size :]), forgotten)]
        if len(after) < len(before):
            replacement = segment.with_suffix(".new")
            replacement.write_bytes(b"".join(after))
            replacement.replace(segment)
        return True


def _read_forgotten(folder: Path) -> dict[str, int]:
    path = Path(folder) / FORGOTTEN
    return orjson.loads(path.read_bytes()) if path.exists() else {}


def _is_forgotten(record: Record, forgotten: dict[str, int]) -> bool:
    if not forgotten or not record.get("user_id"):
        return False
    written = record.get("received_at") or record.get("timestamp") or 0
    return written <= forgotten.get(_digest(record["user_id"]), -1)


def _digest(user_id: str) -> str:
    return sha256(user_id.encode()).hexdigest()
