"""Charts as inline SVG that take the page's text colour, so one drawing serves light and dark."""

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sasrec.evaluation.bootstrap import Interval
from sasrec.evaluation.comparison import SliceDifference

INK = "#010203"  # replaced by currentColor
ACCENT = "#2a7de1"
SERIES = ("#2a7de1", "#d9730d", "#7a8290", "#0f9d6b", "#b0529e", "#b8860b")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sasrec",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 2,
}
WIDTH = 4.6  # inches: close to a phone's width, so that labels stay readable there


def training_curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Loss and validation metrics by epoch."""
    metric_names = list(dict.fromkeys(name for row in history for name in row if "@" in name))
    panels = [["loss"], metric_names] if metric_names else [["loss"]]
    with _svg("Training loss and validation metrics by epoch", 1.9 * len(panels)) as figure:
        for place, names in enumerate(panels, start=1):
            axes = figure.add_subplot(len(panels), 1, place)
            for name, colour in zip(names, SERIES, strict=False):
                drawn = [(row["epoch"], row[name]) for row in history if row.get(name) is not None]
                axes.plot(*zip(*drawn, strict=True), color=colour, label=name)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylabel("training loss" if names == ["loss"] else "validation")
            if names != ["loss"]:
                axes.legend()
        axes.set_xlabel("epoch")
        return figure.svg


def role_intervals(intervals: Mapping[str, Interval], metric: str) -> str:
    """One metric of every role with its interval."""
    with _svg(f"{metric} of each role with its interval", 0.5 + 0.32 * len(intervals)) as figure:
        axes = figure.add_subplot()
        _forest(axes, list(intervals), list(intervals.values()))
        axes.set_xlim(left=0)
        axes.set_xlabel(metric)
        return figure.svg


def slice_lift(slices: Sequence[SliceDifference], role: str, metric: str) -> str:
    """Model minus reference in every slice, with simultaneous intervals."""
    labels = [f"{s.slicing.replace('_', ' ')}: {s.label}" for s in slices]
    with _svg(f"{metric} of the model minus {role} by slice", 0.6 + 0.21 * len(slices)) as figure:
        axes = figure.add_subplot()
        _forest(axes, labels, [s.difference for s in slices])
        axes.axvline(0, color=INK, linewidth=1)
        axes.tick_params(axis="y", labelsize=9)
        axes.set_xlabel(f"{metric}, model − {role}")
        return figure.svg


def exposure(curves: Mapping[str, Sequence[float]]) -> str:
    """Share of recommendations against share of the catalogue."""
    with _svg("Share of recommendations by share of the catalogue", 3.0) as figure:
        axes = figure.add_subplot()
        for (role, curve), colour in zip(curves.items(), SERIES, strict=False):
            axes.plot(np.linspace(0, 100, len(curve)), 100 * np.array(curve), colour, label=role)
        axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":", label="equal")
        axes.set_xlabel("% of items, most recommended first")
        axes.set_ylabel("% of recommendations")
        axes.legend(loc="lower right", fontsize=9)
        return figure.svg


def reliability(predicted: Sequence[float], observed: Sequence[float]) -> str:
    """Observed rate against predicted probability, one point per bin."""
    with _svg("Observed interaction rate against predicted probability", 3.0) as figure:
        axes = figure.add_subplot()
        top = 1.05 * max(*predicted, *observed)
        axes.plot([0, top], [0, top], color=INK, linewidth=0.8, linestyle=":")
        axes.plot(predicted, observed, color=ACCENT, marker="o")
        axes.set_xlabel("predicted P(interacted | served)")
        axes.set_ylabel("observed rate")
        return figure.svg


def tuning(
    importances: Mapping[str, float], trials: Sequence[tuple[Mapping[str, Any], float]]
) -> str:
    """What mattered in a search: the share of each setting, and each trial by the largest three.

    Args:
        importances: share of each setting, largest first.
        trials: settings and validation NDCG@10 of each.
    """
    shown = list(importances)[:3] or list(trials[0][0])[:3]
    rows = 1 + len(shown)
    with _svg("What mattered in the search for settings", 1.6 * rows) as figure:
        axes = figure.add_subplot(rows, 1, 1)
        names = list(importances)[::-1]
        axes.barh(names, [importances[name] for name in names], color=ACCENT)
        axes.set_xlabel("importance" if names else "importance: too few trials to say")
        axes.tick_params(axis="y", labelsize=9)
        for place, name in enumerate(shown, start=2):
            axes = figure.add_subplot(rows, 1, place)
            points = sorted((settings[name], score) for settings, score in trials)
            values = [value for value, _ in points]
            if isinstance(values[0], bool):
                values = [str(value) for value in values]
            axes.plot(values, [score for _, score in points], "o", color=ACCENT, alpha=0.7)
            axes.set_xlabel(name)
            axes.set_ylabel("NDCG@10")
        return figure.svg


def _forest(axes: Axes, labels: Sequence[str], intervals: Sequence[Interval]) -> None:
    places = np.arange(len(labels))[::-1]
    bounds = np.array([[i.low, i.value, i.high] for i in intervals])
    known = np.isfinite(bounds).all(axis=1)  # what is not defined keeps its line, without a point
    low, value, high = bounds[known].T
    reach = [value - low, high - value]
    axes.errorbar(
        value, places[known], xerr=reach, fmt="o", color=ACCENT, markersize=4, elinewidth=1.5
    )
    axes.set_yticks(places, labels)
    axes.margins(y=0.05)


class _Drawing(Figure):
    title: str

    @property
    def svg(self) -> str:
        buffer = io.StringIO()
        self.savefig(buffer, format="svg", transparent=True, bbox_inches="tight")
        drawing = buffer.getvalue()[buffer.getvalue().index("<svg") :]
        drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
        drawing = re.sub(r' (width|height)="[\d.]+pt"', "", drawing, count=2)
        label = f'<svg role="img" aria-label="{html.escape(self.title)}"'
        return drawing.replace("<svg", label, 1).replace(INK, "currentColor")


@contextmanager
def _svg(title: str, height: float) -> Iterator[_Drawing]:
    with mpl.rc_context(STYLE):
        figure = _Drawing(figsize=(WIDTH, height), layout="constrained")
        figure.title = title
        yield figure
