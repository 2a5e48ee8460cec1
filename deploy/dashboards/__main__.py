"""Write the Grafana dashboards and the console page from `deploy.dashboards.panels`."""

from pathlib import Path

from deploy.dashboards.console import console_html
from deploy.dashboards.grafana import dashboard_json
from deploy.dashboards.panels import BOARDS

DEPLOY = Path(__file__).resolve().parents[1]


def generated() -> dict[Path, str]:
    """Every file that this writes, with its content."""
    files = {
        DEPLOY / "grafana" / "dashboards" / f"{board.uid}.json": dashboard_json(board)
        for board in BOARDS
    }
    files[DEPLOY / "prometheus" / "consoles" / "recommender.html"] = console_html(BOARDS)
    return files


if __name__ == "__main__":
    for path, content in generated().items():
        path.write_text(content)
        print(f"wrote {path.relative_to(DEPLOY.parent)}")
