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
) -> str:
    """Write packed training histories, evaluation histories with their targets, and all of now.

    Returns the run's settings; where `--preset auto` asked for it, with what these data chose.
    """
    from dataclasses import replace
    from functools import partial
    from pathlib import Path

    from components.support.auto_preset import settle
    from components.support.metadata import storable
    from components.support.sequence_extras import RunTables, known_items, write_extras
    from components.support.settings import RunConfig
    from components.support.stage import stage
    from feature_repo.extract import current_entities, stream_sequences
    from sasrec.data.current import CurrentHistories, items_known
    from sasrec.data.dataset import SequenceDataset
    from sasrec.data.event_weights import read_event_weights
    from sasrec.data.splits import Split

    with stage("extract_sequences", run_dir) as progress:
        run = RunConfig.parse(config)
        tables = RunTables(Path(interactions.path), Path(items.path), Path(impressions.path))
        cut = Split.load(Path(split.path))
        cut = replace(cut, known_items=known_items(run, cut.known_items, tables.items))
        ask = partial(stream_sequences, Path(home) / "feature_store")
        weights = read_event_weights(tables.interactions)
        SequenceDataset.write(Path(sequences.path), cut, ask, weights)
        dataset = SequenceDataset.load(Path(sequences.path))
        write_extras(
            run,
            tables,
            dataset.vocabulary,
            dataset.train_users,
            dataset.train,
            Path(sequences.path),
        )
        settled, chosen = settle(run, dataset, progress.run_dir)
        sequences.metadata.update(storable(dataset.description))
        as_of, everybody = current_entities(Path(home) / "feature_store")
        known = items_known(as_of, tables.interactions, tables.items)
        CurrentHistories.write(
            Path(current.path),
            as_of,
            known_items(run, known, tables.items),
            ask(everybody),
            weights,
        )
        now = CurrentHistories.load(Path(current.path))
        write_extras(run, tables, now.vocabulary, now.user_ids, now.histories, Path(current.path))
        progress.detail = (
            f"{len(dataset.train):,} users and {len(dataset.train.items):,} events to train on, "
            f"{len(now.histories):,} and {len(now.histories.items):,} until now"
        ) + (f"; {chosen}" if chosen else "")
    return settled.model_dump_json()
