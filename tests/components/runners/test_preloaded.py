"""Stages of a local run have processes of their own, of which one may crash."""

import os

from kfp import dsl, local
from kfp.local import subprocess_task_handler

from components.runners.preloaded import preloaded_stages
from components.support.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def describe_itself(secret: str) -> str:
    import os
    import sys

    assert "_LEFT_BEHIND" not in os.environ
    os.environ["_LEFT_BEHIND"] = secret
    print("printed by", secret)
    imported = "torch" in sys.modules
    import torch

    return f"{os.getpid()} {imported} {torch.zeros(2).sum():g} {os.environ['OMP_WAIT_POLICY']}"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def die(status: int):
    import os

    os._exit(status)


def test_stages_share_imports_and_nothing_else_and_a_crash_ends_one_of_them(tmp_path):
    started_by_kfp = subprocess_task_handler.run_local_subprocess
    with (tmp_path / "log").open("w") as log, preloaded_stages(log):
        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(tmp_path / "artifacts"),
            raise_on_error=False,
        )
        first = describe_itself(secret="one").output.split()
        crashed = die(status=9)
        second = describe_itself(secret="two").output.split()
    assert first[1:] == second[1:] == ["True", "0", "PASSIVE"]
    assert len({first[0], second[0], str(os.getpid())}) == 3
    assert crashed.outputs == {}
    printed = (tmp_path / "log").read_text()
    assert printed.index("printed by one") < printed.index("printed by two")
    assert subprocess_task_handler.run_local_subprocess is started_by_kfp
