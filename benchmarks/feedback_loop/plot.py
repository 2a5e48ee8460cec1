"""The plot in the README: a panel per measure, a line and a band per team."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.feedback_loop.summary import MEASURES

COLOURS = ("#b3261e", "#d9730d", "#2a7de1", "#7a8290")


def draw(summary: dict[str, Any], path: Path) -> None:
    """Write a PNG; bands are 95 % intervals over seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}):
        figure = Figure(figsize=(9.5, 6.6), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True).ravel()
        for axes, (measure, title) in zip(panels, MEASURES.items(), strict=True):
            for (team, own), colour in zip(summary["teams"].items(), COLOURS, strict=True):
                rounds = own[measure]["rounds"]
                low, mean, high = (
                    [interval[edge] for interval in rounds] for edge in ("low", "mean", "high")
                )
                place = np.arange(1, len(rounds) + 1)
                axes.plot(place, mean, color=colour, linewidth=2, label=team)
                axes.fill_between(place, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.set_title(title[0].upper() + title[1:], fontsize=11, loc="left")
            axes.set_ylim(bottom=0, top=1 if measure == "coverage" else None)
        for axes in panels[2:]:
            axes.set_xlabel("round")
        figure.legend(
            *panels[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=len(COLOURS),
            frameon=False,
        )
        figure.savefig(path, dpi=120)
