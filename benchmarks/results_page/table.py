"""A subject's table as Markdown, and figures as text."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.results_page.files import Source

COLUMNS = ("what", "this project", "peer", "ratio", "hardware", "command", "commit")


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        what: what was measured, with its unit.
        here: what this project reached.
        peer: the name of what it is compared with and what that reached; empty without one.
        ratio: how many times as good this project is, where that can be said in one number.
    """

    what: str
    here: str
    source: Source
    peer: str = ""
    ratio: str = ""


@dataclass(frozen=True)
class Subject:
    """One table of the page.

    Attributes:
        protocol: how all its rows were measured, in one line.
        plot: the file name of the plot beneath it, of `plots.PLOTS`.
        notes: what a reader must know to read the rows rightly, a sentence or two.
    """

    title: str
    protocol: str
    rows: list[Row]
    plot: str = ""
    notes: str = ""

    def markdown(self) -> str:
        """The section of the page."""
        cells = [
            (r.what, r.here, r.peer, r.ratio, r.source.hardware, r.source.command, r.source.commit)
            for r in self.rows
        ]
        blocks = [f"## {self.title}", self.protocol, lines(COLUMNS, cells)]
        if self.notes:
            blocks.append(self.notes)
        if self.plot:
            blocks.append(f"![{self.title}](images/{self.plot})")
        return "\n\n".join(blocks)


def lines(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(head + ["| " + " | ".join(row) + " |" for row in cells])


def number(value: float, digits: int = 3) -> str:
    """Rounded to significant digits, never as a power of ten: 1,235 and 0.0123."""
    if value == 0 or float(value).is_integer():
        return f"{value:,.0f}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def share(value: float, places: int = 4) -> str:
    """A figure below one, as papers print it: .2076."""
    return f"{value:.{places}f}".replace("0.", ".", 1)


def times(value: float) -> str:
    """A ratio: two decimals below ten, whole numbers from a hundred."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
