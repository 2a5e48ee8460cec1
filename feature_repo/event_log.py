"""The event log as it is read, and who may change which of its segments.

A server may hold its segment open for long, so that a user's records cannot be taken out of it at
once. `forgotten.json` beside the segments (SHA-256 of the user id -> microseconds since the epoch)
makes every reader skip them from the moment that a user is forgotten. A record that is taken out
leaves an empty one of its length: readers remember how far they came in bytes.

Whether a segment has a writer is asked in two ways. Its writer holds an exclusive `flock`, which
processes of the writer's own host see; its name says which host that is. On a network volume other
hosts may not see the lock (`nolock`), so for them a writer lives until its segment was not written
or touched for `ABANDONED_SECONDS` of the volume's own time.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import orjson

from feature_repo.event_codec import GONE, HEADER, Record, frame_of, frames, records, whole_bytes
from feature_repo.host import this_host
from feature_repo.lease import written_now
from sasrec.errors import DataError

ABANDONED_SECONDS = 300.0
"""After which silence a segment of another host has no writer; a writer touches it far oftener."""
FORGOTTEN = "forgotten.json"
APPLIED = ".applied"
"""Of the file beside a segment whose events are all in the online history."""
UNCUT = "forgotten-uncut.txt"
"""Names of segments that may still hold records of forgotten users."""


def read_log(folder: Path) -> Iterator[Record]:
    """Every whole record of a user not forgotten, oldest segment first.

    An event may appear more than once.
    """
    forgotten = _read_forgotten(folder)
    for segment in segments(folder):
        yield from _records(segment.read_bytes(), forgotten)


def read_spans(folder: Path, spans: Mapping[str, tuple[int, int]]) -> Iterator[Record]:
    """As `read_log`, of these bytes of these segments.

    Raises:
        DataError: a segment is gone, or ends before its span does.
    """
    forgotten = _read_forgotten(folder)
    for name, (start, end) in sorted(spans.items()):
        if start == end:
            continue
        path = Path(folder) / name
        if not path.exists():
            raise DataError(f"{path}: is gone before it was taken in; restore it from a backup")
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(end - start)
        _refuse_shorter(path, start + len(content), end)
        yield from _records(content, forgotten)


def next_span(segment: Path, start: int, limit: int) -> tuple[int, int]:
    """Where the whole records from `start` on end, within about `limit` bytes.

    Returns:
        That offset, and the bytes from there to the end of the file if they are no whole record: a
        writer is at work there, or died there before it acknowledged them.

    Raises:
        DataError: the segment is shorter than `start`, or damaged in its midst.
    """
    size = segment.stat().st_size
    _refuse_shorter(segment, size, start)
    with segment.open("rb") as file:
        file.seek(start)
        content = file.read(limit)
    end = start + whole_bytes(content)
    if start + len(content) < size and end > start:
        return end, 0  # the limit cut a record
    rest = content[end - start :]
    if _is_whole(rest):
        with finished(segment) as ended:
            if ended is not None:
                raise DataError(
                    f"{segment}: the record at byte {end:,} is damaged, and what follows it cannot "
                    "be read; restore the file from a backup, or move it out of the log"
                )
    return end, len(rest)


def _is_whole(rest: bytes) -> bool:
    """Whether a record that does not check lies there in its full length."""
    return len(rest) >= HEADER.size and len(rest) >= HEADER.size + HEADER.unpack_from(rest)[0]


def _refuse_shorter(segment: Path, size: int, read: int) -> None:
    if size < read:
        raise DataError(
            f"{segment}: was cut to {size:,} bytes, and {read:,} had been read; restore it from a "
            "backup, or move it out of the log: what was taken in stays"
        )


def _records(content: bytes, forgotten: dict[str, int]) -> Iterator[Record]:
    for record in records(frames(content)):
        if not _is_forgotten(record, forgotten):
            yield record


def segments(folder: Path) -> list[Path]:
    """Segment files, oldest first; none if the folder is absent."""
    return sorted(Path(folder).glob("*.log"))


def host_of(segment: Path) -> str:
    """The host of a segment's writer, as `this_host()` has it; empty where its name has none."""
    _, *parts = segment.stem.split("-")
    return parts[0] if len(parts) == 2 else ""


