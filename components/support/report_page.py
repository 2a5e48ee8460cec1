"""The run's report, written by the gate, and again by the refit once its checks are known."""

import html
import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.support.auto_preset import chosen_for
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

    A page that cannot be drawn is a bug, which is logged: it says the verdict, and never ends the
    stage that decided it.

    Args:
        refit: what `refit.json` of the run holds.
    """
    title = f"{run.site}: {refit['verdict']['decision'] if refit else decision.decision}"
    try:
        choice = chosen_for(run_dir)
        epochs = (run_dir / "train.jsonl").read_text().splitlines()
        page = render_report(
            measured,
            decision,
            title=title,
            training=[json.loads(line) for line in epochs],
            data=json.loads((run_dir / "data.json").read_text()),
            facts=None if choice is None else {"Preset": f"{choice.name}; {'; '.join(choice.why)}"},
            refit=refit,
        )
    except Exception:  # whatever it is, the verdict stands
        traceback.print_exc()
        page = (
            f"<!doctype html><title>{html.escape(title)}</title>"
            f"<p>The report could not be drawn; pipeline.log says why. The verdict:</p>"
            f"<pre>{html.escape(decision.to_markdown())}</pre>"
        )
    (run_dir / "report.html").write_text(page)
    return page
