"""Build the feature tables, apply the Feast repository, and materialise it online."""

from kfp.dsl import Dataset, Input, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def publish_features(
    home: str,
    run_dir: str,
    interactions: Input[Dataset],
    items: Input[Dataset],
    impressions: Input[Dataset],
    split: Input[Dataset],
    features: Output[Dataset],
):
    """Publish offline tables and online values under `<home>/feature_store`."""
    import json
    from dataclasses import asdict
    from datetime import UTC, datetime
    from pathlib import Path

    import pyarrow.parquet as pq

    from components.stage import stage
    from feature_repo.publish import publish
    from sasrec.data.splits import Split

    with stage("publish_features", run_dir) as current:
        report = publish(
            Path(home) / "feature_store",
            interactions=pq.read_table(interactions.path),
            items=pq.read_table(items.path),
            impressions=pq.read_table(impressions.path),
            cutoffs=Split.load(Path(split.path)).cutoffs,
            as_of=datetime.now(UTC),
        )
        Path(features.path).write_text(json.dumps(asdict(report), indent=2, default=str))
        features.metadata.update(generation=report.generation, rows=report.rows)
        current.detail = f"{sum(report.rows.values()):,} feature rows"