@contextmanager
def finished(segment: Path) -> Iterator[BinaryIO | None]:
    """A segment's file, to be read and changed here alone; None if it has a writer or is gone."""
    # For writing: NFS gives exclusive locks on nothing else.
    try:
        opened = segment.open("r+b")
    except FileNotFoundError:  # a run dropped it meanwhile
        yield None
        return
    with opened as file:
        own = host_of(segment) == this_host()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        except OSError:
            own = False  # no locks on this volume
        yield file if own or _silence(segment) > ABANDONED_SECONDS else None


def _silence(segment: Path) -> float:
    """Seconds since a segment was written or touched, by the clock of its volume."""
    return written_now(segment.parent) - segment.stat().st_mtime


def forget(folder: Path, user_id: str) -> int:
    """Hide a user's records from all readers, and cut those of all forgotten users out.

    Returns:
        How many segments are still being written: `cut_left` cuts them once they are not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    forgotten = _read_forgotten(folder) | {_digest(user_id): time.time_ns() // 1000}
    replacement = folder / f"{FORGOTTEN}.new"
    replacement.write_bytes(orjson.dumps(forgotten))
    replacement.replace(folder / FORGOTTEN)
    return _cut_all(folder, segments(folder), forgotten)


def cut_left(folder: Path) -> int:
    """Cut what `forget` could not, as a writer held it; returns how many segments that still are.

    The next run does, before it reads the log.
    """
    names = folder / UNCUT
    left = names.read_text().splitlines() if names.exists() else []
    there = [folder / name for name in left if (folder / name).exists()]
    return _cut_all(folder, there, _read_forgotten(folder)) if left else 0


def drop_read(
    folder: Path, read: Mapping[str, tuple[int, int]], *, written_before: float
) -> list[str]:
    """Remove the segments that nobody writes, or has still to read, and that are old.

    Args:
        read: of each segment, the bytes that were read; the second counts.
        written_before: seconds since the epoch.

    Returns:
        Their names.
    """
    gone = []
    for segment in segments(folder):
        with finished(segment) as file:
            if file is None:
                continue
            found = os.fstat(file.fileno())
            _, end = read.get(segment.name, (0, 0))
            if end >= found.st_size and found.st_mtime < written_before:
                segment.unlink()
                segment.with_suffix(APPLIED).unlink(missing_ok=True)
                gone.append(segment.name)
    return gone


def _cut_all(folder: Path, some: list[Path], forgotten: dict[str, int]) -> int:
    left = [segment.name for segment in some if not _cut(segment, forgotten)]
    unfinished = folder / f"{UNCUT}.new"
    unfinished.write_text("".join(f"{name}\n" for name in left))
    unfinished.replace(folder / UNCUT)
    return len(left)


def _cut(segment: Path, forgotten: dict[str, int]) -> bool:
    """Empty the records of the forgotten users; False if a writer holds the segment."""
    with finished(segment) as file:
        if file is None:
            return False
        content = file.read()
        before = list(frames(content))
        after = [
            _empty(frame) if _is_forgotten(orjson.loads(frame[HEADER.size :]), forgotten) else frame
            for frame in before
        ]
        if after != before:
            replacement = segment.with_suffix(".new")
            replacement.write_bytes(b"".join(after) + content[whole_bytes(content) :])
            shutil.copystat(segment, replacement)  # as old as it was
            replacement.replace(segment)
        return True


def _empty(frame: bytes) -> bytes:
    """A frame of the same length with no record in it."""
    return frame_of(orjson.dumps({"type": GONE}).ljust(len(frame) - HEADER.size))


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
