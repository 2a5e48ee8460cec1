"""One page with the headline panels that Prometheus itself serves: no Grafana, no other host."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from deploy.dashboards.panels import Board, with_any_variable

TEMPLATE = Path(__file__).with_name("console.html")


def console_html(boards: Sequence[Board]) -> str:
    """The page, to be put among Prometheus' console templates."""
    panels = [asdict(panel) for board in boards for panel in board.panels if panel.headline]
    for panel in panels:
        for query in panel["queries"]:
            query["expr"] = with_any_variable(query["expr"])
            # Prometheus expands the page as a Go template, in which {{ }} is its own.
            query["legend"] = query["legend"].replace("{{", "<").replace("}}", ">")
    return TEMPLATE.read_text().replace("/* PANELS */", json.dumps(panels, indent=1))
