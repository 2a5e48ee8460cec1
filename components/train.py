"""Train SASRec on the extracted sequences; validation NDCG@10 chooses the epoch."""

from kfp.dsl import Dataset, Input, Model, Output, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def train(
    config: str,
    home: str,
    run_dir: str,
    sequences: Input[Dataset],
    model: Output[Model],
):
    """Write weights (safetensors), configuration and vocabulary; resume if killed before.

    Where the platform settings give `train` several nodes, a TrainJob of this image trains.
    """
    import json
    import shutil
    from pathlib import Path

    from components.nodes.train_job import TrainJobSettings
    from components.support import run_trend
    from components.support.abandoned import drop_abandoned
    from components.support.fingerprint import training_key
    from components.support.metadata import storable
    from components.support.sequence_extras import SequenceExtras
    from components.support.settings import RunConfig
    from components.support.stage import stage
    from components.support.threads import use_training_threads
    from components.support.training_plan import TrainingPlan
    from sasrec.data.dataset import SequenceDataset
    from sasrec.data.digest import digest_of

    with stage("train", run_dir) as current:
        run = RunConfig.parse(config)
        dataset = SequenceDataset.load(Path(sequences.path))
        extras = SequenceExtras.load(run, Path(sequences.path))
        plan = TrainingPlan.of(run, Path(home), dataset.description)
        use_training_threads(len(dataset.train.items))
        weights = dataset.train.weights
        key = training_key(
            plan.recipe,
            dataset.description["sha256"],
            dataset.test.repeats,
            plan.warm_started_from,
            extras.digest,
            weights is not None and digest_of(weights),
        )
        progress_dir = Path(home) / "training" / key
        (current.run_dir / "training_dir").write_text(str(progress_dir))
        nodes = TrainJobSettings.from_environment()
        if nodes and not run.refresh.enabled:  # a refresh is over before nodes have started
            from components.nodes.train_on_nodes import NAMESPACE_FILE, train_on_nodes
            from serving.release.kubernetes import connect

            result = train_on_nodes(
                nodes,
                config,
                Path(sequences.path),
                progress_dir,
                connect(),
                NAMESPACE_FILE.read_text(),
                warm_start=plan.champion,
            )
        else:
            result = plan.train(dataset, extras, progress_dir)
        result.recommender.save(Path(model.path))
        trend, found = run_trend.fit(result.recommender, dataset, plan.recipe.trend)
        if trend is not None:
            run_trend.save_as_of_the_cut(trend, dataset, Path(model.path))
        shutil.copy(progress_dir / "train.jsonl", current.run_dir / "train.jsonl")
        shutil.rmtree(progress_dir)
        drop_abandoned(progress_dir.parent)
        model.framework = "pytorch"
        model.metadata.update(storable({"best_epoch": result.best_epoch}))
        training = {
            "warm_started_from": plan.warm_started_from,
            "warm_start": plan.start,
            "trend": found,
        }
        (current.run_dir / "training.json").write_text(json.dumps(training))
        current.detail = (
            f"best epoch {result.best_epoch} of {len(result.history)}, "
            f"validation NDCG@10 {result.best_ndcg:.4f}"
        ) + (f", {plan.start}" if plan.start else "")
        if trend is not None and trend.active:
            current.detail += f", {found['ndcg@10']['with']:.4f} with the trend"
