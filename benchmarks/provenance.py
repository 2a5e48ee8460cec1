"""Where a figure comes from: versions, machine, commit and command, written beside it."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ELSEWHERE = {
    "--data-dir": "DIR",
    "--home": "SITE",
    "--work-dir": "WORK",
    "--rectools-python": "VENV/bin/python",
    "--reference-python": "VENV/bin/python",
}


def provenance() -> dict[str, Any]:
    """What a reader needs to repeat a measurement.

    A copy without this repository's history has its commit in $COMMIT.
    """
    cuda = torch.cuda.is_available()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m " + " ".join([_module(), *_arguments()]),
        "commit": os.environ.get("COMMIT") or _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", "sasrec", "kernels")),
        "python": platform.python_version(),
        "torch": version("torch"),
        "device": torch.cuda.get_device_name() if cuda else _cpu_name(),
        "threads": torch.get_num_threads(),
    }


def _module() -> str:
    main = sys.modules["__main__"]
    return main.__spec__.name.removesuffix(".__main__") if main.__spec__ else Path(sys.argv[0]).stem


def _arguments() -> list[str]:
    """As given, but for paths that are others on every machine."""
    given = sys.argv[1:]
    return [ELSEWHERE.get(before, a) for before, a in zip(["", *given], given, strict=False)]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
