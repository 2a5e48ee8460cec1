"""Makes KFP's local runner start stages in a process that has imported everything already."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

from kfp.local import subprocess_task_handler

from sasrec.resources import cores

POLITE = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(cores())}
"""Threads that wait for each other sleep. Spinning, as is OpenMP's default, each would hold a core
that the one it waits for needs, where something else is at work too."""


@contextlib.contextmanager
def preloaded_stages(log: IO[str]) -> Iterator[None]:
    """Within, KFP's `SubprocessRunner` asks one `stage_server` instead of starting an interpreter.

    KFP offers no hook for it, so its function that starts the process is replaced; KFP is pinned.

    Args:
        log: takes what the stages print.
    """
    answers, answer = os.pipe()
    server = subprocess.Popen(
        [sys.executable, "-m", "components.runners.stage_server", str(answer)],
        stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, pass_fds=[answer],
        env=POLITE | os.environ,
    )  # fmt: skip
    os.close(answer)
    started_by_kfp = subprocess_task_handler.run_local_subprocess

    def ask(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """KFP's command is a shell's, its script, the component's source and the arguments."""
        [script] = [i for i, part in enumerate(full_command) if "ephemeral_component.py" in part]
        source, *arguments = full_command[script + 1 :]
        assert server.stdin is not None
        print(json.dumps({"source": source, "arguments": arguments}), file=server.stdin, flush=True)
        return int(replies.readline() or -1)

    subprocess_task_handler.run_local_subprocess = ask
    try:
        with os.fdopen(answers) as replies:
            yield
    finally:
        subprocess_task_handler.run_local_subprocess = started_by_kfp
        with contextlib.suppress(BrokenPipeError):
            server.communicate()
