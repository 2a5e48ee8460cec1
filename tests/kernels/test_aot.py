"""What the shipped tiles take of a GPU, known without one.

The whole table takes minutes to compile. So a few lines are compiled here, and of the rest the
report that ``python -m kernels.tiles.aot --report`` wrote is checked: that it is about these
kernels and this table, that it is complete, and that nothing in it spills.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.tiles import table as tiles
from tests.kernels.packed import INTERPRETED

pytest.importorskip("triton", reason="needs Triton, which has no build for this platform")
if INTERPRETED:
    pytest.skip("needs compiled kernels: TRITON_INTERPRET is set", allow_module_level=True)

from kernels.tiles import aot
from kernels.tiles.refresh import lines

REPORT = Path(__file__).parents[2] / "benchmarks/results/attention-aot.json"


def test_the_table_has_every_line():
    for architecture in tiles.ARCHITECTURES:
        for key, kernels in lines(architecture):
            assert set(kernels) <= set(tiles.table()[key]), key


def test_the_report_is_about_these_kernels_and_this_table():
    refresh = (
        f"python -m kernels.tiles.aot --report {REPORT.relative_to(Path(__file__).parents[2])}"
    )
    assert json.loads(REPORT.read_text())["digest"] == aot.digest(), f"out of date: {refresh}"


def test_no_shipped_tile_spills():
    rows = [
        aot.Resources(**row | {"key": tiles.Key(**row["key"]), "tile": tiles.Tile(**row["tile"])})
        for row in json.loads(REPORT.read_text())["rows"]
    ]
    found = {(row.kernel, row.key): row.tile for row in rows}
    table = {
        (kernel, key): tile
        for key, by_kernel in tiles.table().items()
        for kernel, tile in by_kernel.items()
    }
    assert found == table
    assert [row for row in rows if not row.fits()] == []


@pytest.mark.parametrize("kernel", ["forward", "items_gradient"])
def test_compile_for_every_architecture(kernel):
    command = [sys.executable, "-m", "kernels.tiles.aot", "--processes", "1"]
    narrowed = ["--kernel", kernel, "--dtype", "half", "--block-d", "64"]
    done = subprocess.run([*command, *narrowed], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    for architecture in tiles.ARCHITECTURES:
        assert f"{architecture} half 64" in done.stdout
    assert "0 that spill registers" in done.stdout


def test_a_tile_that_spills_is_refused():
    key = tiles.Key("sm_80", "float32", 128, dropout=True, bias=True)
    too_large = aot.compiled("key_value_gradient", key, tiles.Tile(64, 64, 4, 1))
    assert not too_large.fits()
