"""`lake.json`: what a lake holds, and the one batch that may be under way.

It is replaced as a whole, so that a lake is always either before or after a step.
"""

import json
import os
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sasrec.data.source import Clock
from sasrec.errors import DataError

FORMAT = 1
"""Of `lake.json` and of the tables beside it; another one is refused."""
STATE = "lake.json"


@dataclass(frozen=True)
class Import:
    """A data set that was imported.

    Attributes:
        digest: of its content, which is imported once.
        notes: what its reader found out or decided.
    """

    digest: str
    name: str
    notes: list[str]


@dataclass(frozen=True)
class State:
    """What a lake holds.

    Attributes:
        batch: the newest batch; its number is also the version of the transaction with which each
            table takes it.
        kind: of that batch.
        complete: every table has taken it. If not, a batch of the log is taken again, from the
            same bytes, and one of an import is taken back.
        grown: the newest complete batch that added rows.
        segments: of the event log: name -> the bytes before the newest batch, and with it.
        next_sequence: the lowest number that no row has.
        clock: None until the first import.
        imports: oldest first.
    """

    batch: int = 0
    kind: Literal["new", "log", "import"] = "new"
    complete: bool = True
    grown: int = 0
    segments: dict[str, tuple[int, int]] = field(default_factory=dict)
    next_sequence: int = 0
    clock: Clock | None = None
    imports: list[Import] = field(default_factory=list)

    def begin(self, kind: Literal["log", "import"], **changes: Any) -> "State":
        """With one more batch, which no table has taken."""
        return replace(self, batch=self.batch + 1, kind=kind, complete=False, **changes)


class StateFile:
    """`lake.json` on any file system.

    Args:
        filesystem: of fsspec.
        base: the lake's folder on it.
    """

    def __init__(self, filesystem: fsspec.AbstractFileSystem, base: str) -> None:
        self._filesystem = filesystem
        self._path = f"{base}/{STATE}"

    def read(self) -> State | None:
        """None where there is no lake.

        Raises:
            DataError: it is damaged, or of another format.
        """
        try:
            content = json.loads(self._filesystem.cat_file(self._path))
            found = content.pop("format")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, AttributeError) as error:
            raise DataError(
                f"{self._path}: is damaged ({error}); restore it from a backup of the site"
            ) from None
        if found != FORMAT:
            raise DataError(
                f"{self._path}: format {found}, and this version reads {FORMAT}; use the version "
                "that wrote it, or another --home"
            )
        return State(
            **content
            | {
                "segments": {name: (a, b) for name, (a, b) in content["segments"].items()},
                "imports": [Import(**entry) for entry in content["imports"]],
            }
        )

    def write(self, state: State) -> None:
        """Replace it in one step; durable on return."""
        content = json.dumps({"format": FORMAT, **asdict(state)}, indent=1).encode()
        if not isinstance(self._filesystem, LocalFileSystem):
            self._filesystem.pipe_file(self._path, content)  # whole or not at all
            return
        path = Path(self._path)
        path.parent.mkdir(parents=True, exist_ok=True)
        replacement = path.with_name(f".{STATE}.{uuid.uuid4().hex}")
        with replacement.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        replacement.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
