"""Locks between the processes of one host; between hosts, a site has its lease."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sasrec.errors import DataError

PATIENCE_SECONDS = 120.0
"""Of a stage, which holds the site's lease: who still has the lock is gone. A volume keeps the lock
of a host that it lost for about a lease of its own, 90 s on NFSv4."""


@contextmanager
def exclusive(path: Path, busy: str, *, patience: float = 0.0) -> Iterator[None]:
    """Hold a file's `flock`; on a volume that has no locks, the site's lease alone guards.

    Args:
        busy: what is said when somebody else holds it.
        patience: seconds to wait for that; none where a person waits for the answer.

    Raises:
        DataError: somebody else holds it.
    """
    with path.open("w") as file:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise DataError(busy) from None
                time.sleep(1.0)
            except OSError:
                break
        yield
