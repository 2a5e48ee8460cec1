"""Declarative gates that decide what may serve."""

from sasrec.gates.checks import GateResult
from sasrec.gates.verdict import DEFAULT_GATES, GateConfig, Verdict, decide

__all__ = ["DEFAULT_GATES", "GateConfig", "GateResult", "Verdict", "decide"]
