"""The training and evaluation sequences of one run: extracted once, read by every later stage."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.mapped import SequenceWriter, concatenate, map_packed, save_packed
from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.repeats import repeats_allowed
from sasrec.data.schema import TIMESTAMP
from sasrec.data.splits import Split
from sasrec.data.users import UserIds, UserWriter, map_users
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.errors import DataError

FOLDS = ("train", "validation", "test")
DESCRIPTION, VOCABULARY, USERS = "split.json", "vocabulary.json", "users.arrow"
TARGETS = "targets"
"""Folder of an evaluated fold beside the files of its histories."""

Histories = Callable[[pa.Table], Iterator[pa.Table]]
"""(user_id, cutoff) rows -> their histories in pieces, row for row: `item_ids` and `timestamps`
lists, and `event_types` where events are to be weighed."""


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
    train_users: Sequence[str]
    train: PackedSequences
    validation: EvaluationSet
    test: EvaluationSet

    @classmethod
    def from_histories(
        cls, split: Split, histories: pa.Table, event_weights: Mapping[str, float] | None = None
    ) -> "SequenceDataset":
        """Encode what the feature store answered for `split.cutoffs`, in memory.

        Args:
            split: the cut of the interactions.
            histories: `item_ids` and `timestamps` lists, row for row with `split.cutoffs`.
            event_weights: as in `write`.

        Raises:
            DataError: the feature store answered another number of rows than were asked.
        """
        if len(histories) != len(split.cutoffs):
            raise DataError(
                f"feature store: {len(split.cutoffs)} histories asked, {len(histories)} answered"
            )
        vocabulary = Vocabulary(split.known_items)
        folds = {}
        for fold in FOLDS:
            answered = histories.filter(pc.equal(split.cutoffs["fold"], fold))
            weights = event_weights if fold == "train" else None
            parts = list(_encode_fold(fold, split, [answered], vocabulary, weights))
            folds[fold] = (
                UserIds(pa.chunked_array([c for part in parts for c in part.users.chunks])),
                concatenate([part.histories for part in parts]),
                concatenate([part.targets for part in parts]),
            )
        train_users, train, _ = folds["train"]
        description = split.describe()
        repeats = repeats_allowed(description)
        return cls(
            description,
            vocabulary,
            train_users,
            train,
            _asked(EvaluationSet("validation", *folds["validation"], repeats=repeats), description),
            _asked(EvaluationSet("test", *folds["test"], repeats=repeats), description),
        )

    @staticmethod
    def write(
        directory: Path,
        split: Split,
        histories: Histories,
        event_weights: Mapping[str, float] | None = None,
    ) -> None:
        """Encode what the feature store answers, piece by piece, into what `load` reads.

        Args:
            histories: the feature store, asked once per fold.
            event_weights: event type -> weight of such an event as a target, one for types that
                are not named; None to weigh all alike.

        Raises:
            DataError: the feature store answered another number of rows than were asked.
        """
        vocabulary = Vocabulary(split.known_items)
        directory.mkdir(parents=True, exist_ok=True)
        vocabulary.save(directory / VOCABULARY)
        for fold in FOLDS:
            asked = split.cutoffs.filter(pc.equal(split.cutoffs["fold"], fold))
            folder = directory / fold
            weights = event_weights if fold == "train" else None
            with ExitStack() as files:
                packed = files.enter_context(SequenceWriter(folder, weighted=weights is not None))
                users = files.enter_context(UserWriter(folder / USERS))
                targets = None
                if fold != "train":
                    targets = files.enter_context(SequenceWriter(folder / TARGETS))
                for part in _encode_fold(fold, split, histories(asked), vocabulary, weights):
                    users.append(part.users)
                    packed.append(part.histories)
                    if targets is not None:
                        targets.append(part.targets)
        _describe(directory, split.describe())

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
        """Write a folder of arrays per fold, the vocabulary and the split's description."""
        directory.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(directory / VOCABULARY)
        save_packed(directory / "train", self.train)
        with UserWriter(directory / "train" / USERS) as users:
            users.append(self.train_users)
        for fold in (self.validation, self.test):
            save_packed(directory / fold.name, fold.histories)
            save_packed(directory / fold.name / TARGETS, fold.targets)
            with UserWriter(directory / fold.name / USERS) as users:
                users.append(fold.user_ids)
        _describe(directory, self.description)

    @classmethod
    def load(cls, directory: Path) -> "SequenceDataset":
        """Map what `save` or `write` wrote: arrays and ids are read where they are touched.

        Raises:
            DataError: a file is missing or cut short, or the writing did not end.
        """
        path = directory / DESCRIPTION
        if not path.exists():
            raise DataError(f"{path}: this file is missing; extract the sequences again")
        train, description = map_packed(directory / "train"), json.loads(path.read_text())
        repeats = repeats_allowed(description)
        return cls(
            description=description,
            vocabulary=Vocabulary.load(directory / VOCABULARY),
            train_users=map_owners(directory / "train", train),
            train=train,
            validation=_asked(_map_fold(directory, "validation", repeats), description),
            test=_asked(_map_fold(directory, "test", repeats), description),
        )


class _Part(NamedTuple):
    """Consecutive users of a fold; a training fold has empty targets."""

    users: pa.ChunkedArray
    histories: PackedSequences
    targets: PackedSequences


