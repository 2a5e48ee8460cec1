"""A real data set, split and packed, as the benchmarks read it: no feature store in between."""

from dataclasses import dataclass

from sasrec.data.cleaning import DataReport, clean
from sasrec.data.dataset import SequenceDataset
from sasrec.data.frame_histories import histories_before
from sasrec.data.sources import load
from sasrec.data.splits import global_time, leave_one_out


@dataclass(frozen=True)
class Benchmarked:
    """Sequences of one data set and what they were made of."""

    report: DataReport
    sequences: SequenceDataset


def read(dataset: str, split: str, data_dir: str | None) -> Benchmarked:
    """Load, clean and split a named data set.

    Args:
        split: "leave-one-out" or "global-time".
        data_dir: as in `sasrec.data.sources.load`.
    """
    source, report = clean(load(dataset, data_dir=data_dir))
    cut = leave_one_out if split == "leave-one-out" else global_time
    folds = cut(source.interactions)
    histories = histories_before(source.interactions, folds.cutoffs)
    return Benchmarked(report, SequenceDataset.from_histories(folds, histories))
