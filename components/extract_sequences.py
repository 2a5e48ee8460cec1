"""Ask Feast for every history as of its fold's cut: the same join that serving's features obey."""

from kfp.dsl import Dataset, Input, Output, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def extract_sequences(
    home: str,
    run_dir: str,
    features: Input[Dataset],
    split: Input[Dataset],
    sequences: Output[Dataset],
):
    """Write packed training histories, and evaluation histories with their targets."""
    from pathlib import Path

    from components.support.stage import stage
    from feature_repo.extract import sequences_as_of
    from sasrec.data.dataset import SequenceDataset
    from sasrec.data.splits import Split

    with stage("extract_sequences", run_dir) as current:
        cut = Split.load(Path(split.path))
        histories = sequences_as_of(Path(home) / "feature_store", cut.cutoffs)
        dataset = SequenceDataset.from_histories(cut, histories)
        dataset.save(Path(sequences.path))
        sequences.metadata.update(dataset.description)
        current.detail = f"{len(dataset.train):,} users, {len(dataset.train.items):,} events"
