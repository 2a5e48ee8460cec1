"""`--preset auto` in a run: chosen once its sequences are there, and kept in its records."""

import json
from pathlib import Path

from components.support.settings import AutoConfig, RunConfig
from sasrec.data.dataset import SequenceDataset
from sasrec.presets.auto import Choice, DataFacts, choose

FILE = "preset.json"


def settle(run: RunConfig, dataset: SequenceDataset, run_dir: Path) -> tuple[RunConfig, str]:
    """The settings that the rest of the run obeys, and a few words on what was chosen.

    Where the data choose, the choice is written to `preset.json` and `config.json` of the run. A
    refresh keeps its champion's recipe.

    Raises:
        SettingsError: a setting given by hand does not fit what was chosen.
    """
    (run_dir / FILE).unlink(missing_ok=True)  # of the run before, which this one repeats
    if not run.auto.enabled or run.refresh.enabled:
        return run, ""
    clock = json.loads((run_dir / "data.json").read_text())["clock"]
    facts = DataFacts.of(
        dataset.train.lengths,
        len(dataset.vocabulary),
        timed=clock == "real",
        repeats=(dataset.description.get("repeats") or {}).get("targets"),
    )
    choice = choose(facts, kept=run.auto.kept)
    given = {key: getattr(getattr(run, section), field) for key in run.auto.kept
             for section, field in [key.split(".")]}  # fmt: skip
    chosen = choice.preset.with_settings(given)
    settled = run.model_copy(
        update={"model": chosen.model, "train": chosen.train, "auto": AutoConfig()}
    )
    (run_dir / FILE).write_text(json.dumps(choice.to_dict(), indent=1))
    (run_dir / "config.json").write_text(settled.model_dump_json())
    return settled, choice.lines()[0]


def chosen_for(run_dir: Path) -> Choice | None:
    """What was chosen in this run; None where a person chose."""
    path = run_dir / FILE
    return Choice.of(json.loads(path.read_text())) if path.exists() else None
