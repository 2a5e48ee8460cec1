"""The copies of the site's data that its runs made, and for how long they stay.

Each run keeps what its stages handed on: all interactions, all histories, the models. The newest
runs keep them to be looked at; of older ones the report, the summary and the logs stay.
"""

import shutil
from pathlib import Path

RUNS = "runs.txt"
"""In the home: a line for each run that has copies, the newest last."""
COPIES = ("artifacts", "evaluation/per_user.parquet", "evaluation/users.parquet")
"""In a run's folder."""


def note_run(home: Path, run_dir: Path, *, keep: int) -> list[Path]:
    """Note that a run begins, and drop the copies of all but the `keep` newest before it.

    The caller holds the site's lease.

    Returns:
        The runs whose copies went.
    """
    before = [run for run in runs_of(home) if run != run_dir]
    old, kept = before[: max(0, len(before) - keep)], before[max(0, len(before) - keep) :]
    for run in old:
        drop_copies(run)
    _write(home, [*kept, run_dir])
    return old


def runs_of(home: Path) -> list[Path]:
    """The runs that have copies, oldest first; those that somebody removed are left out."""
    noted = home / RUNS
    lines = noted.read_text().splitlines() if noted.exists() else []
    return [Path(line) for line in lines if Path(line).is_dir()]


def drop_copies(run_dir: Path) -> None:
    """Remove a run's copies of the data."""
    for name in COPIES:
        path = run_dir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write(home: Path, runs: list[Path]) -> None:
    unfinished = home / f".{RUNS}.new"
    unfinished.write_text("".join(f"{run}\n" for run in runs))
    unfinished.replace(home / RUNS)
