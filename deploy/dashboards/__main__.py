"""Write the Grafana dashboards and the console page, and the rules as Kubernetes takes them."""

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
    files[DEPLOY / "kubernetes" / "monitoring" / "prometheus-rule.yaml"] = _prometheus_rule()
    return files


def _prometheus_rule() -> str:
    lines = [
        "# Written by `python -m deploy.dashboards` from deploy/prometheus/rules; edit those.",
        "apiVersion: monitoring.coreos.com/v1",
        "kind: PrometheusRule",
        "metadata:",
        "  name: sasrec",
        "spec:",
        "  groups:",
    ]
    for name in ("recording.yml", "alerts.yml"):
        _, _, groups = (DEPLOY / "prometheus" / "rules" / name).read_text().partition("groups:\n")
        lines += [f"  {line}" if line else "" for line in groups.splitlines()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for path, content in generated().items():
        path.write_text(content)
        print(f"wrote {path.relative_to(DEPLOY.parent)}")
