"""What a check found, and the table of all of it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from rich.table import Table


class Verdict(StrEnum):
    """✓ is there; ✗ a run would not start or not end well; – not needed, or not to be seen."""

    OK = "✓"
    BAD = "✗"
    OPEN = "–"


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        check: what was looked at, in two or three words.
        said: what was found.
        fix: what to do about it; empty where nothing is to be done.
    """

    check: str
    verdict: Verdict
    said: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """As `doctor --json` prints it."""
        return asdict(self)


def ok(check: str, said: str) -> Finding:
    """It is as it should be."""
    return Finding(check, Verdict.OK, said)


def bad(check: str, said: str, fix: str) -> Finding:
    """A run would not start, or not end well."""
    return Finding(check, Verdict.BAD, said, fix)


def unseen(check: str, said: str, fix: str = "") -> Finding:
    """Not needed for a run, or not to be seen from here."""
    return Finding(check, Verdict.OPEN, said, fix)


def table(findings: Iterable[Finding]) -> Table:
    """The findings as people read them, a fix below its line."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column()
    lines.add_column()
    lines.add_column(overflow="fold")  # an image's digest is read whole
    for finding in findings:
        fix = f"\n[dim]→ {finding.fix}[/dim]" if finding.fix else ""
        lines.add_row(finding.verdict.value, finding.check, f"{finding.said}{fix}")
    return lines
