"""Whether a folder is on this machine's disk or on a volume that other machines mount as well."""

import os
from pathlib import Path

from sasrec.errors import DataError

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "afs", "ocfs2", "gfs2"}
)
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.lxcfs"})


def filesystem_of(path: Path) -> str:
    """The type of the file system that holds a path, such as "ext4"; empty where it is unknown."""
    path = Path(os.path.realpath(path))
    found, kind = Path(), ""
    for line in _MOUNTS.read_text().splitlines() if _MOUNTS.exists() else []:
        # ... 4: mount point, octal escapes for blanks ... "-" file system type ...
        mounted, _, described = line.partition(" - ")
        point = Path(mounted.split()[4].replace("\\040", " "))
        # The last of several mounts on one point is the one that is seen.
        if path.is_relative_to(point) and len(point.parts) >= len(found.parts):
            found, kind = point, described.split()[0]
    return kind


def refuse_network_volume(path: Path) -> None:
    """Refuse to put an SQLite database in WAL mode where it would be damaged.

    Its processes share memory through a file beside it, which hosts of a network volume cannot.

    Raises:
        DataError: the path is on a network volume.
    """
    kind = filesystem_of(path)
    if kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE):
        raise DataError(
            f"{path}: on a network volume ({kind}), where SQLite's write-ahead log does not work; "
            "set SASREC_FEATURE_PROFILE=production and SASREC_HISTORY=redis://..."
        )