def _encode_fold(
    fold: str,
    split: Split,
    histories: Iterable[pa.Table],
    vocabulary: Vocabulary,
    event_weights: Mapping[str, float] | None,
) -> Iterator[_Part]:
    """Encode the pieces of a fold's histories, each with its users and what they did next.

    Users that are evaluated without any known history get popularity at serving: they say nothing
    of the model, and are left out.
    """
    users = split.cutoffs.filter(pc.equal(split.cutoffs["fold"], fold))["user_id"]
    known_ids = pa.array(vocabulary.item_ids, pa.string())
    targets = split.targets.filter(pc.equal(split.targets["fold"], fold))
    offsets = _target_offsets(users, targets)
    start = 0
    for answered in histories:
        stop = start + len(answered)
        packed = encode_histories(answered, known_ids, event_weights)
        kept = np.arange(len(packed))
        if fold != "train":
            kept = np.flatnonzero(packed.lengths > 0)
            packed = packed.select(kept)
        first, last = offsets[min(start, len(users))], offsets[min(stop, len(users))]
        follows = _pack_targets(
            targets.slice(first, last - first), offsets[start : stop + 1] - first, known_ids
        )
        owners = users.slice(start, stop - start).take(pa.array(kept))
        yield _Part(owners, packed, follows.select(kept) if fold != "train" else follows)
        start = stop
    if start != len(users):
        raise DataError(f"feature store: {len(users)} histories asked, {start} answered")


def encode_histories(
    histories: pa.Table, known_ids: pa.Array, event_weights: Mapping[str, float] | None
) -> PackedSequences:
    """Known events alone, with the weights of their types."""
    lengths = pc.list_value_length(histories["item_ids"]).to_numpy().astype(np.int64)
    items = _encode(pc.list_flatten(histories["item_ids"]), known_ids)
    times = pc.list_flatten(histories["timestamps"]).cast(pa.int64()).to_numpy()
    known = items != PADDING
    owners = np.repeat(np.arange(len(lengths)), lengths)[known]
    weights = None
    if event_weights is not None:
        weights = _weigh(pc.list_flatten(histories["event_types"]), event_weights)[known]
    lengths = np.bincount(owners, minlength=len(lengths))
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return PackedSequences(items[known], cu_seqlens, times[known], weights)


def _pack_targets(events: pa.Table, offsets: np.ndarray, known_ids: pa.Array) -> PackedSequences:
    """Unknown targets stay, as `PADDING`: they are misses."""
    times = events["timestamp"].cast(pa.int64()).to_numpy()
    return PackedSequences(_encode(events["item_id"], known_ids), offsets.astype(np.int32), times)


def _encode(item_ids: pa.ChunkedArray, known_ids: pa.Array) -> np.ndarray:
    """(n,) int64 indices into the vocabulary, `PADDING` for an unknown item."""
    index = pc.index_in(item_ids, value_set=known_ids)
    return pc.add(pc.cast(index, pa.int64()), 1).fill_null(PADDING).to_numpy()


def _weigh(event_types: pa.ChunkedArray, event_weights: Mapping[str, float]) -> np.ndarray:
    """(n,) float32, one for a type that is not named."""
    names = pa.array(list(event_weights), pa.string())
    weights = np.array([*event_weights.values(), 1.0], dtype=np.float32)
    unnamed = len(event_weights)
    return weights[pc.index_in(event_types, value_set=names).fill_null(unnamed).to_numpy()]


def _target_offsets(users: pa.ChunkedArray, targets: pa.Table) -> np.ndarray:
    """(U + 1,) where each user's targets begin: they come in the order of `users`."""
    if not len(targets):
        return np.zeros(len(users) + 1, dtype=np.int64)
    row = pc.index_in(targets["user_id"], value_set=users.combine_chunks()).to_numpy()
    if (np.diff(row) < 0).any():
        raise DataError("split: targets are not in the order of cutoffs; split again")
    return np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(users)))])


def _describe(directory: Path, description: dict[str, Any]) -> None:
    """Written last: what has a description was written to its end."""
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=2))


def _map_fold(directory: Path, name: str, repeats: bool) -> EvaluationSet:
    histories = map_packed(directory / name)
    targets = map_packed(directory / name / TARGETS)
    if len(targets) != len(histories):
        raise DataError(
            f"{directory / name / TARGETS}: holds {len(targets):,} users, the histories have "
            f"{len(histories):,}; extract the sequences again"
        )
    users = map_owners(directory / name, histories)
    return EvaluationSet(name, users, histories, targets, repeats)


def _asked(evaluation: EvaluationSet, description: Mapping[str, Any]) -> EvaluationSet:
    """The same users, who ask at the fold's cut; without a cut in time nobody knows when."""
    cut = description.get({"validation": "t1", "test": "t2"}[evaluation.name])
    if cut is None:
        return evaluation
    moment = pa.scalar(datetime.fromisoformat(cut), TIMESTAMP).value
    asked_at = np.full(len(evaluation), moment, dtype=np.int64)
    return replace(evaluation, histories=replace(evaluation.histories, asked_at=asked_at))


def map_owners(folder: Path, histories: PackedSequences) -> UserIds:
    """The users of a folder's histories, one each.

    Raises:
        DataError: the file is missing, or holds another number of users.
    """
    users = map_users(folder / USERS)
    if len(users) != len(histories):
        raise DataError(
            f"{folder / USERS}: holds {len(users):,} users, the histories have "
            f"{len(histories):,}; extract the sequences again"
        )
    return users
