"""Ask Feast for every history as of its fold's cut: the same join that serving's features obey."""

from kfp.dsl import Dataset, Input, Output, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def extract_sequences(
    config: str,
    home: str,
    run_dir: str,
    features: Input[Dataset],
    interactions: Input[Dataset],
    items: Input[Dataset],
    impressions: Input[Dataset],
    split: Input[Dataset],
    sequences: Output[Dataset],
    current: Output[Dataset],
):
    """Write packed training histories, evaluation histories with their targets, and all of now."""
    import json
    from dataclasses import replace
    from datetime import datetime
    from pathlib import Path

    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from components.support.sequence_extras import RunTables, known_items, write_extras
    from components.support.settings import RunConfig
    from components.support.stage import stage
    from feature_repo.extract import current_sequences, sequences_as_of
    from sasrec.data.current import CurrentHistories
    from sasrec.data.dataset import SequenceDataset
    from sasrec.data.splits import Split

    with stage("extract_sequences", run_dir) as progress:
        run = RunConfig.parse(config)
        tables = RunTables(Path(interactions.path), Path(items.path), Path(impressions.path))
        cut = Split.load(Path(split.path))
        cut = replace(cut, known_items=known_items(run, cut.known_items, tables.items))
        store = Path(home) / "feature_store"
        histories = sequences_as_of(store, cut.cutoffs)
        dataset = SequenceDataset.from_histories(cut, histories)
        dataset.save(Path(sequences.path))
        write_extras(
            run,
            tables,
            dataset.vocabulary,
            dataset.train_users,
            dataset.train,
            Path(sequences.path),
        )
        sequences.metadata.update(dataset.description)
        as_of = datetime.fromisoformat(json.loads(Path(features.path).read_text())["as_of"])
        catalogue = pq.read_table(items.path, columns=["item_id", "created_at"])
        launched = catalogue.filter(pc.less(catalogue["created_at"], as_of))["item_id"]
        now = CurrentHistories.from_histories(
            as_of,
            current_sequences(store),
            known_items(run, launched.to_pylist(), tables.items),
        )
        now.save(Path(current.path))
        write_extras(run, tables, now.vocabulary, now.user_ids, now.histories, Path(current.path))
        progress.detail = (
            f"{len(dataset.train):,} users and {len(dataset.train.items):,} events to train on, "
            f"{len(now.histories):,} and {len(now.histories.items):,} until now"
        )
