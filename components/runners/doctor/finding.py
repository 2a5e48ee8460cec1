"""What a check found, and the table of all of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from rich.markup import escape
from rich.table import Table


class Verdict(StrEnum):
    """✓ is there; ✗ a run would not start or not end well; ? needed, and not to be seen from here;
    – not needed.
    """

    OK = "✓"
    BAD = "✗"
    UNSEEN = "?"
    OPEN = "–"


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        check: what was looked at, in two or three words.
        said: what was found.
        fix: what to do about it; empty where nothing is to be done.
        in_probe: whether the probe's pods need it too, so that their success shows it.
    """

    check: str
    verdict: Verdict
    said: str
    fix: str = ""
    in_probe: bool = False

    def to_json(self) -> dict[str, str]:
        """As `doctor --json` prints it."""
        return {
            "check": self.check,
            "verdict": self.verdict.value,
            "said": self.said,
            "fix": self.fix,
        }


def ok(check: str, said: str) -> Finding:
    """It is as it should be."""
    return Finding(check, Verdict.OK, said)


def bad(check: str, said: str, fix: str) -> Finding:
    """A run would not start, or not end well."""
    return Finding(check, Verdict.BAD, said, fix)


def unseen(check: str, said: str, fix: str = "", *, in_probe: bool = False) -> Finding:
    """A run needs it, and nobody knows whether it is there."""
    return Finding(check, Verdict.UNSEEN, said, fix, in_probe)


def could_not_look(check: str, error: Exception, *, in_probe: bool = False) -> Finding:
    """A run needs it, and this user may not read it."""
    fix = "doctor --probe shows it" if in_probe else "ask somebody who may look at it"
    return unseen(check, f"you may not look at it ({error})", fix, in_probe=in_probe)


def not_needed(check: str, said: str, fix: str = "") -> Finding:
    """A run starts without it."""
    return Finding(check, Verdict.OPEN, said, fix)


def shown_by_probe(findings: Iterable[Finding]) -> list[Finding]:
    """The findings after a probe whose pods all succeeded."""
    return [
        ok(finding.check, "the probe's pods had it")
        if finding.verdict is Verdict.UNSEEN and finding.in_probe
        else finding
        for finding in findings
    ]


def table(findings: Iterable[Finding]) -> Table:
    """The findings as people read them, a fix below its line."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column()
    lines.add_column()
    lines.add_column(overflow="fold")  # an image's digest is read whole
    for finding in findings:
        fix = f"\n[dim]→ {escape(finding.fix)}[/dim]" if finding.fix else ""
        check, said = escape(finding.check), escape(finding.said)
        lines.add_row(finding.verdict.value, check, f"{said}{fix}")
    return lines
