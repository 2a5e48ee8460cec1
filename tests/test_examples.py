"""Each example runs as its first line says, and prints what it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(name: str) -> str:
    done = subprocess.run(
        [sys.executable, f"examples/{name}.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested():
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert names == {"fit_a_frame", "serve_and_shift", "value_of_a_policy", "your_own_gate"}


def test_fit_a_frame():
    lines = run("fit_a_frame").splitlines()
    first = next(line for line in lines if line.startswith("after film-3, film-4:"))
    loaded = next(line for line in lines if line.startswith("loaded again:"))
    assert first.partition(":")[2] == loaded.partition(":")[2]
    assert "film-5" in first


def test_your_own_gate():
    out = run("your_own_gate")
    assert out.startswith("promote: 2 gates passed")
    assert "passed: knows more than popularity" in out


def test_value_of_a_policy():
    out = run("value_of_a_policy")
    assert "always the third would have earned" in out
    assert "nothing speaks against it" in out


@pytest.mark.timeout(300)
def test_serve_and_shift():
    lines = run("serve_and_shift").splitlines()
    before = next(line for line in lines if line.startswith("before:"))
    after = next(line for line in lines if line.startswith("after film-7:"))
    assert before.partition(":")[2] != after.partition(":")[2]
    assert "film-8" in after
