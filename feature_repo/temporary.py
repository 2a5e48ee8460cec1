"""Temporary files that go with the process that they are for, however it ends."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from feature_repo.host import process_start, this_host

_PREFIX = "sasrec-"
_SAME_PROCESS_SECONDS = 10.0  # the moment at which a process began moves with the clock


@contextmanager
def own_temporary_files() -> Iterator[Path]:
    """A folder for the temporary files of this process and of all that it starts within.

    BentoML, Feast and KFP make folders that a process removes when it ends by itself; workers and
    stages are told to end, and some are killed. So whoever starts them has one folder for them all,
    and removes it. What a process left that was killed itself is removed by the next one on this
    host that asks for a folder.
    """
    before, parent = os.environ.get("TMPDIR"), tempfile.gettempdir()
    _remove_left(Path(parent))
    pid = os.getpid()
    own = Path(parent) / f"{_PREFIX}{this_host()}-{pid}-{process_start(pid):.0f}"
    own.mkdir(mode=0o700, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)
    try:
        yield own
    finally:
        if os.getpid() == pid:  # and not a fork of it
            tempfile.tempdir = parent
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before
            shutil.rmtree(own, ignore_errors=True)


def _remove_left(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}{this_host()}-*-*"):
        with suppress(ValueError):  # a name that is not ours
            pid, began = map(int, folder.name.split("-")[2:])
            now = process_start(pid)
            if now is None or abs(now - began) > _SAME_PROCESS_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
