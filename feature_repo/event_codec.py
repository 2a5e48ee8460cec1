"""The event log as bytes: what its writer and its readers agree on.

A directory of segments, `<created>-<host>-<writer>.log`, where `created` is microseconds since the
epoch as 16 digits, and `host` and `writer` are 8 hex digits; names sort by age. Each segment has
one writer: a worker process that holds an exclusive `flock` on it and touches it while it lives,
since other hosts may not see the lock. A segment is a run of frames

    length   uint32, little-endian: bytes of the payload
    crc      uint32, little-endian: CRC-32 (zlib) of the payload
    payload  one JSON object in UTF-8

and the payload is one of three records, told apart by "type"; timestamps are int microseconds UTC:

    {"type": "event", "event_id": str, "request_id": str|null, "user_id": str, "item_id": str,
     "event_type": str, "timestamp": int, "received_at": int}
    {"type": "impression", "request_id": str, "user_id": str|null, "timestamp": int,
     "policy": str, "model_version": str, "degraded": str|null, "seed": int,
     "history_length": int, "history_hash": str, "candidates": int, "eligible": int,
     "item_ids": [str], "scores": [float|null], "propensities": [float], "explored": [bool],
     "introduced": [bool], "rules": [str|null], "remaining": [int]}
    {"type": "item", "update_id": str, "item_id": str, "title": str|null, "category": str|null,
     "created_at": int|null, "available": bool, "attributes": {str: str|int|float|bool},
     "deleted": bool, "timestamp": int}

Of an item the record with the greatest (timestamp, update_id) counts, as a whole; one that says
"deleted" says nothing but that the item is no longer available. An impression record is one slate;
slot i is position i. Where rules look at the slots above, "rules" names the one that filled a slot
(null: it was drawn), and "remaining" counts what might have been drawn into it, which falls by one
a slot where they are absent. An event may appear more than once (a client's retry, another worker):
readers keep the first of each user's event_id. A torn frame can only be the last of a segment whose
writer died; it was never acknowledged, and the next writer that starts on its host cuts it off, or
one on another host once the segment has been silent for long. An empty `<segment>.applied` says
that a finished segment is in the online stores as well.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

HEADER = struct.Struct("<II")
GONE = "none"
"""The type of what is left of a record that was taken out, in its length: readers remember how far
they came in bytes."""

Record = dict[str, Any]


def frame(record: Record) -> bytes:
    """One record as it lies in a segment."""
    return frame_of(orjson.dumps(record))


def frame_of(payload: bytes) -> bytes:
    """A payload with its header."""
    return HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def frames(segment: bytes) -> Iterator[bytes]:
    """Each whole frame, header included, up to the first that is torn or damaged."""
    offset = 0
    while offset + HEADER.size <= len(segment):
        length, crc = HEADER.unpack_from(segment, offset)
        end = offset + HEADER.size + length
        if end > len(segment) or zlib.crc32(segment[offset + HEADER.size : end]) != crc:
            return
        yield segment[offset:end]
        offset = end


def whole_bytes(segment: bytes) -> int:
    """How much of a segment is whole frames."""
    return sum(map(len, frames(segment)))


def records(found: Iterable[bytes]) -> Iterator[Record]:
    """The records of frames, without those that were taken out."""
    for one in found:
        record = orjson.loads(one[HEADER.size :])
        if record.get("type") != GONE:
            yield record
