"""Ask Feast for every history as of its fold's cut: the same join that serving's features obey."""

from kfp.dsl import Dataset, Input, Output, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def extract_sequences(
    home: str,
    run_dir: str,
    features: Input[Dataset],
    interactions: Input[Dataset],
    split: Input[Dataset],
    sequences: Output[Dataset],
):
    """Write packed training histories, and evaluation histories with their targets."""
    from functools import partial
    from pathlib import Path

    from components.support.metadata import storable
    from components.support.stage import stage
    from feature_repo.extract import stream_sequences
    from sasrec.data.dataset import SequenceDataset
    from sasrec.data.event_weights import read_event_weights
    from sasrec.data.splits import Split

    with stage("extract_sequences", run_dir) as current:
        cut = Split.load(Path(split.path))
        SequenceDataset.write(
            Path(sequences.path),
            cut,
            partial(stream_sequences, Path(home) / "feature_store"),
            read_event_weights(Path(interactions.path)),
        )
        dataset = SequenceDataset.load(Path(sequences.path))
        sequences.metadata.update(storable(dataset.description))
        current.detail = f"{len(dataset.train):,} users, {len(dataset.train.items):,} events"
