"""The training and evaluation sequences of one run: extracted once, read by every later stage."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.schema import TIMESTAMP
from sasrec.data.splits import Split
from sasrec.data.vocabulary import PADDING, Vocabulary

FOLDS = ("train", "validation", "test")


@dataclass(frozen=True)
class SequenceDataset:
    """Histories as of each fold's cut, what came next, and the vocabulary that encodes both.

    Attributes:
        description: the split as it is published beside every figure (kind, sha256, counts).
        vocabulary: the items known at the training cut.
        train_users: one id per training history.
        train: histories strictly before the training cut.
        validation, test: users whose next events are known.
    """

    description: dict[str, Any]
    vocabulary: Vocabulary
    train_users: list[str]
    train: PackedSequences
    validation: EvaluationSet
    test: EvaluationSet

    @classmethod
    def from_histories(cls, split: Split, histories: pa.Table) -> "SequenceDataset":
        """Encode what the feature store answered for `split.cutoffs`.

        Args:
            split: the cut of the interactions.
            histories: `item_ids` and `timestamps` lists, row for row with `split.cutoffs`.

        Raises:
            ValueError: the feature store answered another number of rows than were asked.
        """
        if len(histories) != len(split.cutoffs):
            raise ValueError(
                f"feature store: {len(split.cutoffs)} histories asked, {len(histories)} answered"
            )
        vocabulary = Vocabulary(split.known_items)
        folds = {}
        for fold in FOLDS:
            rows = pc.equal(split.cutoffs["fold"], fold)
            users = split.cutoffs.filter(rows)["user_id"]
            history = histories.filter(rows)
            packed = pack_columns(history["item_ids"], history["timestamps"], vocabulary)
            targets = split.targets.filter(pc.equal(split.targets["fold"], fold))
            folds[fold] = (users, packed, _targets_of(users, targets, vocabulary))
        train_users, train, _ = folds["train"]
        return cls(
            description=split.describe(),
            vocabulary=vocabulary,
            train_users=train_users.to_pylist(),
            train=train,
            validation=_with_history("validation", *folds["validation"]),
            test=_with_history("test", *folds["test"]),
        )

    @property
    def newest_event(self) -> datetime:
        """When the latest training event happened."""
        newest = int(self.train.timestamps.max())
        return pa.scalar(newest, pa.int64()).cast(TIMESTAMP).as_py()

    def examples(self, count: int, max_length: int = 20) -> tuple[list[list[str]], list[list[int]]]:
        """Item ids and timestamps of the first `count` test histories, to ask a server with."""
        rows = np.arange(min(count, len(self.test)))
        packed = self.test.histories.select(rows, max_length)
        times = np.split(packed.timestamps, packed.cu_seqlens[1:-1])
        return [self.vocabulary.decode(items) for items in packed], [t.tolist() for t in times]

    def save(self, directory: Path) -> None:
        """Write one Parquet file per fold, the vocabulary and the split's description."""
        directory.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(directory / "vocabulary.json")
        (directory / "split.json").write_text(json.dumps(self.description, indent=2))
        pq.write_table(
            pa.table({"user_id": self.train_users, **packed_columns(self.train)}),
            directory / "train.parquet",
        )
        for fold in (self.validation, self.test):
            columns = packed_columns(fold.histories) | packed_columns(fold.targets, "target_")
            pq.write_table(
                pa.table({"user_id": fold.user_ids, **columns}), directory / f"{fold.name}.parquet"
            )

    @classmethod
    def load(cls, directory: Path) -> "SequenceDataset":
        """Read what `save` wrote."""
        train = pq.read_table(directory / "train.parquet")
        return cls(
            description=json.loads((directory / "split.json").read_text()),
            vocabulary=Vocabulary.load(directory / "vocabulary.json"),
            train_users=train["user_id"].to_pylist(),
            train=unpack_columns(train),
            validation=_load_fold(directory, "validation"),
            test=_load_fold(directory, "test"),
        )


def pack_columns(
    item_ids: pa.ChunkedArray,
    timestamps: pa.ChunkedArray,
    vocabulary: Vocabulary,
    *,
    keep_unknown: bool = False,
) -> PackedSequences:
    """Encode columns of lists; items outside the vocabulary are left out, or kept as `PADDING`."""
    lengths = pc.list_value_length(item_ids).to_numpy().astype(np.int64)
    index = pc.index_in(pc.list_flatten(item_ids), value_set=pa.array(vocabulary.item_ids))
    items = pc.add(pc.cast(index, pa.int64()), 1).fill_null(PADDING).to_numpy()
    times = pc.list_flatten(timestamps).cast(pa.int64()).to_numpy()
    if not keep_unknown:
        known = items != PADDING
        rows = np.repeat(np.arange(len(lengths)), lengths)
        lengths = np.bincount(rows[known], minlength=len(lengths))
        items, times = items[known], times[known]
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return PackedSequences(items, cu_seqlens, times)


def _targets_of(
    users: pa.ChunkedArray, targets: pa.Table, vocabulary: Vocabulary
) -> PackedSequences:
    """The targets of each user, in the order of `users`; `targets` is in time order per user."""
    row = pc.index_in(targets["user_id"], value_set=users.combine_chunks()).to_numpy()
    order = np.argsort(row, kind="stable")
    lengths = np.bincount(row, minlength=len(users))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    ordered = targets.take(pa.array(order))
    lists = {
        name: pa.ListArray.from_arrays(offsets, ordered[name].combine_chunks())
        for name in ("item_id", "timestamp")
    }
    return pack_columns(
        pa.chunked_array([lists["item_id"]]),
        pa.chunked_array([lists["timestamp"]]),
        vocabulary,
        keep_unknown=True,
    )


def _with_history(
    name: str, users: pa.ChunkedArray, histories: PackedSequences, targets: PackedSequences
) -> EvaluationSet:
    """Users without any known history get popularity at serving: they say nothing of the model."""
    rows = np.flatnonzero(histories.lengths > 0)
    user_ids = users.take(pa.array(rows)).to_pylist()
    return EvaluationSet(name, user_ids, histories.select(rows), targets.select(rows))


def packed_columns(packed: PackedSequences, prefix: str = "") -> dict[str, pa.Array]:
    """As columns of lists for a Parquet file."""
    offsets = pa.array(packed.cu_seqlens, pa.int32())
    return {
        f"{prefix}items": pa.ListArray.from_arrays(offsets, pa.array(packed.items)),
        f"{prefix}timestamps": pa.ListArray.from_arrays(offsets, pa.array(packed.timestamps)),
    }


def unpack_columns(table: pa.Table, prefix: str = "") -> PackedSequences:
    """What `packed_columns` gave."""
    items = table[f"{prefix}items"]
    lengths = pc.list_value_length(items).to_numpy()
    return PackedSequences(
        pc.list_flatten(items).to_numpy(),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        pc.list_flatten(table[f"{prefix}timestamps"]).to_numpy(),
    )


def _load_fold(directory: Path, name: str) -> EvaluationSet:
    table = pq.read_table(directory / f"{name}.parquet")
    return EvaluationSet(
        name, table["user_id"].to_pylist(), unpack_columns(table), unpack_columns(table, "target_")
    )
