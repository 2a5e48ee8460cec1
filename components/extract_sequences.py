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
):
    """Write packed training histories, evaluation histories with their targets, item features."""
    from dataclasses import replace
    from pathlib import Path

    from components.support.sequence_extras import (
        known_items,
        write_item_features,
        write_propensities,
    )
    from components.support.settings import RunConfig
    from components.support.stage import stage
    from feature_repo.extract import sequences_as_of
    from sasrec.data.dataset import SequenceDataset
    from sasrec.data.splits import Split

    with stage("extract_sequences", run_dir) as current:
        run = RunConfig.parse(config)
        cut = Split.load(Path(split.path))
        cut = replace(cut, known_items=known_items(run, cut.known_items, Path(items.path)))
        histories = sequences_as_of(Path(home) / "feature_store", cut.cutoffs)
        dataset = SequenceDataset.from_histories(cut, histories)
        dataset.save(Path(sequences.path))
        write_item_features(run, dataset.vocabulary, Path(items.path), Path(sequences.path))
        write_propensities(
            run, dataset, Path(interactions.path), Path(impressions.path), Path(sequences.path)
        )
        sequences.metadata.update(dataset.description)
        current.detail = f"{len(dataset.train):,} users, {len(dataset.train.items):,} events"
