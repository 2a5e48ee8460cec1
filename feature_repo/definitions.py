"""What Feast knows: entities, sources, feature views, and the one service read by all."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.types import Array, Float32, Float64, Int32, Int64, String
from feast.value_type import ValueType

OWNER = "recommender-team"
SERVICE = "next_item"

# Feast drops rows older than a view's ttl from training sets; a history never expires.
FOREVER = timedelta(0)


def definitions(generation: Path, on_spark: bool) -> list[Any]:
    """Everything to apply for the tables in the folder `generation`, an absolute path.

    Args:
        on_spark: Feast's Spark offline store reads them, which has a source type of its own.
    """
    user = Entity(
        name="user",
        join_keys=["user_id"],
        value_type=ValueType.STRING,
        description="Somebody who is recommended to",
        owner=OWNER,
    )
    item = Entity(
        name="item",
        join_keys=["item_id"],
        value_type=ValueType.STRING,
        description="Something that can be recommended",
        owner=OWNER,
    )

    def view(
        name: str,
        entities: list[Entity],
        schema: list[Field],
        description: str,
        tags: dict[str, str],
        online: bool = True,
    ) -> FeatureView:
        keys = [Field(name=entity.join_key, dtype=String) for entity in entities]
        return FeatureView(
            name=name,
            entities=entities,
            schema=keys + schema,
            ttl=FOREVER,
            online=online,
            source=_source(generation / name, description, on_spark),
            description=description,
            owner=OWNER,
            tags=tags,
        )

    user_sequence = view(
        "user_sequence",
        [user],
        [
            Field(name="item_ids", dtype=Array(String), description="Items, oldest event first"),
            Field(name="event_types", dtype=Array(String), description="What was done with each"),
            # Feast's own timestamp type keeps whole seconds.
            Field(
                name="timestamps",
                dtype=Array(Int64),
                description="When, microseconds since the epoch; strictly increasing",
            ),
        ],
        "The user's history up to and including the event at the row's timestamp",
        {"model": "sasrec", "grain": "user", "point_in_time": "strict"},
    )
    user_stats = view(
        "user_stats",
        [user],
        [
            Field(name="events", dtype=Int64, description="Events so far"),
            Field(name="distinct_items", dtype=Int64, description="Different items so far"),
            Field(name="tenure_days", dtype=Float64, description="Days since the first event"),
        ],
        "How much is known about a user, at the same moments as user_sequence",
        {"model": "analysis", "grain": "user"},
    )
    item_stats = view(
        "item_stats",
        [item],
        [
            Field(name="category", dtype=String, description="Empty when unknown"),
            Field(name="age_days", dtype=Float64, description="Days since launch or first event"),
            Field(name="popularity_1d", dtype=Int64, description="Events in the last day"),
            Field(name="popularity_7d", dtype=Int64, description="Events in the last 7 days"),
            Field(name="popularity_30d", dtype=Int64, description="Events in the last 30 days"),
            Field(name="popularity_total", dtype=Int64, description="Events ever"),
        ],
        "Popularity over several windows, age and category, at each global cutoff and at as_of",
        {"model": "fallback", "grain": "item"},
    )
    served_impressions = view(
        "served_impressions",
        [user, item],
        [
            Field(name="request_id", dtype=String, description="The request that was answered"),
            Field(name="position", dtype=Int32, description="Slot, 0 is the top"),
            Field(name="policy", dtype=String, description="Policy that chose the item"),
            Field(name="model_version", dtype=String, description="Model that scored it"),
            Field(name="score", dtype=Float32, description="Model score"),
            Field(
                name="propensity", dtype=Float64, description="Probability of this slot's choice"
            ),
            Field(name="candidates", dtype=Int32, description="Items it was chosen from"),
            Field(name="reward", dtype=Float32, description="1 if acted on in the window"),
        ],
        "Every served slot, clicked or not, with the probability with which it was chosen",
        {"model": "off-policy", "grain": "slot"},
        online=False,
    )
    service = FeatureService(
        name=SERVICE,
        features=[user_sequence],
        description="What the next-item model reads, in training and in serving alike",
        owner=OWNER,
        tags={"model": "sasrec"},
    )
    return [user, item, user_sequence, user_stats, item_stats, served_impressions, service]


def _source(folder: Path, description: str, on_spark: bool) -> DataSource:
    about: dict[str, Any] = {
        "name": folder.name,
        "timestamp_field": "event_timestamp",
        "description": f"Built by feature_repo.publish: {description}",
        "owner": OWNER,
    }
    if on_spark:
        from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

        return SparkSource(path=str(folder), file_format="parquet", **about)
    return FileSource(path=str(folder / "*.parquet"), file_format=ParquetFormat(), **about)
