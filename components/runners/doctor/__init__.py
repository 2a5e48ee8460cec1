"""Whether a run would start on the cluster at hand: a check for each thing that it needs."""

from components.runners.doctor.checkup import (
    check_all,
    checked_target,
    nothing_missing,
    would_start,
)
from components.runners.doctor.finding import Finding, shown_by_probe, table
from components.runners.doctor.probe import run_probe
from components.runners.doctor.target import Target

__all__ = [
    "Finding",
    "Target",
    "check_all",
    "checked_target",
    "nothing_missing",
    "run_probe",
    "shown_by_probe",
    "table",
    "would_start",
]
