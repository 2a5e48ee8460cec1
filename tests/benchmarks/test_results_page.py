"""The page, the plots and the figures in other documents say what the result files say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results_page import embedded, files, page, plots
from benchmarks.results_page.table import number, share, times

ROOT = Path(__file__).parents[2]
REMEDY = "run: python -m benchmarks.results_page"


def test_the_page_is_what_the_files_say():
    assert (ROOT / "docs/results.md").read_text() == page.markdown(), REMEDY


@pytest.mark.parametrize("name", plots.PLOTS)
def test_a_plot_was_drawn_from_the_files_of_today(name):
    """By the digest of its data: another matplotlib may draw other bytes."""
    assert plots.digest(name) in (ROOT / "docs/images" / name).read_text(), REMEDY


def test_a_plot_carries_no_date_and_is_the_same_bytes_again():
    drawn = plots.svg("speed.svg")
    assert "dc:date" not in drawn
    assert drawn == plots.svg("speed.svg")


@pytest.mark.parametrize("path", embedded.BLOCKS)
def test_a_document_holds_its_figures(path):
    text = (ROOT / path).read_text()
    assert text == embedded.fill(path, text), REMEDY


def test_the_readme_shows_a_run_that_was_recorded():
    text = (ROOT / "README.md").read_text()
    for stage, said in embedded.example_run().items():
        line = re.search(rf"^✓ {stage} +(.*)$", text, re.MULTILINE)
        assert line, stage
        assert line[1].startswith(said), stage


def test_a_document_without_its_markers_is_refused():
    with pytest.raises(ValueError, match=r"README.md: .* must enclose the block 'quality'"):
        embedded.fill("README.md", "no marker")


def test_every_plot_and_every_subject_stands_on_the_page():
    text = page.markdown()
    assert all(f"(images/{name})" in text for name in plots.PLOTS)
    measured = [subject for subject in page.SUBJECTS if subject().rows]
    assert text.count("\n## ") == len(measured) + ("## Records without a table" in text)


def test_a_result_without_a_table_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    (tmp_path / "new.json").write_text("{}")
    assert "new" in files.unread()
    assert files.read("new") == {}
    assert "new" not in files.unread()
    files.read.cache_clear()


def test_figures_are_rounded_and_never_powers_of_ten():
    assert [number(v) for v in (0, 3, 1234.6, 12.345, 0.012345)] == [
        "0",
        "3",
        "1,235",
        "12.3",
        "0.0123",
    ]
    assert (share(0.20761), share(0.0202, 3)) == (".2076", ".020")
    assert (times(0.691), times(12.34), times(1234.5)) == ("0.69", "12.3", "1,234")


def test_the_page_needs_no_torch():
    """So that it is made in a second, on any machine."""
    code = (
        "import sys; from benchmarks.results_page import page; page.markdown();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
