"""What a command refuses before it does anything, and what it prints to be pasted."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from components.command_line.local import _serve
from components.command_line.outputs import require_writable
from components.runners.local import new_run_id
from components.support.settings import build_config
from sasrec.errors import DataError, SettingsError


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere/x.json", "there is no folder"),
        (".", "is a folder"),
        ("sealed/x.json", "may not be written"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(tmp_path, monkeypatch, path, message):
    (tmp_path / "sealed").mkdir()
    monkeypatch.setattr("os.access", lambda path, _: Path(path).name != "sealed")
    with pytest.raises(SettingsError, match=message):
        require_writable("--json", tmp_path / path)
    require_writable("--json", tmp_path / "x.json")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_gates_file_that_cannot_be_read_is_named(tmp_path, content):
    gates = tmp_path / "gates.yaml"
    if content:
        gates.write_bytes(content)
    with pytest.raises(DataError, match=r"gates\.yaml: cannot be read \(.*\); name a gates file"):
        build_config(gates=gates)


@pytest.mark.parametrize("home", ["var/shop", "var/my events (1)", "o'brien/$HOME [v2]"])
def test_the_printed_command_can_be_pasted(tmp_path, home):
    (tmp_path / "Makefile").write_text("serve:\n\t@printf '%s\\n' $(ARGS)\n")
    # A person's shell is not within a `make`, as `make test` is: that would add lines of its own.
    of_make = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in of_make}
    done = subprocess.run(
        ["sh", "-c", _serve(Path(home))],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["--home", home]
    assert _serve(Path("var/shop")) == "make serve ARGS='--home var/shop'"
    assert shlex.split(_serve(Path(home)))[:2] == ["make", "serve"]


def test_runs_of_one_second_differ():
    assert len({new_run_id("shop") for _ in range(10)}) == 10
