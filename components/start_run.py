"""What every stage of a run shares: its settings with the run's moment, and its folder."""

from typing import NamedTuple

from kfp.dsl import component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def start_run(config: str, home: str, run_dir: str, scheduled_at: str, run_id: str) -> NamedTuple(  # type: ignore[valid-type]
    "Run", [("config", str), ("run_dir", str)]
):
    """Fill in what differs from run to run, and keep the settings in `<run_dir>/config.json`."""
    from pathlib import Path

    from components.support.refresh import as_the_champion
    from components.support.run_identity import config_as_of, run_folder, run_moment

    moment = run_moment(scheduled_at)
    settings = as_the_champion(config_as_of(config, moment), Path(home))
    folder = run_folder(run_dir, moment, run_id)
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "config.json").write_text(settings)
    return settings, folder
