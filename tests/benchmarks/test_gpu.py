"""The plan for a GPU: what is done is not done again, what does not fit waits."""

import importlib.util
import subprocess
import sys

import pytest

from benchmarks import gpu


@pytest.fixture
def parts(monkeypatch):
    parts = (
        gpu.Part("first", ("-c", "print('one')"), 3),
        gpu.Part("second", ("-c", "import sys; print('two'); sys.exit(4)"), 20),
        gpu.Part("third", ("-c", "print('DATA')"), 4),
    )
    monkeypatch.setattr(gpu, "PARTS", parts)
    return parts


def test_a_part_is_done_where_it_ended_well_at_this_commit(parts):
    first, second, third = parts
    done = {
        "first": {"commit": "abc", "exit_status": 0},
        "second": {"commit": "abc", "exit_status": 4},
        "third": {"commit": "of yesterday", "exit_status": 0},
    }
    assert gpu.remaining(done, "abc") == [second, third]
    assert gpu.remaining({}, "abc") == [first, second, third]


def test_the_plan_says_what_waits_for_a_later_call(parts, capsys):
    gpu.show_plan(list(parts), minutes=10)
    lines = [line for line in capsys.readouterr().out.splitlines() if "min " in line]
    assert [line.endswith("(in a later call)") for line in lines] == [False, True, False]


def test_a_part_leaves_how_it_ended(parts):
    assert gpu.run_part(parts[0], None)["output_ends"] == ["one"]
    failed = gpu.run_part(parts[1], None)
    assert (failed["exit_status"], failed["output_ends"]) == (4, ["two"])


def test_every_part_names_a_module_that_is_there():
    for part in gpu.PARTS:
        assert importlib.util.find_spec(part.command[1]), part.name


def test_without_a_gpu_it_says_so_in_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        capture_output=True,
        text=True,
        env={"CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "error: no CUDA GPU is at hand; --plan shows what would be run"
