"""Temporary files go with the process that they are for."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from feature_repo.temporary import own_temporary_files

LEAVES_A_FILE = """
import os, sys, tempfile
from feature_repo.temporary import own_temporary_files
with own_temporary_files():
    tempfile.mkdtemp()
    print("made", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files of this process, empty."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def start():
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVES_A_FILE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    return process


def test_what_a_process_and_its_children_make_is_gone_when_it_ends(temporary):
    with own_temporary_files() as own:
        assert Path(tempfile.mkdtemp()).parent == own
        child = [sys.executable, "-c", "import tempfile; print(tempfile.mkdtemp())"]
        made = subprocess.run(child, capture_output=True, text=True, check=True).stdout.strip()
        assert Path(made).parent == own
    assert not list(temporary.iterdir())
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(temporary)


def test_what_a_killed_process_left_is_removed_by_the_next_and_a_living_ones_is_not(temporary):
    killed, living = start(), start()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(list(temporary.iterdir())) == 2
    (temporary / "sasrec-notes-of-somebody").mkdir()
    with own_temporary_files() as own:
        [*others] = {path.name.split("-")[2] for path in temporary.iterdir()} - {"of"}
        assert sorted(map(int, others)) == sorted([living.pid, os.getpid()])
        assert own.exists()
    living.communicate()
    assert [path.name for path in temporary.iterdir()] == ["sasrec-notes-of-somebody"]


def test_a_fork_leaves_the_folder_to_its_parent(temporary):
    with own_temporary_files() as own:
        child = os.fork()
        if child == 0:
            with own_temporary_files():
                pass
            os._exit(0)
        os.waitpid(child, 0)
        assert own.exists()
