"""Everything that is known at a run's moment: what the model that ships has learned from."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from sasrec.data.dataset import (
    USERS,
    VOCABULARY,
    SequenceDataset,
    encode_histories,
    map_owners,
)
from sasrec.data.mapped import SequenceWriter, map_packed, save_packed
from sasrec.data.packed import PackedSequences
from sasrec.data.schema import TIMESTAMP
from sasrec.data.users import UserWriter
from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError

DESCRIPTION = "current.json"


@dataclass(frozen=True)
class CurrentHistories:
    """Whole histories at one moment, with every item that is known then.

    Attributes:
        as_of: the moment.
        vocabulary: the items.
        user_ids: B ids, one per history.
        histories: of at least one event each, oldest first.
    """

    as_of: datetime
    vocabulary: Vocabulary
    user_ids: Sequence[str]
    histories: PackedSequences

    @staticmethod
    def write(
        directory: Path,
        as_of: datetime,
        known_items: Iterable[str],
        histories: Iterable[pa.Table],
        event_weights: Mapping[str, float] | None = None,
    ) -> None:
        """Encode what the feature store answers, piece by piece, into what `load` reads.

        Args:
            known_items: the vocabulary, in any order.
            histories: `user_id`, `item_ids` and `timestamps`, and `event_types` where events are
                to be weighed; a user without a known item is left out.
            event_weights: as in `SequenceDataset.write`.
        """
        vocabulary = Vocabulary(sorted(set(known_items)))
        directory.mkdir(parents=True, exist_ok=True)
        vocabulary.save(directory / VOCABULARY)
        known_ids = pa.array(vocabulary.item_ids, pa.string())
        with (
            SequenceWriter(directory, weighted=event_weights is not None) as writer,
            UserWriter(directory / USERS) as users,
        ):
            for answered in histories:
                packed = encode_histories(answered, known_ids, event_weights)
                rows = np.flatnonzero(packed.lengths > 0)
                users.append(answered["user_id"].take(pa.array(rows)))
                writer.append(packed.select(rows))
        _describe(directory, as_of)

    @classmethod
    def of_training(cls, dataset: SequenceDataset, as_of: datetime) -> "CurrentHistories":
        """What an evaluated model knows at `as_of`: nothing after its training cut."""
        return cls(as_of, dataset.vocabulary, dataset.train_users, dataset.train)

    @property
    def newest_event(self) -> datetime:
        """When the latest of all events happened."""
        newest = int(self.histories.timestamps.max())
        return pa.scalar(newest, pa.int64()).cast(TIMESTAMP).as_py()

    @property
    def digest(self) -> str:
        """Names what is known, whenever it was asked for."""
        digest = hashlib.sha256("\0".join(self.vocabulary.item_ids).encode())
        for array in (
            self.histories.items,
            self.histories.cu_seqlens,
            self.histories.timestamps,
        ):
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    def newest_users(self, count: int) -> np.ndarray:
        """Rows of the users whose latest events are the newest, at most `count`, newest first."""
        latest = self.histories.timestamps[self.histories.cu_seqlens[1:] - 1]
        return np.argsort(-latest, kind="stable")[:count]

    def examples(self, count: int, max_length: int = 20) -> tuple[list[list[str]], list[list[int]]]:
        """Item ids and timestamps of the `newest_users`, to ask a server with."""
        packed = self.histories.select(self.newest_users(count), max_length)
        times = np.split(packed.timestamps, packed.cu_seqlens[1:-1])
        return [self.vocabulary.decode(items) for items in packed], [t.tolist() for t in times]

    def save(self, directory: Path) -> None:
        """Write what `load` reads."""
        directory.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(directory / VOCABULARY)
        save_packed(directory, self.histories)
        with UserWriter(directory / USERS) as users:
            users.append(self.user_ids)
        _describe(directory, self.as_of)

    @classmethod
    def load(cls, directory: Path) -> "CurrentHistories":
        """Map what `write` or `save` wrote: arrays and ids are read where they are touched.

        Raises:
            DataError: a file is missing or cut short, or the writing did not end.
        """
        description = directory / DESCRIPTION
        if not description.exists():
            raise DataError(f"{description}: this file is missing; extract the sequences again")
        histories = map_packed(directory)
        return cls(
            as_of=datetime.fromisoformat(json.loads(description.read_text())["as_of"]),
            vocabulary=Vocabulary.load(directory / VOCABULARY),
            user_ids=map_owners(directory, histories),
            histories=histories,
        )


def items_known(as_of: datetime, interactions: Path, items: Path) -> set[str]:
    """Items that anybody has met, or that were launched before `as_of`.

    Args:
        interactions, items: cleaned tables, as Parquet files.
    """
    events = ds.dataset(interactions, format="parquet").to_batches(columns=["item_id"])
    known = {item for batch in events for item in batch["item_id"].unique().to_pylist()}
    catalogue = pq.read_table(items, columns=["item_id", "created_at"])
    launched = catalogue.filter(pc.less(catalogue["created_at"], as_of))["item_id"]
    return known.union(launched.to_pylist())


def _describe(directory: Path, as_of: datetime) -> None:
    """Written last: what has a description was written to its end."""
    (directory / DESCRIPTION).write_text(json.dumps({"as_of": as_of.isoformat()}))
