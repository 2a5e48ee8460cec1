"""The statements of `clean`, `snapshot` and `split` on Spark, for the profile `cluster`.

Needs the extra `spark` and a Java runtime. Where Spark runs is Spark's own setting; the lake and
the artifacts must lie where all of it reaches them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from feature_repo.lake.lake import SCHEMAS, Lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Spark:
    """Statements on a cluster; see `engine.Engine`. What `write` writes is a folder of files."""

    micros = "unix_micros({})"
    timestamp = "timestamp_micros({})"
    pair = "xxhash64({}, {})"

    def __init__(self, session: "SparkSession") -> None:
        self._session = session

    def register(self, name: str, table: pa.Table) -> None:
        """See `Engine`."""
        self._session.createDataFrame(table.to_pandas()).createOrReplaceTempView(name)

    def view(self, name: str, query: str) -> None:
        """See `Engine`."""
        self._session.sql(query).createOrReplaceTempView(name)

    def table(self, name: str, query: str) -> None:
        """See `Engine`."""
        self._session.sql(query).cache().createOrReplaceTempView(name)

    def write(self, query: str, path: Path) -> None:
        """See `Engine`."""
        self._session.sql(query).write.mode("overwrite").parquet(str(path), compression="zstd")

    def read(self, name: str, path: Path) -> None:
        """See `Engine`."""
        self._session.read.parquet(str(path)).createOrReplaceTempView(name)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """See `Engine`."""
        return [tuple(row) for row in self._session.sql(query).collect()]

    def columns(self, name: str) -> list[str]:
        """See `Engine`."""
        return self._session.table(name).columns

    def quote(self, column: str) -> str:
        """See `Engine`."""
        return "`" + column.replace("`", "``") + "`"


@contextmanager
def open_spark(lake: Lake) -> Iterator[Spark]:
    """A session with the views `lake_interactions`, `lake_impressions` and `lake_items`.

    Raises:
        DataError: Spark or Java is missing, or a data file is gone.
    """
    from feature_repo.spark import require_spark

    require_spark()
    from pyspark.sql import SparkSession
    from pyspark.sql.pandas.types import from_arrow_schema

    session = (
        SparkSession.builder.appName("sasrec-ingest")
        .config("spark.sql.session.timeZone", "UTC")
        # Spark's default is INT96, which other readers take for local nanoseconds.
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        .getOrCreate()
    )
    for table, schema in SCHEMAS.items():
        if paths := lake.files(table):
            frame = session.read.option("mergeSchema", table == "items").parquet(*paths)
        else:
            frame = session.createDataFrame([], from_arrow_schema(schema))
        frame.createOrReplaceTempView(f"lake_{table}")
    yield Spark(session)
    session.catalog.clearCache()
