"""The run's report, written by the gate, and again by the refit once its checks are known."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.support.settings import RunConfig
from sasrec.evaluation.result import Evaluation
from sasrec.gates import Verdict
from sasrec.report import render_report


def write_report(
    run: RunConfig,
    run_dir: Path,
    measured: Evaluation,
    decision: Verdict,
    refit: Mapping[str, Any] | None = None,
) -> str:
    """Write `<run_dir>/report.html` and return it.

    Args:
        refit: what `refit.json` of the run holds.
    """
    epochs = (run_dir / "train.jsonl").read_text().splitlines()
    html = render_report(
        measured,
        decision,
        title=f"{run.site}: {refit['verdict']['decision'] if refit else decision.decision}",
        training=[json.loads(line) for line in epochs],
        data=json.loads((run_dir / "data.json").read_text()),
        refit=refit,
    )
    (run_dir / "report.html").write_text(html)
    return html
