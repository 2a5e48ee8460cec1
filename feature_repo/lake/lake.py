"""A site's own data: three Delta tables that only grow, and `lake.json`, which says how far.

`interactions` and `impressions` are partitioned by `day` (UTC), `items` is not. Data files are
written once; only `forget` and the retention rewrite or remove any.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError
from fsspec.implementations.local import LocalFileSystem

from feature_repo.lake.state import State, StateFile
from feature_repo.locks import exclusive
from sasrec.data.schema import IMPRESSIONS, INTERACTIONS, ITEMS, TIMESTAMP
from sasrec.errors import DataError

LAKE_URL = "SASREC_LAKE_URL"
"""The environment variable that puts a site's lake elsewhere, such as `s3://bucket/shop/lake`."""

_BATCH = pa.field("batch", pa.int64(), nullable=False)
_DAY = pa.field("day", pa.string(), nullable=False)

# Imports have no event and no request ids; `sequence` is unique in the lake.
LAKE_INTERACTIONS = pa.schema(
    [
        *INTERACTIONS,
        pa.field("event_id", pa.string()),
        pa.field("request_id", pa.string()),
        _BATCH,
        _DAY,
    ]
)
# What was logged has no reward: that is for whoever reads, by the events that came since.
LAKE_IMPRESSIONS = pa.schema(
    [*IMPRESSIONS, pa.field("logged", pa.bool_(), nullable=False), _BATCH, _DAY]
)
# Free columns follow; the newest row of an item counts.
LAKE_ITEMS = pa.schema([*ITEMS, pa.field("written", TIMESTAMP, nullable=False), _BATCH])
SCHEMAS = {
    "interactions": LAKE_INTERACTIONS,
    "impressions": LAKE_IMPRESSIONS,
    "items": LAKE_ITEMS,
}

_TRANSACTION = "sasrec-lake"
# No user's id gets into Delta's log as a minimum or maximum, and no version is kept to go back to.
_CONFIGURATION = {
    "delta.dataSkippingStatsColumns": "batch",
    "delta.logRetentionDuration": "interval 0 days",
}
# Characters that delta-rs does not take in a path (it makes a host name of it).
_IMPOSSIBLE = re.compile(r"[\[\]%<>^|#?:@\\]")


