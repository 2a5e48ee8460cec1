"""What every stage of a run shares: its settings with the run's moment, and its folder."""

from typing import NamedTuple

from kfp.dsl import component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def start_run(config: str, home: str, run_dir: str, scheduled_at: str, run_id: str) -> NamedTuple(  # type: ignore[valid-type]
    "Run", [("config", str), ("run_dir", str)]
):
    """Take the site, fill in what differs from run to run, and keep it in `<run_dir>/config.json`.

    A run that finds another one at work ends here, in its one line. What the site keeps no longer
    of earlier runs goes here, before this one needs the room.
    """
    from pathlib import Path

    from components.support.refresh import as_the_champion
    from components.support.run_identity import config_as_of, run_folder, run_moment
    from components.support.settings import RunConfig
    from components.support.site_lease import begin
    from feature_repo.run_copies import note_run

    moment = run_moment(scheduled_at)
    folder = run_folder(run_dir, moment, run_id)
    begin(Path(home), Path(folder))
    Path(folder).mkdir(parents=True, exist_ok=True)
    settings = as_the_champion(config_as_of(config, moment), Path(home))
    note_run(Path(home), Path(folder), keep=RunConfig.parse(settings).keep.runs)
    (Path(folder) / "config.json").write_text(settings)
    return settings, folder
