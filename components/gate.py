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
    import json
    from pathlib import Path

    from components.support.settings import RunConfig
    from components.support.stage import stage
    from sasrec.evaluation.evaluate import Evaluation
    from sasrec.gates import decide
    from sasrec.report import render_report

    with stage("gate", run_dir) as current:
        run = RunConfig.parse(config)
        measured = Evaluation.load(Path(evaluation.path))
        decision = decide(measured, run.gates)
        decision.save(current.run_dir / "verdict.json")
        epochs = (current.run_dir / "train.jsonl").read_text().splitlines()
        html = render_report(
            measured,
            decision,
            title=f"{run.site}: {decision.decision}",
            training=[json.loads(line) for line in epochs],
            data=json.loads((current.run_dir / "data.json").read_text()),
        )
        Path(report.path).write_text(html)
        (current.run_dir / "report.html").write_text(html)
        Path(verdict.path).write_text(decision.to_markdown())
        current.detail = f"{decision.decision}: {decision.summary}"
    return decision.decision
