"""Means over seeds with 95 % intervals, round by round, and who differs from whom at the end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.feedback_loop.team import TEAMS

MEASURES = {
    "click_through": "true click-through of what is served",
    "model_click_through": "true click-through of the model's own ten best",
    "coverage": "share of items among the model's ten best",
    "calibration_error": "calibration error on random items",
}
REFERENCE = TEAMS[0].name


def summarise(folder: Path) -> dict[str, Any]:
    """Every measure of every team: per round over seeds, and the last round beside `REFERENCE`.

    Intervals are Student's t over seeds; differences are paired, as seeds are the same shops.
    """
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    by_team = {
        team.name: sorted((r for r in results if r["team"] == team.name), key=lambda r: r["seed"])
        for team in TEAMS
    }
    values = {
        team: {
            measure: np.array([[one[measure] for one in r["rounds"]] for r in own])
            for measure in (*MEASURES, "promoted")
        }
        for team, own in by_team.items()
    }
    return {
        "seeds": [r["seed"] for r in by_team[REFERENCE]],
        "teams": {
            team: {
                "promoted": float(own["promoted"].mean()),
                **{
                    measure: {
                        "rounds": [_interval(column) for column in own[measure].T],
                        "last_minus_reference": _interval(
                            own[measure][:, -1] - values[REFERENCE][measure][:, -1]
                        ),
                    }
                    for measure in MEASURES
                },
            }
            for team, own in values.items()
        },
        "provenance": results[0]["provenance"],
        "cpu_seconds": round(sum(r["cpu_seconds"] for r in results)),
    }


def print_table(summary: dict[str, Any], console: Console) -> None:
    """The last round, with intervals over seeds."""
    table = Table(title=f"last round, mean and 95 % interval over {len(summary['seeds'])} seeds")
    table.add_column("team")
    for title in MEASURES.values():
        table.add_column(title)
    table.add_column("rounds promoted")
    for team, own in summary["teams"].items():
        cells = []
        for measure in MEASURES:
            last = own[measure]["rounds"][-1]
            cells.append(f"{last['mean']:.3f} [{last['low']:.3f}, {last['high']:.3f}]")
        table.add_row(team, *cells, f"{own['promoted']:.0%}")
    console.print(table)


def _interval(values: np.ndarray) -> dict[str, float]:
    mean, reach = float(values.mean()), 0.0
    if len(values) > 1:
        reach = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return {"mean": mean, "low": mean - reach, "high": mean + reach}
