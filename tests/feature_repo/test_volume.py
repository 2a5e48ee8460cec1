"""SQLite in WAL mode is refused, by name, on volumes of which several hosts write."""

from pathlib import Path

import pytest

from feature_repo import volume
from feature_repo.history import open_history
from feature_repo.store import configure
from sasrec.errors import DataError

LOCAL = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw"


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """Mount a kind of file system on a folder, as /proc tells it."""

    def mount(kind):
        line = f"40 22 0:50 / {tmp_path}/site\\040home rw,relatime - {kind} server:/export rw"
        (tmp_path / "mountinfo").write_text(f"{LOCAL}\n{line}\n")
        monkeypatch.setattr(volume, "_MOUNTS", tmp_path / "mountinfo")
        (tmp_path / "site home").mkdir(exist_ok=True)
        return tmp_path / "site home"

    return mount


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "ceph", "fuse.juicefs", "fuse.gcsfuse"])
def test_a_network_volume_is_refused_with_its_kind_and_what_to_set(mounted, kind):
    home = mounted(kind)
    for use in (
        lambda: open_history(home / "history.db"),
        lambda: configure(home, "local"),
    ):
        with pytest.raises(DataError, match=rf"network volume \({kind}\).*PROFILE=production"):
            use()
    assert list(home.iterdir()) == []
    configure(home, "production")


@pytest.mark.parametrize("kind", ["ext4", "overlay", "fuse.fuse-overlayfs", "tmpfs"])
def test_a_disk_of_this_machine_is_not(mounted, kind):
    home = mounted(kind)
    open_history(home / "history.db").close()
    configure(home, "local")


def test_the_volume_of_a_path_is_the_innermost_mount(mounted, tmp_path):
    home = mounted("nfs")
    assert volume.filesystem_of(home / "deep" / "file") == "nfs"
    assert volume.filesystem_of(tmp_path) == "ext4"


def test_what_cannot_be_known_is_not_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(volume, "_MOUNTS", Path("/nowhere"))
    volume.refuse_network_volume(tmp_path)
