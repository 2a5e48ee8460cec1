"""Build the feature tables, apply the Feast repository, and materialise it online."""

from kfp.dsl import Dataset, Input, Output, component

from components.support.image import IMAGE


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
    """Publish under `<home>/feature_store`, then compare what serving reads with the tables."""
    import json
    from dataclasses import asdict
    from datetime import UTC, datetime
    from pathlib import Path

    from components.support.metadata import storable
    from components.support.stage import stage
    from feature_repo.check_skew import check_skew
    from feature_repo.history import open_history
    from feature_repo.increments import add_new
    from feature_repo.locks import PATIENCE_SECONDS
    from feature_repo.publish import publish
    from sasrec.data.splits import Split
    from serving.settings import load_settings

    with stage("publish_features", run_dir) as current:
        store = Path(home) / "feature_store"
        new_events = add_new(Path(interactions.path), store / "interactions", store / "spill")
        report = publish(
            store,
            interactions=store / "interactions",
            items=Path(items.path),
            impressions=Path(impressions.path),
            cutoffs=Split.load(Path(split.path)).cutoffs,
            as_of=datetime.now(UTC),
            patience=PATIENCE_SECONDS,
        )
        Path(features.path).write_text(json.dumps(asdict(report), indent=2, default=str))
        history = open_history(load_settings().history or store / "history.db")
        skew = check_skew(store, history)
        (current.run_dir / "skew.json").write_text(json.dumps(skew.to_dict(), indent=2))
        compared = {"compared_users": skew.users, "skewed_users": skew.skewed_users}
        features.metadata.update(
            storable(
                {
                    "generation": report.generation,
                    "rows": report.rows,
                    "new_events": new_events,
                    "incremental": report.incremental,
                    **compared,
                }
            )
        )
        current.detail = (
            f"{sum(report.rows.values()):,} feature rows, {new_events:,} new events, "
            f"{skew.skewed_users} of {skew.users} users skewed"
        )
