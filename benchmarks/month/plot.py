"""True click-through by day, the service beside the references; vertical lines are misfortunes."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.month.lines import TEAMS

COLOURS = ("#2a7de1", "#d9730d", "#7a8290", "#2e7d32")


def draw(summaries: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG of one schedule; of several seeds the mean, and a band from least to most."""
    path.parent.mkdir(parents=True, exist_ok=True)
    days = min(len(summary["by_day"]) for summary in summaries)
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}):
        figure = Figure(figsize=(9.5, 4), layout="constrained")
        axes = figure.subplots()
        for team, colour in zip(TEAMS, COLOURS, strict=True):
            values = np.array(
                [[day["click_through"][team] for day in s["by_day"][:days]] for s in summaries]
            )
            axes.plot(np.arange(days), values.mean(axis=0), color=colour, linewidth=2, label=team)
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(np.arange(days), low, high, color=colour, alpha=0.15, linewidth=0)
        for misfortune in summaries[0]["misfortunes"]:
            day = int(misfortune["step"].split()[1])
            if day < days:
                axes.axvline(day, color="#dddddd", linewidth=1, zorder=0)
                axes.annotate(
                    misfortune["misfortune"],
                    (day, axes.get_ylim()[1]),
                    rotation=90,
                    fontsize=7,
                    ha="right" if "round" in misfortune["step"] else "left",
                    va="top",
                    color="#7a8290",
                )
        axes.set_ylim(bottom=0)
        axes.set_xlabel("day")
        axes.set_title("true click-through of what is shown", fontsize=11, loc="left")
        figure.legend(loc="outside lower center", ncols=len(COLOURS), frameon=False)
        figure.savefig(path, dpi=120)
