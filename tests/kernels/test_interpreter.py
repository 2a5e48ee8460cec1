"""The Triton kernels without a GPU: the other tests again, in Triton's interpreter.

In a process of its own, since the choice is made when the kernels are imported.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
FILES = ("test_attention.py", "test_cross_entropy.py", "test_dropout.py", "test_operators.py")


@pytest.mark.parametrize("file", FILES)
def test_in_the_interpreter(file):
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:xdist", str(FOLDER / file)]
    done = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
