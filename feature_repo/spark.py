"""The offline tables built by Spark: the statements of `feature_repo.tables` in its dialect.

Needs the extra `spark` and a Java runtime. Where Spark runs is Spark's own setting
(`spark.master` in `spark-defaults.conf`, or `spark-submit`); without one it is this machine.
"""

import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import yaml

from feature_repo.inputs import COLUMNS
from feature_repo.tables import HISTORY_LIMIT, MAX_GLOBAL_CUTS, SPILL
from sasrec.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

USER_SEQUENCE = f"""
WITH whole AS (
    SELECT user_id,
           sort_array(collect_list(struct(unix_micros(timestamp) AS t, item_id, event_type)))
               AS history
    FROM events GROUP BY user_id
), points AS (
    SELECT DISTINCT user_id, size(filter(history, e -> e.t < unix_micros(cutoff))) AS n
    FROM cutoffs JOIN whole USING (user_id)
), cut AS (
    SELECT user_id, n,
           slice(history, greatest(1, n - {HISTORY_LIMIT} + 1), least(n, {HISTORY_LIMIT}))
               AS history
    FROM points JOIN whole USING (user_id)
    WHERE n > 0
)
SELECT user_id,
       timestamp_micros(element_at(history, -1).t) AS event_timestamp,
       history.item_id AS item_ids,
       history.event_type AS event_types,
       history.t AS timestamps
FROM cut
ORDER BY user_id, n
"""

USER_STATS = """
SELECT user_id,
       event_timestamp,
       bigint(size(item_ids)) AS events,
       bigint(size(array_distinct(item_ids))) AS distinct_items,
       (element_at(timestamps, -1) - element_at(timestamps, 1)) / 86400e6 AS tenure_days
FROM user_sequence
"""

ITEM_STATS = f"""
WITH distinct_cuts AS (
    SELECT DISTINCT cutoff FROM cutoffs
), cuts AS (
    SELECT cutoff FROM distinct_cuts
    WHERE (SELECT count(*) FROM distinct_cuts) <= {MAX_GLOBAL_CUTS}
       OR cutoff = (SELECT max(cutoff) FROM distinct_cuts)
), counted AS (
    SELECT item_id, cutoff,
           min(timestamp) AS first_event,
           count_if(timestamp >= cutoff - INTERVAL 1 DAY) AS popularity_1d,
           count_if(timestamp >= cutoff - INTERVAL 7 DAY) AS popularity_7d,
           count_if(timestamp >= cutoff - INTERVAL 30 DAY) AS popularity_30d,
           count(*) AS popularity_total
    FROM events JOIN cuts ON timestamp < cutoff
    GROUP BY item_id, cutoff
), catalogue AS (
    SELECT item_id, cutoff, category, created_at
    FROM items CROSS JOIN cuts
    WHERE created_at IS NULL OR created_at < cutoff
)
SELECT item_id,
       cutoff - INTERVAL 1 MICROSECOND AS event_timestamp,
       coalesce(category, '') AS category,
       greatest(0, unix_micros(cutoff) - unix_micros(coalesce(created_at, first_event))) / 86400e6
           AS age_days,
       coalesce(popularity_1d, 0) AS popularity_1d,
       coalesce(popularity_7d, 0) AS popularity_7d,
       coalesce(popularity_30d, 0) AS popularity_30d,
       coalesce(popularity_total, 0) AS popularity_total
FROM counted FULL JOIN catalogue USING (item_id, cutoff)
ORDER BY item_id, event_timestamp
"""

SERVED_IMPRESSIONS = """
SELECT user_id, item_id, timestamp AS event_timestamp, request_id,
       int(position) AS position, policy, model_version, score, propensity, candidates, reward
FROM impressions
"""


def build(
    connection: duckdb.DuckDBPyConnection,
    generation: Path,
    events: list[Path] | None,
    as_of: datetime,
) -> dict[str, int]:
    """As `tables.build`, on Spark.

    Args:
        connection: with the relations of `tables`. The small ones are handed to Spark as files.
        generation: where to write; on a cluster, storage that all of it reaches.
        events: the Parquet files of the interactions, which Spark reads itself; None for a table
            that is small enough to be handed over like the others.
        as_of: no event after it is used.
    """
    spark = _session(generation)
    spill = generation / SPILL
    if events is None:
        events = [spill / "interactions.parquet"]
        connection.table("interactions").write_parquet(str(events[0]))
    for name in ("cutoffs", "items", "impressions"):
        connection.table(name).write_parquet(f"{spill}/{name}.parquet")
        spark.read.parquet(f"{spill}/{name}.parquet").createOrReplaceTempView(name)
    interactions = spark.read.parquet(*map(str, events)).dropna(subset=COLUMNS)
    interactions.where(interactions.timestamp <= as_of).createOrReplaceTempView("events")
    rows = {}
    for name, query in (
        ("user_sequence", USER_SEQUENCE),
        ("user_stats", USER_STATS),
        ("item_stats", ITEM_STATS),
        ("served_impressions", SERVED_IMPRESSIONS),
    ):
        folder = str(generation / name)
        spark.sql(query).write.parquet(folder, compression="zstd")
        written = spark.read.parquet(folder)
        written.createOrReplaceTempView(name)
        rows[name] = written.count()
    return rows


def _session(generation: Path) -> "SparkSession":
    """With the settings that Feast will read the tables with.

    Raises:
        DataError: Spark or Java is missing.
    """
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise DataError(
            "profile 'cluster': no Java runtime (17 or later) on PATH or in JAVA_HOME; install "
            "one, or use the profile 'production'"
        )
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise DataError(
            "profile 'cluster': pyspark is not installed; pip install 'sasrec-pipeline[spark]', "
            "or use the profile 'production'"
        ) from None
    settings = yaml.safe_load((generation / "feature_store.yaml").read_text())
    builder = SparkSession.builder.appName("sasrec-features")
    return builder.config(map=settings["offline_store"]["spark_conf"]).getOrCreate()
