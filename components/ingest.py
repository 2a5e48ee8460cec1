"""Read a source, map its columns, clean it, cut time into folds, and report on the data."""

from kfp.dsl import Dataset, Markdown, Output, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def ingest(
    config: str,
    home: str,
    run_dir: str,
    interactions: Output[Dataset],
    items: Output[Dataset],
    impressions: Output[Dataset],
    split: Output[Dataset],
    data_report: Output[Markdown],
):
    """Turn any source into the three contract tables and one split, as Parquet."""
    import json
    from pathlib import Path

    import pyarrow.parquet as pq

    from components.support.champion import champion_of_refresh
    from components.support.settings import RunConfig
    from components.support.stage import stage
    from sasrec.data import cleaning as quality
    from sasrec.data import sources, splits
    from sasrec.model.item_features import feature_columns

    with stage("ingest", run_dir) as current:
        run = RunConfig.parse(config)
        source = sources.load(
            run.data.dataset,
            data_dir=run.data.data_dir,
            columns=run.data.columns,
            seed=run.data.seed,
        )
        if run.data.as_of:
            source = source.before(run.data.as_of)
        source, report = quality.clean(source)
        if run.model.feature_buckets:
            feature_columns(source.items, run.data.feature_columns)  # a missing one ends the run
        since = champion_of_refresh(Path(home)).seen_until if run.refresh.enabled else None
        cut = splits.split_source(source, **run.split.model_dump(), since=since)
        pq.write_table(source.interactions, interactions.path)
        pq.write_table(source.items, items.path)
        pq.write_table(source.impressions, impressions.path)
        cut.save(Path(split.path))
        Path(data_report.path).write_text(report.to_markdown())
        (current.run_dir / "data.json").write_text(json.dumps(report.to_dict(), indent=2))
        interactions.metadata.update(report.to_dict())
        split.metadata.update(cut.describe())
        current.detail = f"{source.interactions.num_rows:,} interactions, split {cut.sha256[:12]}"
