"""Write docs/results.md, its plots and the figures in other documents.

python -m benchmarks.results_page
"""

from pathlib import Path

from benchmarks.results_page import embedded, page, plots

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Write what changed."""
    texts = {
        ROOT / "docs/results.md": page.markdown(),
        **{ROOT / path: embedded.fill(path, (ROOT / path).read_text()) for path in embedded.BLOCKS},
        **{ROOT / "docs/images" / name: plots.svg(name) for name in plots.PLOTS},
    }
    for path, text in texts.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
