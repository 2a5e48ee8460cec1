"""A training epoch over extracted sequences: when it starts, and what stays in memory.

python -m benchmarks.pipeline_scale.epoch SEQUENCES CONFIG_JSON RUN_DIR
"""

import json
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import psutil

from components.support.settings import RunConfig
from sasrec.data.dataset import SequenceDataset
from sasrec.training import loop
from sasrec.training.batches import Batch, Batches

STARTED = "started.json"
# Weights, their average, the best so far, gradients and the two moments of AdamW.
COPIES = 6


def main(sequences: Path, config: str, run_dir: Path) -> None:
    """Train one epoch; the first batch leaves a note of how long it was in coming."""
    run = RunConfig.parse(config)
    dataset = SequenceDataset.load(sequences)
    load, make = Batches.load, loop.SASRec
    model_mib: list[float] = []

    def counted(*arguments: object, **options: object) -> object:
        model = make(*arguments, **options)  # type: ignore[arg-type]
        numbers = sum(weight.numel() for weight in model.parameters())
        model_mib.append(COPIES * 4 * numbers / 2**20)
        return model

    def noted(self: Batches, rows: np.ndarray) -> Batch:
        note = run_dir / STARTED
        if not note.exists():
            seconds = time.time() - psutil.Process().create_time()
            note.write_text(json.dumps({"seconds": seconds, "model_mib": model_mib[0]}))
        return load(self, rows)

    with mock.patch.object(loop, "SASRec", counted), mock.patch.object(Batches, "load", noted):
        loop.train(
            dataset.train, dataset.validation, dataset.vocabulary, run.model, run.train, run_dir
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
