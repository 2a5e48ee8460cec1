"""Prometheus for the tests: on the PATH, else Debian's package where this user may install it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

LOCK = Path(tempfile.gettempdir(), "sasrec-test-prometheus.lock")  # tests run in several processes


def require_prometheus() -> None:
    """Have `prometheus` and `promtool`, or skip and say why."""
    if shutil.which("prometheus") and shutil.which("promtool"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("needs prometheus and promtool on the PATH (Debian: package prometheus)")
    with FileLock(LOCK):
        if shutil.which("promtool"):
            return
        for step in (["update"], ["install", "--yes", "--no-install-recommends", "prometheus"]):
            done = subprocess.run(
                ["apt-get", "-qq", *step],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"},
                capture_output=True,
                timeout=240,
                check=False,
            )
            if done.returncode:
                pytest.skip(f"needs prometheus; apt-get {step[0]} failed: {done.stderr[-200:]!r}")
