"""The lease on a run's site: taken as the run begins, kept by each stage."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from feature_repo import lease
from feature_repo.lease import LeaseLost

HOME = "home"
"""A file of a run's folder that names the site, where the folder itself does not."""


def home_of(run_dir: Path) -> Path | None:
    """The site of a run: what its `home` file says, else the folder around `runs/<run>`."""
    note = run_dir / HOME
    if note.exists():
        return Path(note.read_text())
    return run_dir.parent.parent if run_dir.parent.name == "runs" else None


def begin(home: Path, run_dir: Path) -> None:
    """Take the lease on a run's site, and leave it to the first stage.

    Raises:
        LeaseHeld: another run is at work.
    """
    if not os.environ.get("SASREC_LOCAL_RUN"):
        lease.take(home, str(run_dir)).renew(lease.WAITING_SECONDS)
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / HOME).write_text(str(home))


@contextmanager
def held_by_stage(
    run_dir: Path, lost: Callable[[LeaseLost], None], *, last: bool
) -> Iterator[None]:
    """Hold the lease while a stage works, and leave it to the next one.

    On a cluster each stage is a pod of its own, and the run is the owner. In a local run the
    process that started the stages holds the lease, and ends them when it is lost.

    Args:
        lost: as in `Lease.kept`.

    Raises:
        LeaseLost: another run has been at work since the last stage.
    """
    home = home_of(run_dir)
    if home is None or os.environ.get("SASREC_LOCAL_RUN"):
        yield
        return
    owner = str(run_dir)
    held = lease.resume(home, owner)
    with held.kept(lost):
        yield
    if last:
        held.release()
    else:
        held.renew(lease.WAITING_SECONDS)


def give_back(run_dir: Path) -> None:
    """Let another run begin: this one is over, however it ended."""
    home = home_of(run_dir)
    if home is not None and lease.owner_of(home) == str(run_dir):
        with suppress(LeaseLost):  # another run took it since we looked
            lease.resume(home, str(run_dir)).release()
