"""Means over the seeds that ran, and the table of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table


def summarise(folder: Path) -> dict[str, Any]:
    """For each part: its seeds, and mean and standard deviation of every figure of every row."""
    results: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*-seed*.json")):
        result = json.loads(path.read_text())
        results.setdefault(result["part"], []).append(result)
    return {
        part: {
            "seeds": [result["seed"] for result in of_part],
            "split_sha256": of_part[0].get("split_sha256"),
            "provenance": [result["provenance"] for result in of_part],
            "rows": {
                row: _figures([r["rows"][row] for r in of_part]) for row in of_part[0]["rows"]
            },
        }
        for part, of_part in results.items()
    }


def _figures(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    values = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: {"mean": float(np.mean(found)), "std": float(np.std(found))}
        for name, found in values.items()
    }


def print_table(dataset: str, summary: dict[str, Any]) -> None:
    """One table a part."""
    for part, entry in summary.items():
        table = Table(title=f"{dataset}, {part}, seeds {entry['seeds']}")
        names = list(next(iter(entry["rows"].values())))
        for column in ("row", *names):
            table.add_column(column)
        for row, figures in entry["rows"].items():
            cells = [
                f"{value['mean']:.4g} ± {value['std']:.2g}"
                for value in (figures[name] for name in names)
            ]
            table.add_row(row, *cells)
        Console().print(table)
