"""Take in what is new, clean the site's data, cut time into folds, and report on the data."""

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
) -> str:
    """Import a data set, take in the log, and write the three contract tables and one split.

    Returns `new`, or `nothing new` when the site has had a model of the same data and settings.
    """
    import json
    from datetime import UTC, datetime, timedelta
    from functools import partial
    from pathlib import Path

    import pyarrow.parquet as pq

    from components.support.champion import champion_of_refresh, sound_champion
    from components.support.data_state import DataState
    from components.support.metadata import storable
    from components.support.settings import RunConfig
    from components.support.stage import stage
    from feature_repo.lake.clean import Window
    from feature_repo.lake.lake import only_writer, open_lake
    from feature_repo.lake.site_data import take_all_in, write_site_data
    from feature_repo.locks import PATIENCE_SECONDS
    from feature_repo.profiles import choose_profile
    from sasrec.data.roles import Roles
    from sasrec.data.splits import NothingNewer
    from sasrec.model.item_features import feature_columns
    from serving.settings import load_settings

    with stage("ingest", run_dir) as current:
        run = RunConfig.parse(config)
        sound_champion(Path(home))
        now = datetime.now(UTC)
        retention = timedelta(days=run.events.retention_days)
        settings = load_settings().model_copy(update={"home": Path(home)})
        lake = open_lake(Path(home))
        with only_writer(Path(home), patience=PATIENCE_SECONDS):
            taken = take_all_in(
                lake,
                settings.event_log_location,
                dataset=run.data.dataset,
                data_dir=run.data.data_dir,
                columns=run.data.columns,
                seed=run.data.seed,
                now=now,
                retention=retention,
            )
            # An order without time cannot be cut; only who asks for it gets to hear that.
            ordered_only = lake.state.clock == "row-order" and not run.names_as_of
            until = None if ordered_only else run.data.as_of
            since = champion_of_refresh(Path(home)).seen_until if run.refresh.enabled else None
            write = partial(
                write_site_data,
                lake,
                interactions=Path(interactions.path),
                items=Path(items.path),
                impressions=Path(impressions.path),
                split=Path(split.path),
                name=run.data.dataset or Path(home).name,
                roles=Roles.parse(run.events.roles),
                window=Window(until, retention),
                now=run.data.as_of or now,
                attribution=timedelta(hours=run.events.attribution_hours),
                taken=taken,
                profile=choose_profile(None),
                repeats=run.evaluation.repeats,
            )
            nothing_newer = False
            try:
                report, cut = write(cut=run.split.model_dump() | {"since": since})
            # A refresh with too little to learn from; its artifacts are written all the same.
            except NothingNewer:
                nothing_newer = True
                report, cut = write(cut=run.split.model_dump())
            batch = lake.state.grown
        if run.model.feature_buckets:  # a column that is missing ends the run here
            feature_columns(pq.read_table(items.path), run.data.feature_columns)
        Path(data_report.path).write_text(report.to_markdown())
        (current.run_dir / "data.json").write_text(json.dumps(report.to_dict(), indent=2))
        interactions.metadata.update(storable(report.to_dict()))
        split.metadata.update(storable(cut))
        state = DataState.of(run, batch=batch, rows=report.rows_read, as_of=run.data.as_of or now)
        known = state.known_by(Path(home))
        if nothing_newer:
            known = "too little came since the champion for a refresh"
        verdict = "nothing new" if known else "new"
        state.save(current.run_dir, nothing_new=known)
        current.detail = (
            f"{report.events:,} interactions, split {cut['sha256'][:12]}, "
            f"repeats {'allowed' if cut['repeats']['allowed'] else 'excluded'}"
            if verdict == "new"
            else verdict
        )
    return verdict
