"""Training as the pipeline does it, and a number of epochs on everything as a refit does it."""

from pathlib import Path
from typing import Any

import numpy as np

from sasrec.data.dataset import SequenceDataset
from sasrec.data.packed import EvaluationSet
from sasrec.model.recommender import Recommender
from sasrec.presets import Preset
from sasrec.training.loop import TrainResult, train

UNUSED_VALIDATION = 100  # users; a refit validates once, after its last epoch, and chooses nothing


def fit(data: SequenceDataset, chosen: Preset, run_dir: Path, **options: Any) -> TrainResult:
    """Train until validation stops rising."""
    return train(
        data.train, data.validation, data.vocabulary, chosen.model, chosen.train, run_dir, **options
    )


def refit(
    data: SequenceDataset,
    chosen: Preset,
    epochs: int,
    run_dir: Path,
    *,
    start: Recommender | None = None,
    **options: Any,
) -> TrainResult:
    """Train for `epochs` and take what comes out; from `start`'s weights if it is given."""
    config = chosen.with_overrides(epochs=epochs, validate_every=epochs).train
    rows = np.arange(min(UNUSED_VALIDATION, len(data.validation)))
    some = EvaluationSet(
        data.validation.name,
        data.validation.user_ids[: len(rows)],
        data.validation.histories.select(rows),
        data.validation.targets.select(rows),
    )
    return train(
        data.train,
        some,
        data.vocabulary,
        chosen.model,
        config,
        run_dir,
        warm_start=start,
        **options,
    )


def seconds(result: TrainResult) -> float:
    """Of training alone, validations not counted."""
    return sum(line["seconds"] for line in result.history)
