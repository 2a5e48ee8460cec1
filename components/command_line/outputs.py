"""Where a command writes is checked before it does anything else."""

import os
from pathlib import Path

from sasrec.errors import SettingsError


def require_writable(option: str, path: Path) -> None:
    """Refuse a file that could not be written in the end.

    Args:
        option: that names it.

    Raises:
        SettingsError: it is a folder, its folder is missing, or may not be written to.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise SettingsError(f"{option} {path}: is a folder; name a file")
    if not folder.is_dir():
        raise SettingsError(f"{option} {path}: there is no folder {folder}; make it first")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise SettingsError(f"{option} {path}: may not be written; choose another")
