"""Everything that is known at a run's moment: what the model that ships has learned from."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sasrec.data.dataset import (
    SequenceDataset,
    pack_columns,
    packed_columns,
    unpack_columns,
)
from sasrec.data.packed import PackedSequences
from sasrec.data.schema import TIMESTAMP
from sasrec.data.vocabulary import Vocabulary


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
    user_ids: list[str]
    histories: PackedSequences

    @classmethod
    def from_histories(
        cls, as_of: datetime, histories: pa.Table, launched: Iterable[str] = ()
    ) -> "CurrentHistories":
        """Encode what the feature store answered.

        Args:
            histories: `user_id`, and `item_ids` and `timestamps` lists.
            launched: items that exist at `as_of`, whether or not anybody has met them.
        """
        met = pc.unique(pc.list_flatten(histories["item_ids"])).to_pylist()
        vocabulary = Vocabulary(sorted({*met, *launched}))
        packed = pack_columns(histories["item_ids"], histories["timestamps"], vocabulary)
        rows = np.flatnonzero(packed.lengths > 0)
        users = histories["user_id"].take(pa.array(rows)).to_pylist()
        return cls(as_of, vocabulary, users, packed.select(rows))

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
        """Write the histories as Parquet, the vocabulary and the moment."""
        directory.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(directory / "vocabulary.json")
        (directory / "current.json").write_text(json.dumps({"as_of": self.as_of.isoformat()}))
        columns = {"user_id": self.user_ids, **packed_columns(self.histories)}
        pq.write_table(pa.table(columns), directory / "histories.parquet")

    @classmethod
    def load(cls, directory: Path) -> "CurrentHistories":
        """Read what `save` wrote."""
        table = pq.read_table(directory / "histories.parquet")
        return cls(
            as_of=datetime.fromisoformat(
                json.loads((directory / "current.json").read_text())["as_of"]
            ),
            vocabulary=Vocabulary.load(directory / "vocabulary.json"),
            user_ids=table["user_id"].to_pylist(),
            histories=unpack_columns(table),
        )
