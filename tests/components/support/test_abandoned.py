import os
import time

from components.support.abandoned import KEPT_SECONDS, drop_abandoned


def test_trainings_that_nobody_went_on_with_go_and_others_stay(tmp_path):
    long_ago = time.time() - KEPT_SECONDS - 60
    for name in ("old", "resumed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoint").touch()
        os.utime(tmp_path / name, (long_ago, long_ago))
    os.utime(tmp_path / "old" / "checkpoint", (long_ago, long_ago))
    drop_abandoned(tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["resumed"]
