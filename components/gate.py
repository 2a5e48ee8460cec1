"""Decide whether the model may serve, and write the report that says why."""

from kfp.dsl import HTML, Dataset, Input, Markdown, Output, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def gate(
    config: str,
    run_dir: str,
    evaluation: Input[Dataset],
    verdict: Output[Markdown],
    report: Output[HTML],
) -> str:
    """Return `promote`, `hold` or `refuse`; a held model is a successful run."""
    from pathlib import Path

    from components.support.data_state import remember_held
    from components.support.report_page import write_report
    from components.support.settings import RunConfig
    from components.support.site_lease import home_of
    from components.support.stage import stage
    from sasrec.evaluation.result import Evaluation
    from sasrec.gates import decide

    with stage("gate", run_dir) as current:
        run = RunConfig.parse(config)
        measured = Evaluation.load(Path(evaluation.path))
        decision = decide(measured, run.gates)
        decision.save(current.run_dir / "verdict.json")
        html = write_report(run, current.run_dir, measured, decision)
        Path(report.path).write_text(html)
        Path(verdict.path).write_text(decision.to_markdown())
        current.detail = f"{decision.decision}: {decision.summary}"
        if decision.decision != "promote" and (home := home_of(current.run_dir)):
            remember_held(home, current.run_dir, decision.summary)
    return decision.decision
