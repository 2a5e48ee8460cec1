"""Put the promoted model into the model store as an immutable, content-addressed version."""

from kfp.dsl import Dataset, Input, Model, Output, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def register(
    home: str,
    run_dir: str,
    interactions: Input[Dataset],
    items: Input[Dataset],
    sequences: Input[Dataset],
    model: Input[Model],
    evaluation: Input[Dataset],
    registered: Output[Model],
) -> str:
    """Return the version; it serves nobody until it is deployed."""
    from pathlib import Path

    import pyarrow.parquet as pq

    from components.support.fingerprint import code_version
    from components.support.stage import stage
    from sasrec.data.dataset import SequenceDataset
    from sasrec.evaluation.evaluate import MODEL, Evaluation
    from sasrec.off_policy import calibration
    from serving.engine import golden
    from serving.engine.items import write_items
    from serving.monitoring.drift import TrainingSnapshot
    from serving.registry import open_store

    with stage("register", run_dir) as current:
        dataset = SequenceDataset.load(Path(sequences.path))
        write_items(
            Path(model.path),
            dataset.vocabulary,
            items=pq.read_table(items.path),
            interactions=pq.read_table(interactions.path),
        )
        snapshot = TrainingSnapshot.take(Path(model.path), dataset.train)
        snapshot.save(Path(model.path))
        version = open_store(Path(home)).register(
            Path(model.path),
            metadata={
                "metrics": Evaluation.load(Path(evaluation.path)).metrics[MODEL],
                "split": dataset.description,
                "code": code_version(),
                "run": current.run_dir.name,
            },
            golden=golden.record(Path(model.path), *dataset.examples(count=8)),
            extra_files=list(Path(evaluation.path).glob(calibration.FILE)),
        )
        registered.metadata["version"] = current.detail = version
    return version
