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
    current: Input[Dataset],
    shipped: Input[Model],
    shipment: Input[Dataset],
    evaluation: Input[Dataset],
    registered: Output[Model],
) -> str:
    """Return the version; it serves nobody until it is deployed.

    Versions that the site keeps no longer go, to make room for it.
    """
    import json
    from pathlib import Path

    import pyarrow.parquet as pq

    from components.support import data_state
    from components.support.fingerprint import code_version
    from components.support.metadata import storable
    from components.support.settings import RunConfig
    from components.support.shipment import MADE_OF
    from components.support.stage import stage
    from sasrec.data.current import CurrentHistories
    from sasrec.data.dataset import SequenceDataset
    from sasrec.evaluation.result import MODEL, Evaluation
    from sasrec.model.item_features import FeatureColumns
    from serving.engine import golden
    from serving.engine.items import write_items
    from serving.monitoring.drift import TrainingSnapshot
    from serving.registry import open_registry

    with stage("register", run_dir) as progress:
        dataset = SequenceDataset.load(Path(sequences.path))
        told = json.loads(Path(shipment.path).read_text())
        now = CurrentHistories.load(Path(current.path))
        learned = now if told["refit"] else CurrentHistories.of_training(dataset, now.as_of)
        model = Path(shipped.path)
        write_items(
            model,
            learned.vocabulary,
            items=pq.read_table(items.path),
            interactions=pq.read_table(interactions.path, columns=["item_id", "timestamp"]),
        )
        made_of = Path(current.path if told["refit"] else sequences.path)
        if columns := FeatureColumns.load(made_of):
            columns.save(model)  # so that a later item gets a row of its own features
        TrainingSnapshot.take(model, learned.histories).save(model)
        state = data_state.DataState.load(progress.run_dir)
        # A version is named by its files: what it knows and how it reads events belong to its name.
        (model / MADE_OF).write_text(
            json.dumps(
                {
                    "event_roles": told["event_roles"],
                    "repeats": dataset.test.repeats,
                    **state.compared(),
                },
                sort_keys=True,
            )
        )
        run = RunConfig.parse((progress.run_dir / "config.json").read_text())
        store = open_registry(Path(home))
        store.gc(keep=run.keep.versions, why=f"made room for run {progress.run_dir.name}")
        version = store.register(
            model,
            metadata={
                "metrics": Evaluation.load(Path(evaluation.path)).metrics[MODEL],
                "split": dataset.description,
                "code": code_version(),
                "run": progress.run_dir.name,
                data_state.METADATA: state.metadata(),
                **told,
            },
            golden=golden.record(model, *learned.examples(count=8)),
        )
        registered.metadata.update(storable({"version": version}))
        progress.detail = version
    return version
