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
    from components.support.fingerprint import training_key
    from components.support.settings import RunConfig
    from components.support.stage import stage
    from components.support.training_work import TrainingWork
    from components.support.warm_start import choose_warm_start

    with stage("train", run_dir) as current:
        run = RunConfig.parse(config)
        work = TrainingWork.load(run, Path(sequences.path))
        split = work.dataset.description
        start = choose_warm_start(run, Path(home), split)
        key = training_key(run, split["sha256"], work.digest, start.version)
        progress_dir = Path(home) / "training" / key
        (current.run_dir / "training_dir").write_text(str(progress_dir))
        if nodes := TrainJobSettings.from_environment():
            from components.nodes.train_on_nodes import NAMESPACE_FILE, train_on_nodes
            from serving.release.kubernetes import connect

            result = train_on_nodes(
                nodes,
                config,
                Path(sequences.path),
                progress_dir,
                connect(),
                NAMESPACE_FILE.read_text(),
                warm_start=start.directory,
            )
        else:
            result = work.train(progress_dir, warm_start=start.directory)
        result.recommender.save(Path(model.path))
        shutil.copy(progress_dir / "train.jsonl", current.run_dir / "train.jsonl")
        shutil.rmtree(progress_dir)
        model.framework = "pytorch"
        model.metadata.update(best_epoch=result.best_epoch)
        if start.version:
            model.metadata["warm_started_from"] = start.version
        training = work.describe() | {"warm_start": start.detail}
        (current.run_dir / "training.json").write_text(json.dumps(training))
        current.detail = (
            f"best epoch {result.best_epoch} of {len(result.history)}, "
            f"validation NDCG@10 {result.best_ndcg:.4f}"
        )
        if start.detail:
            current.detail += f", {start.detail}"
