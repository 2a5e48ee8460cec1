"""`python pipeline.py tune`: settings for this site's data, found within a budget of minutes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from components.command_line.options import (
    Columns,
    DataDir,
    Dataset,
    Overrides,
    Preset,
    Split,
    SplitKind,
    configuration,
    home_folder,
)
from components.command_line.outputs import require_writable
from components.runners.local import Interrupted, new_run_id, raise_failure, run_stages
from components.support.settings import RunConfig, of_preset, parsed_overrides
from sasrec.errors import SettingsError
from sasrec.gates import DEFAULT_GATES
from sasrec.presets.auto import AUTO
from sasrec.presets.file import is_file
from sasrec.presets.settings import Preset as PresetSettings

if TYPE_CHECKING:
    from sasrec.tuning.search import Tried

PREPARATION = "components.command_line.preparation"
"""In the context's `meta`: the pipeline up to the sequences."""

TUNE_HELP = """
It reads, cleans, splits and extracts as `run` does, then trains one trial after another: first the
preset itself, then what Optuna proposes. A trial that is worse than half of the others at the same
epoch is given up. Validation chooses; test is never looked at. Ctrl-C, a kill or a spent budget
lose nothing: the same command goes on, with more `--minutes` or `--trials` where these are spent.

**Examples**

- `python pipeline.py tune --dataset events.csv --minutes 30`
- `python pipeline.py run --dataset events.csv --preset var/events/tuned.yaml` — with what was found
- `python pipeline.py tune --home var/shop --search model.dropout=0.1..0.5 --search model.dim=64`
- `python pipeline.py tune --dataset events.csv --set model.dim=64` — this stays as it is

**Searched by default**: model.dim, blocks, max_length, dropout, cosine_temperature and time_bias;
train.learning_rate and weight_decay. `--search` changes what is tried of one of these, or adds
another setting. `tuned.yaml` is the preset; beside it `tuned.svg` shows what mattered and
`tuned.trials.jsonl` lists the trials.
"""


def tune(
    context: typer.Context,
    dataset: Dataset = None,
    data_dir: DataDir = None,
    column: Columns = None,
    split: Split = SplitKind.GLOBAL_TIME,
    preset: Preset = AUTO,
    set_: Overrides = None,
    minutes: Annotated[float, typer.Option(min=0, help="Of training, in all.")] = 60,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Also end after so many trials.", show_default=False)
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(help="What to try of a setting: KEY=low..high or KEY=a,b,c (repeatable)."),
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="Features, models and logs [default: var/<data set>].")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Prepared data [default: runs/<time>-<data set>-tune].")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The preset file to write [default: <home>/tuned.yaml].")
    ] = None,
) -> None:
    """Search for settings that suit the data, and write them as a preset for `run --preset`."""
    if dataset is None and home is None:
        dataset = "simulated"
    config = configuration(dataset, data_dir, column, split, preset, set_, DEFAULT_GATES)
    space = _space(search, config)
    home = (home_folder(home) if home else Path("var") / config.site).absolute()
    output = output or home / "tuned.yaml"
    _check_output(output, home)
    name = config.site if dataset else home.name
    run_dir = (run_dir or Path("runs") / f"{new_run_id(name)}-tune").absolute()
    if not run_stages(context.meta[PREPARATION], config, home, run_dir, Console(file=sys.stdout)):
        raise_failure(run_dir)
    # PyTorch and Optuna, which the other commands do not wait for.
    from components.support.tuning import SearchSettings, Tuning

    kept = tuple(key for key in parsed_overrides(set_ or []) if of_preset(key))
    asked = SearchSettings(minutes, trials, space, kept)
    settled = RunConfig.parse((run_dir / "config.json").read_text())
    found = Tuning(settled, asked, _sequences(run_dir), home, run_dir)
    searched = found.search

    def told(tried: "Tried") -> None:
        spent = sum(one.seconds for one in searched.tried) / 60
        typer.echo(f"{_line(tried)}; {spent:.1f} of {minutes:g} minutes")

    if before := searched.tried:
        typer.echo(f"goes on after {len(before)} trials in {searched.folder}")
    try:
        found.run(told)
    except KeyboardInterrupt:
        raise Interrupted from None
    best = found.write(output)
    start = next((one for one in searched.tried if searched.is_start(one)), None)
    gain = f", {start.ndcg:.4f} as it started" if start and start.ndcg is not None else ""
    typer.echo(f"best: trial {best.number}, validation NDCG@10 {best.ndcg:.4f}{gain}")
    for key, share in list(searched.importances().items())[:3]:
        typer.echo(f"  {share:4.0%} of the differences: {key}")
    typer.echo(f"wrote {output}, and beside it what mattered: {output.with_suffix('.svg').name}")
    typer.echo(f"To use it: --preset {output}")


def _space(search: list[str] | None, config: RunConfig) -> dict[str, str]:
    """What was asked for, refused before anything runs where it does not fit."""
    from sasrec.tuning.space import Space

    space = {}
    for text in search or []:
        key, separator, values = text.partition("=")
        if not separator:
            raise SettingsError(f"--search '{text}' is not of the form section.field=values")
        space[key.strip()] = values
    Space.parse(space, PresetSettings(model=config.model, train=config.train))
    return space


def _check_output(output: Path, home: Path) -> None:
    if not is_file(output.name):
        raise SettingsError(f"--output {output}: must end in .yaml, as presets in files do")
    if output.parent != home:
        require_writable("--output", output)


def _sequences(run_dir: Path) -> Path:
    """The newest, where a run folder was used again."""
    found = (run_dir / "artifacts").rglob("extract-sequences/sequences")
    return max(found, key=lambda path: path.stat().st_mtime)


def _line(tried: "Tried") -> str:
    settings = " ".join(f"{key.partition('.')[2]}={_shown(v)}" for key, v in tried.settings.items())
    score = "no score" if tried.ndcg is None else f"NDCG@10 {tried.ndcg:.4f}"
    how = {"complete": "", "pruned": ", given up"}.get(tried.state, f", refused: {tried.error}")
    return f"trial {tried.number:3}  {score} after {tried.epochs} epochs{how}  {settings}"


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
