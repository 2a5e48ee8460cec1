"""What interrupted trainings leave in a home, for as long as somebody may go on with them."""

import shutil
import time
from pathlib import Path

KEPT_SECONDS = 7 * 24 * 3600


def drop_abandoned(training: Path) -> None:
    """Remove the folders of trainings that nobody has gone on with for a week.

    A finished training removes its own; a run repeated with other settings or data never returns to
    one that was interrupted.
    """
    for folder in training.iterdir():
        touched = max((path.stat().st_mtime for path in folder.rglob("*")), default=0.0)
        if max(touched, folder.stat().st_mtime) < time.time() - KEPT_SECONDS:
            shutil.rmtree(folder)
