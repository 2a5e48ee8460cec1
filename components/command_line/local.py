"""The commands that work on this machine: run the pipeline, list its settings."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from components.command_line.exits import EXIT_HELD
from components.command_line.options import (
    Columns,
    DataDir,
    Dataset,
    Gates,
    Overrides,
    Preset,
    Refresh,
    Split,
    SplitKind,
    configuration,
    home_folder,
)
from components.command_line.outputs import require_writable
from components.runners.local import new_run_id, run_local
from components.support.settings import describe_settings
from sasrec.errors import DataError
from sasrec.gates import DEFAULT_GATES
from sasrec.presets.auto import AUTO, Choice
from serving.schemas import MAX_K
from serving.settings import load_settings

RUN_EXAMPLES = """
**Examples**

- `python pipeline.py run` — the simulated storefront, in a few minutes
- `python pipeline.py run --home var/shop` — the site's own data, and what its service logged
- `python pipeline.py run --dataset ml-1m --data-dir ~/ml-1m --split leave-one-out`
- `python pipeline.py run --dataset events.csv --column user_id=customer --set model.dim=128`
- `python pipeline.py run --set train.epochs=0` — an untrained model: the gate holds it

**Exit status**: 0 promoted and deployed, or nothing new; 2 bad input; 3 held by the gate;
1 a crash.
"""


def run(
    context: typer.Context,
    dataset: Dataset = None,
    data_dir: DataDir = None,
    column: Columns = None,
    split: Split = SplitKind.GLOBAL_TIME,
    preset: Preset = AUTO,
    set_: Overrides = None,
    refresh: Refresh = False,
    gates: Gates = DEFAULT_GATES,
    home: Annotated[
        Path | None, typer.Option(help="Features, models and logs [default: var/<data set>].")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="This run's files [default: runs/<time>-<data set>].")
    ] = None,
    json_: Annotated[
        Path | None, typer.Option("--json", help="Also write the summary to this file.")
    ] = None,
) -> None:
    """Run the whole pipeline on this machine: from interactions to a recommender that answered."""
    if dataset is None and home is None:
        dataset = "simulated"
    config = configuration(dataset, data_dir, column, split, preset, set_, gates, refresh)
    home = home_folder(home) if home else Path("var") / config.site
    if json_:
        require_writable("--json", json_)
    run_dir = run_dir or Path("runs") / new_run_id(config.site if dataset else home.name)
    summary = run_local(context.obj, config, home, run_dir, Console(file=sys.stdout))
    if json_:
        json_.write_text(json.dumps(summary, indent=2))
    if reason := summary.get("nothing_new"):
        typer.echo(f"nothing new in {home}: {reason}; nothing was deployed")
        return
    if summary["preset"]:
        typer.echo("\n".join(Choice.of(summary["preset"]).lines()))
    _say_outcome(summary, home, run_dir)
    if not summary["deployed"]:
        raise typer.Exit(EXIT_HELD)


def recommend(
    output: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    home: Annotated[Path, typer.Option(help="The site.")] = Path("var/simulated"),
    k: Annotated[int, typer.Option(min=1, max=MAX_K, help="Items of a list.")] = 20,
    users: Annotated[
        Path | None, typer.Option(help="Only these users: a text file, one id a line.")
    ] = None,
) -> None:
    """Write a list for every user of a site to a file, as the service would draw it."""
    from serving.offline import write_lists  # PyTorch, which the other commands do not wait for

    require_writable("--output", output)
    serving = load_settings().model_copy(update={"home": home_folder(home)})
    plan = write_lists(serving, output, k=k, users=None if users is None else _lines(users))
    version = f"version {plan.model_version}, histories until {plan.as_of}"
    typer.echo(f"{plan.users:,} lists of {version}: {output}")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); name a file of ids") from None


def settings() -> None:
    """List every setting that `--set` knows, with its default and meaning."""
    typer.echo(describe_settings())


def _say_outcome(summary: dict[str, Any], home: Path, run_dir: Path) -> None:
    metrics, verdict = summary["metrics"], summary["gate"]["verdict"]
    ndcg = f"test NDCG@10 {metrics['ndcg@10']:.4f}"
    report = run_dir / "report.html"
    if summary["deployed"]:
        typer.echo(
            f"{verdict}: {ndcg}, version {summary['model_version']} is champion of {home}; "
            f"read {report}, then: {_serve(home)}"
        )
    else:
        typer.echo(
            f"{verdict}: {ndcg}, {summary['gate']['reason']}; nothing was deployed; read {report}"
        )


def _serve(home: Path) -> str:
    """The command as a shell takes it; make reads `$` before the shell does."""
    arguments = f"--home {shlex.quote(str(home))}".replace("$", "$$")
    return (
        f"make serve ARGS='{arguments}'"
        if "'" not in arguments
        else (f"make serve ARGS={shlex.quote(arguments)}")
    )
