"""One data set at several moments: what a model may learn from, and who is asked afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.cleaning import clean
from sasrec.data.dataset import SequenceDataset
from sasrec.data.frame_histories import histories_before
from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.schema import TIMESTAMP
from sasrec.data.source import Source
from sasrec.data.sources import load
from sasrec.data.splits import CUTOFFS, Split, global_time
from sasrec.scoring.metrics import accuracy, distinct_targets
from sasrec.scoring.ranking import target_ranks
from sasrec.scoring.scorer import Scorer


@dataclass(frozen=True)
class Site:
    """A cleaned data set and its split in time.

    Attributes:
        evaluated: the sequences that a model under evaluation learns from: before t1.
    """

    source: Source
    split: Split
    evaluated: SequenceDataset

    @classmethod
    def read(cls, dataset: str, data_dir: str | None) -> "Site":
        """Load, clean and split a named data set that has times."""
        source, _ = clean(load(dataset, data_dir=data_dir))
        split = global_time(source.interactions, items=source.items)
        return cls(source, split, sequences_of(source, split))

    @property
    def now(self) -> datetime:
        """t2, where the test fold begins: the moment at which a refit would learn."""
        assert self.split.t2 is not None, "a global cut has two moments"
        return self.split.t2

    def learning_until(self, moment: datetime) -> SequenceDataset:
        """The same folds for a model that learns from all events before `moment`.

        Its validation fold holds events that it has learned from, if `moment` is after t1: nothing
        may be chosen by it.
        """
        return sequences_of(self.source, learning_until(self.split, self.source, moment))


def learning_until(split: Split, source: Source, moment: datetime) -> Split:
    """`split`, with training histories and known items as of another moment."""
    interactions, limit = source.interactions, pa.scalar(moment, TIMESTAMP)
    before = interactions.filter(pc.less(interactions["timestamp"], limit))
    users = before["user_id"].unique()
    train = pa.table(
        [pa.repeat("train", len(users)), users, pa.repeat(limit, len(users))], schema=CUTOFFS
    )
    others = split.cutoffs.filter(pc.not_equal(split.cutoffs["fold"], "train"))
    launched = source.items.filter(pc.less(source.items["created_at"], limit))
    known = {*before["item_id"].unique().to_pylist(), *launched["item_id"].to_pylist()}
    return replace(split, cutoffs=pa.concat_tables([train, others]), known_items=sorted(known))


def sequences_of(source: Source, split: Split) -> SequenceDataset:
    """The sequences of a split, without a feature store in between."""
    histories = histories_before(source.interactions, split.cutoffs)
    return SequenceDataset.from_histories(split, histories)


def of_users(evaluation: EvaluationSet, users: Sequence[str]) -> EvaluationSet:
    """The rows of `users`, in their order; each must be there."""
    row = {user: number for number, user in enumerate(evaluation.user_ids)}
    rows = np.array([row[user] for user in users])
    return EvaluationSet(
        evaluation.name, users, evaluation.histories.select(rows), evaluation.targets.select(rows)
    )


def measure(scorer: Scorer, evaluation: EvaluationSet) -> dict[str, float]:
    """NDCG@10 and HR@10 of each user's first event, and NDCG@10 of all their events as one set.

    The full catalogue without seen items; an item outside the vocabulary is a miss.
    """
    window = distinct_targets(evaluation.targets)
    asked = EvaluationSet(evaluation.name, evaluation.user_ids, evaluation.histories, window)
    ranks = target_ranks(scorer, asked)
    first = accuracy(ranks[window.cu_seqlens[:-1]], np.arange(len(evaluation) + 1), 10)
    return {
        "ndcg@10": float(first["ndcg@10"].mean()),
        "hr@10": float(first["hr@10"].mean()),
        "window_ndcg@10": float(accuracy(ranks, window.cu_seqlens, 10)["ndcg@10"].mean()),
    }


def first_targets(targets: PackedSequences) -> np.ndarray:
    """(B,) vocabulary index of each user's first target; 0 where it is unknown."""
    return targets.items[targets.cu_seqlens[:-1]]
