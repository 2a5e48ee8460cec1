"""Train the promoted recipe on everything until now: what ships has learned from every event."""

from kfp.dsl import HTML, Dataset, Input, Markdown, Model, Output, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def refit(
    config: str,
    home: str,
    run_dir: str,
    sequences: Input[Dataset],
    current: Input[Dataset],
    model: Input[Model],
    evaluation: Input[Dataset],
    shipped: Output[Model],
    shipment: Output[Dataset],
    verdict: Output[Markdown],
    report: Output[HTML],
) -> str:
    """Return `promote`, or `hold` where the refit fails a check of its own; resume if killed.

    With `refit.enabled=false` the evaluated model ships, unchanged.
    """
    import json
    import shutil
    from pathlib import Path

    from components.support import run_trend
    from components.support.data_state import remember_held
    from components.support.fingerprint import model_digest, training_key
    from components.support.refit_training import RefitTraining
    from components.support.report_page import write_report
    from components.support.sequence_extras import SequenceExtras
    from components.support.settings import RunConfig
    from components.support.shipment import describe_shipment
    from components.support.stage import stage
    from components.support.threads import use_training_threads
    from components.support.training_plan import TrainingPlan
    from sasrec.data.current import CurrentHistories
    from sasrec.data.dataset import SequenceDataset
    from sasrec.evaluation.result import Evaluation
    from sasrec.gates import Verdict
    from sasrec.model.recommender import Recommender
    from sasrec.off_policy import calibration
    from sasrec.scoring.trend import Trend

    with stage("refit", run_dir) as progress:
        run = RunConfig.parse(config)
        dataset = SequenceDataset.load(Path(sequences.path))
        now = CurrentHistories.load(Path(current.path))
        use_training_threads(len(now.histories.items))
        plan = TrainingPlan.of(run, Path(home), dataset.description)
        measured = Evaluation.load(Path(evaluation.path))
        digest = model_digest(Path(model.path))
        curves = list(Path(evaluation.path).glob(calibration.FILE))
        trend = Trend.load(Path(model.path))
        found = None
        if run.refit.enabled:
            extras = SequenceExtras.load(run, Path(current.path))
            key = training_key(
                plan.recipe,
                dataset.description["sha256"],
                dataset.test.repeats,
                digest,
                now.digest,
                extras.digest,
                run.refit.how,
                run.refit.epochs,
            )
            folder = Path(home) / "training" / key
            (progress.run_dir / "training_dir").write_text(str(folder))
            training = RefitTraining(
                run, plan, dataset, now, extras, Recommender.load(Path(model.path)), trend
            )
            refitted = training.train(folder, int(model.metadata["best_epoch"]))
            refitted.save(Path(shipped.path))
            if trend is not None:
                run_trend.save_as_of_now(trend, now, refitted.vocabulary, Path(shipped.path))
            training.move_curves(curves, refitted, Path(shipped.path))
            found = training.check(refitted, Path(home), Path(shipped.path))
            shutil.rmtree(folder)
            results = Verdict.of(found["verdict"])
            Path(verdict.path).write_text(results.to_markdown())
            progress.detail = f"{results.decision}: {results.summary}"
            if results.decision != "promote":
                remember_held(Path(home), progress.run_dir, results.summary)
        else:
            shutil.copytree(Path(model.path), Path(shipped.path), dirs_exist_ok=True)
            for curve in curves:
                shutil.copy(curve, Path(shipped.path))
            if trend is not None:
                run_trend.save_as_of_now(trend, now, dataset.vocabulary, Path(shipped.path))
            progress.detail = "off: the evaluated model ships"
            Path(verdict.path).write_text(f"{progress.detail}\n")
        told = describe_shipment(run, plan, dataset, now, measured, digest, found)
        Path(shipment.path).write_text(json.dumps(told, indent=1))
        (progress.run_dir / "refit.json").write_text(json.dumps(told, indent=1))
        decided = Verdict.load(progress.run_dir / "verdict.json")
        html = write_report(run, progress.run_dir, measured, decided, found)
        Path(report.path).write_text(html)
    return "promote" if found is None else found["verdict"]["decision"]