class Lake:
    """The lake of one site, at a path or a URL.

    Args:
        location: a folder, or a URL of fsspec (`s3://`, `gs://`); credentials and endpoints come
            from the environment, as for the model store.

    Raises:
        DataError: the location cannot hold a lake.
    """

    def __init__(self, location: str) -> None:
        try:
            self.filesystem, self._base = fsspec.url_to_fs(location, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise DataError(f"{location}: {' '.join(str(error).split())}") from None
        self.is_local = isinstance(self.filesystem, LocalFileSystem)
        if self.is_local and (bad := _IMPOSSIBLE.search(self._base)):
            raise DataError(
                f"{self._base}: Delta Lake takes no '{bad.group()}' in a path; choose another "
                f"--home, or name the lake's place in {LAKE_URL}"
            )
        self._url = self._base if self.is_local else location.rstrip("/")
        self._state = StateFile(self.filesystem, self._base)

    def __str__(self) -> str:
        return self._url

    @property
    def state(self) -> State:
        """What it holds; an empty state where there is no lake.

        Raises:
            DataError: it is of another format.
        """
        return self._state.read() or State()

    def exists(self) -> bool:
        """Whether anything was ever put here."""
        return self._state.read() is not None

    def write_state(self, state: State) -> None:
        """Replace the state, in one step."""
        self._state.write(state)

    def append(self, table: str, rows: pa.Table | pa.RecordBatchReader, batch: int) -> None:
        """Add the rows of a batch to a table, unless it has them.

        Args:
            rows: with the columns of `SCHEMAS[table]`, and free columns after them for items.

        Raises:
            DataError: a free column has another type than the table's.
        """
        if not self._has(table, batch):
            try:
                write_deltalake(
                    self._create(table),
                    rows,
                    mode="append",
                    schema_mode="merge" if table == "items" else None,
                    commit_properties=_transaction(batch),
                )
            except DeltaError as error:
                reason = str(error).splitlines()[0]
                raise DataError(
                    f"{self._url}/{table}: cannot take the new rows ({reason})"
                ) from None

    def complete(self, state: State, *, grown: bool) -> None:
        """Say that every table has the newest batch of `state`, and whether that was any row."""
        self.write_state(_completed(state, state.batch if grown else state.grown))

    def take_back(self) -> None:
        """Remove the rows of an unfinished batch."""
        state = self.state
        for table in SCHEMAS:
            if self._has(table, state.batch):
                self._open(table).delete(f"batch = {state.batch}")
        self.write_state(_completed(state, state.grown))

    def files(self, table: str) -> list[str]:
        """The table's data files, each a path or URL that DuckDB reads; none of an absent table.

        Raises:
            DataError: a file is gone.
        """
        if not self._is_there(table):
            return []
        depth = 2 if "day" in SCHEMAS[table].names else 1
        names = [
            unquote("/".join(uri.split("/")[-depth:])) for uri in self._open(table).file_uris()
        ]
        there = {path.rpartition(f"/{table}/")[2] for path in self._parquet(table)}
        if gone := sorted(set(names) - there):
            partition = gone[0].rpartition("/")[0] or "a part"
            raise DataError(
                f"{self._url}/{table}: {partition} vanished: {len(gone)} of {len(names)} files are "
                f"missing, the first is {gone[0]}; restore them from a backup"
            )
        return [f"{self._url}/{table}/{name}" for name in sorted(names)]

    def forget(self, user_id: str) -> None:
        """Rewrite the files that hold a user, and remove all that no version needs."""
        digest = sha256(user_id.encode()).hexdigest()
        for table in ("interactions", "impressions"):
            if self._is_there(table):
                # By digest: the id itself would stay in Delta's log.
                opened = self._open(table)
                opened.delete(f"encode(sha256(user_id), 'hex') = '{digest}'")
                self._clean(opened)

    def rows_of(self, user_id: str) -> int:
        """How many rows of a user lie in any file, whether a table lists it or not."""
        rows = 0
        for table in ("interactions", "impressions"):
            for path in self._parquet(table):
                with self.filesystem.open(path, "rb") as file:
                    # delta-rs rewrites files with another type of text.
                    users = pq.ParquetFile(file).read(["user_id"])["user_id"].cast(pa.string())
                rows += int(pc.sum(pc.equal(users, user_id)).as_py() or 0)
        return rows

    def drop_days_before(self, day: str) -> None:
        """Remove the partitions of earlier days."""
        for table in ("interactions", "impressions"):
            if any(day_of(path) < day for path in self.files(table)):
                opened = self._open(table)
                opened.delete(f"day < '{day}'")
                self._clean(opened)

    def _clean(self, table: DeltaTable) -> None:
        table.update_incremental()
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
        table.create_checkpoint()
        table.cleanup_metadata()

    def _has(self, table: str, batch: int) -> bool:
        return (
            self._is_there(table)
            and (self._open(table).transaction_version(_TRANSACTION) or 0) >= batch
        )

    def _is_there(self, table: str) -> bool:
        return DeltaTable.is_deltatable(f"{self._url}/{table}", self._options())

    def _create(self, table: str) -> DeltaTable:
        return DeltaTable.create(
            f"{self._url}/{table}",
            SCHEMAS[table],
            mode="ignore",
            partition_by=["day"] if "day" in SCHEMAS[table].names else None,
            configuration=_CONFIGURATION,
            storage_options=self._options(),
        )

    def _open(self, table: str) -> DeltaTable:
        return DeltaTable(f"{self._url}/{table}", storage_options=self._options())

    def _parquet(self, table: str) -> list[str]:
        found = self.filesystem.find(f"{self._base}/{table}")
        return [path for path in found if path.endswith(".parquet") and "/_delta_log/" not in path]

    def _options(self) -> dict[str, str]:
        """What delta-rs is told beyond the environment: what boto reads, and it does not."""
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if self.is_local or not endpoint:
            return {}
        plain = "true" if endpoint.startswith("http://") else "false"
        return {"aws_endpoint_url": endpoint, "aws_allow_http": plain}


def day_of(path: str) -> str:
    """The UTC day of a partitioned table's file, as "2026-11-01"."""
    return path.rpartition("/day=")[2].split("/")[0]


def open_lake(home: Path) -> Lake:
    """The lake of the site at `home`, or at `$SASREC_LAKE_URL` when that is set."""
    return Lake(os.environ.get(LAKE_URL) or str(Path(home).resolve() / "lake"))


@contextmanager
def only_writer(home: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the right to change, or to read in whole, the lake of a site.

    Args:
        patience: as in `feature_repo.locks.exclusive`.

    Raises:
        DataError: somebody else holds it.
    """
    busy = f"{home}: a run or a forget is using its data; wait for it"
    home.mkdir(parents=True, exist_ok=True)
    with exclusive(home / "lake.lock", busy, patience=patience):
        yield


def _completed(state: State, grown: int) -> State:
    segments = {name: (read, read) for name, (_, read) in state.segments.items()}
    return replace(state, complete=True, grown=grown, segments=segments)


def _transaction(batch: int) -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(_TRANSACTION, batch)])
