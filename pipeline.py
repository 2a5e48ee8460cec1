"""The recommender's pipeline, and the command line that runs it here or on a cluster.

interactions ─ ingest ─ publish_features ─ extract_sequences ─ train ─ evaluate ─ gate
                                                                                   │ promote
                                                                deploy ─ register ─ refit
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from kfp import compiler, dsl
from kfp.dsl.graph_component import GraphComponent
from rich.console import Console

from components.deploy import deploy
from components.evaluate import evaluate
from components.extract_sequences import extract_sequences
from components.gate import gate
from components.ingest import ingest
from components.publish_features import publish_features
from components.refit import refit
from components.register import register
from components.runners.cluster import EXPERIMENT, Cluster
from components.runners.cluster_run import Outcome, watch_run
from components.runners.doctor import check_all, checked_target, run_probe, table, would_start
from components.runners.endpoint import ClusterError, Endpoint
from components.runners.local import Interrupted, StageFailed, new_run_id, run_local
from components.runners.platform import PlatformSettings, on_platform
from components.runners.pod_reasons import why_failed
from components.start_run import start_run
from components.support.run_identity import MOMENT, RUN_ID
from components.support.settings import RunConfig, build_config, describe_settings
from components.train import train
from sasrec.data import sources
from sasrec.errors import DataError
from sasrec.gates import DEFAULT_GATES

CLUSTER_HOME = "/mnt/sasrec"
EXIT_BAD_INPUT, EXIT_HELD, EXIT_INTERRUPTED = 2, 3, 130


@dsl.pipeline(
    name="sasrec",
    description="From interactions to a served SASRec recommender, through an offline gate.",
)
def sasrec_pipeline(
    config: str = build_config().model_dump_json(),
    home: str = CLUSTER_HOME,
    run_dir: str = f"{CLUSTER_HOME}/runs/{MOMENT}-{RUN_ID}",
):
    """`config` is a RunConfig as JSON; `home` holds feature store, models and event log."""
    run = start_run(
        config=config,
        run_dir=run_dir,
        scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    ).outputs
    config, run_dir = run["config"], run["run_dir"]
    data = ingest(config=config, home=home, run_dir=run_dir).outputs
    with dsl.If(data["Output"] == "new", name="something-new"):
        features = publish_features(
            home=home,
            run_dir=run_dir,
            interactions=data["interactions"],
            items=data["items"],
            impressions=data["impressions"],
            split=data["split"],
        )
        extracted = extract_sequences(
            config=config,
            home=home,
            run_dir=run_dir,
            features=features.output,
            interactions=data["interactions"],
            items=data["items"],
            impressions=data["impressions"],
            split=data["split"],
        ).outputs
        sequences, current = extracted["sequences"], extracted["current"]
        model = train(config=config, home=home, run_dir=run_dir, sequences=sequences).output
        evaluation = evaluate(
            config=config,
            home=home,
            run_dir=run_dir,
            sequences=sequences,
            interactions=data["interactions"],
            items=data["items"],
            impressions=data["impressions"],
            model=model,
        ).outputs["evaluation"]
        verdict = gate(config=config, run_dir=run_dir, evaluation=evaluation)
        with dsl.If(verdict.outputs["Output"] == "promote", name="promoted"):
            refitted = refit(
                config=config,
                home=home,
                run_dir=run_dir,
                sequences=sequences,
                current=current,
                model=model,
                evaluation=evaluation,
            )
            with dsl.If(refitted.outputs["Output"] == "promote", name="fit-to-serve"):
                version = register(
                    home=home,
                    run_dir=run_dir,
                    interactions=data["interactions"],
                    items=data["items"],
                    sequences=sequences,
                    current=current,
                    shipped=refitted.outputs["shipped"],
                    shipment=refitted.outputs["shipment"],
                    evaluation=evaluation,
                ).outputs["Output"]
                deploy(home=home, run_dir=run_dir, version=version, sequences=sequences)


class SplitKind(StrEnum):
    """How time is cut."""

    GLOBAL_TIME = "global-time"
    LEAVE_ONE_OUT = "leave-one-out"


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Train, judge and deploy a self-attentive sequential recommender (SASRec).",
)

Dataset = Annotated[
    str | None,
    typer.Option(
        help="Imported into the site: simulated, ml-100k, ml-1m, amazon-beauty-5core, or a file or "
        "folder. Without it, the site's own data and what its service logged.",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder that already holds a named data set's raw files.")
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="Map a column: user_id=customer (repeatable).")
]
Split = Annotated[SplitKind, typer.Option(help="How time is cut into train, validation and test.")]
Preset = Annotated[
    str,
    typer.Option(
        help="Named model and training settings: default; sparse for a handful of events a user "
        "over many items; large for a GPU; paper, bpr as published."
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="One setting: train.epochs=3 (repeatable).")
]

Refresh = Annotated[
    bool,
    typer.Option(
        help="A quick run between nights: continue from the champion, learn from what is new.",
    ),
]
Gates = Annotated[
    Path, typer.Option(help="What a model must show before it serves.", show_default="built in")
]

Platform = Annotated[
    Path | None,
    typer.Option(help="What the cluster gives each component, as in deploy/platform.yaml."),
]
Experiment = Annotated[str, typer.Option(help="KFP experiment that holds the runs.")]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="Of the version: commit=abc (repeatable)."),
]
Wait = Annotated[bool, typer.Option(help="Watch the run to its end.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds to watch before giving up.")]

CLUSTER_HELP = """
The endpoint and who we are: `KF_PIPELINES_ENDPOINT`, `KF_PIPELINES_NAMESPACE`, and
`KF_PIPELINES_TOKEN` or `KF_PIPELINES_SA_TOKEN_PATH`. Data paths are paths on the site's volume.

**Exit status**: as `run` when it watches: 0 promoted and deployed, 3 held, 1 failed.
"""

DOCTOR_HELP = """
A line each: ✓ is there, ✗ a run would not start or not end well, – not needed or not to be seen
from here. It asks as `submit` does (`KF_PIPELINES_*`) and as the current kubeconfig.

**Exit status**: 0 only if a run would start, else 1.
"""

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


@app.command(epilog=RUN_EXAMPLES)
def run(
    dataset: Dataset = None,
    data_dir: DataDir = None,
    column: Columns = None,
    split: Split = SplitKind.GLOBAL_TIME,
    preset: Preset = "default",
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
    config = _config(dataset, data_dir, column, split, preset, set_, gates, refresh)
    home = home or Path("var") / config.site
    run_dir = run_dir or Path("runs") / new_run_id(config.site if dataset else home.name)
    summary = run_local(sasrec_pipeline, config, home, run_dir, Console(file=sys.stdout))
    if json_:
        json_.write_text(json.dumps(summary, indent=2))
    if summary.get("nothing_new"):
        typer.echo(
            f"nothing new: the champion of {home} was trained on the same data with the same "
            "settings; nothing was deployed"
        )
        return
    _say_outcome(summary, home, run_dir)
    if not summary["deployed"]:
        raise typer.Exit(EXIT_HELD)


@app.command("compile")
def compile_(
    output: Annotated[
        Path, typer.Option(help="Where the specification and platform documents go.")
    ] = Path("pipeline.yaml"),
    dataset: Dataset = None,
    data_dir: DataDir = None,
    column: Columns = None,
    split: Split = SplitKind.GLOBAL_TIME,
    preset: Preset = "default",
    set_: Overrides = None,
    gates: Gates = DEFAULT_GATES,
    platform: Platform = None,
) -> None:
    """Compile for Kubeflow Pipelines; the given settings become the run's default `config`.

    Upload the file in the Kubeflow UI. The components' image is `$SASREC_IMAGE`.
    """
    config = _config(dataset, data_dir, column, split, preset, set_, gates)
    compiler.Compiler().compile(
        _on_platform(platform),
        str(output),
        pipeline_parameters={"config": config.model_dump_json()},
    )
    typer.echo(f"wrote {output}")


@app.command(epilog=CLUSTER_HELP)
def submit(
    dataset: Dataset = None,
    data_dir: DataDir = None,
    column: Columns = None,
    split: Split = SplitKind.GLOBAL_TIME,
    preset: Preset = "default",
    set_: Overrides = None,
    refresh: Refresh = False,
    gates: Gates = DEFAULT_GATES,
    platform: Platform = None,
    name: Annotated[
        str | None, typer.Option(help="The run's name; an existing one is not started again.")
    ] = None,
    experiment: Experiment = EXPERIMENT,
    tag: Tags = None,
    wait: Wait = False,
    timeout: Timeout = None,
) -> None:
    """Start one run on Kubeflow Pipelines."""
    config = _config(dataset, data_dir, column, split, preset, set_, gates, refresh)
    cluster = Cluster(Endpoint.from_environment())
    with _package(platform) as package:
        run_id = cluster.submit(
            package,
            config,
            home=_platform(platform).mount_path,
            run_name=name or new_run_id(config.site),
            experiment=experiment,
            tags=_pairs(tag),
        )
    typer.echo(f"submitted {run_id}: {cluster.endpoint.run_url(run_id)}")
    if wait:
        _watch(cluster, run_id, timeout)


@app.command(epilog=CLUSTER_HELP)
def schedule(
    cron: Annotated[str, typer.Option(help="Five fields, UTC: '30 3 * * *' is 03:30 each day.")],
    dataset: Dataset = None,
    data_dir: DataDir = None,
    column: Columns = None,
    split: Split = SplitKind.GLOBAL_TIME,
    preset: Preset = "default",
    set_: Overrides = None,
    refresh: Refresh = False,
    gates: Gates = DEFAULT_GATES,
    platform: Platform = None,
    name: Annotated[str | None, typer.Option(help="[default: the data set's name]")] = None,
    experiment: Experiment = EXPERIMENT,
    tag: Tags = None,
) -> None:
    """Run on a schedule: create the recurring run, or change the one of that name."""
    config = _config(dataset, data_dir, column, split, preset, set_, gates, refresh)
    cluster = Cluster(Endpoint.from_environment())
    with _package(platform) as package:
        scheduled = cluster.schedule(
            package,
            config,
            home=_platform(platform).mount_path,
            name=name or config.site,
            cron=cron,
            experiment=experiment,
            tags=_pairs(tag),
        )
    change = "scheduled" if scheduled.changed else "unchanged"
    typer.echo(f"{change}: {scheduled.recurring_run_id}")


@app.command(epilog=CLUSTER_HELP)
def status(
    run_id: Annotated[str | None, typer.Argument(help="[default: recent runs]")] = None,
) -> None:
    """Say what a run, or each recent run, is doing on the cluster."""
    cluster = Cluster(Endpoint.from_environment())
    for run in [cluster.status(run_id)] if run_id else cluster.recent():
        typer.echo(run.line())


@app.command(epilog=CLUSTER_HELP)
def watch(run_id: str, timeout: Timeout = None) -> None:
    """Follow a run on the cluster to its end, and end by its verdict."""
    _watch(Cluster(Endpoint.from_environment()), run_id, timeout)


@app.command(epilog=DOCTOR_HELP)
def doctor(
    platform: Platform = None,
    offline: Annotated[
        bool, typer.Option(help="Look at the compiled files alone; ask no cluster.")
    ] = False,
    probe: Annotated[
        bool, typer.Option(help="Also run a small pipeline that tries the volume and the network.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    timeout: Timeout = 1800,
) -> None:
    """Say whether a run would start on the cluster at hand, and what to do where it would not."""
    with checked_target(sasrec_pipeline, _platform(platform), offline=offline) as target:
        findings = list(check_all(target, offline=offline))
        if probe and would_start(findings):
            findings += run_probe(target, timeout_seconds=timeout or 1800)
    if json_:
        typer.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        Console(file=sys.stdout, soft_wrap=True).print(table(findings))
    if not would_start(findings):
        raise typer.Exit(1)


@app.command()
def settings() -> None:
    """List every setting that `--set` knows, with its default and meaning."""
    typer.echo(describe_settings())


def _config(
    dataset: str | None,
    data_dir: Path | None,
    columns: list[str] | None,
    split: SplitKind,
    preset: str,
    overrides: list[str] | None,
    gates: Path,
    refresh: bool = False,
) -> RunConfig:
    data: dict[str, Any] = {
        "dataset": dataset,
        "data_dir": data_dir and data_dir.resolve(),
        "columns": _pairs(columns),
    }
    if dataset is not None and dataset not in sources.NAMED:
        data["dataset"] = str(Path(dataset).resolve())
    sections: dict[str, dict[str, Any]] = {"data": data, "split": {"kind": split.value}}
    if refresh:  # of what is new; the refit then learns from all of it
        sections["refresh"] = {"enabled": True}
        sections["split"] |= {"validation_fraction": 0.1, "test_fraction": 0.4}
    return build_config(preset, overrides or [], sections, gates)


def _pairs(texts: list[str] | None) -> dict[str, str]:
    return dict(text.partition("=")[::2] for text in texts or [])


def _platform(path: Path | None) -> PlatformSettings:
    return PlatformSettings.load(path) if path else PlatformSettings()


def _on_platform(path: Path | None) -> GraphComponent:
    return on_platform(sasrec_pipeline, _platform(path))


@contextmanager
def _package(platform: Path | None) -> Iterator[Path]:
    _platform(platform).refuse_stores_of_one_host()
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(_on_platform(platform), str(package))
        yield package


def _watch(cluster: Cluster, run_id: str, timeout: float | None) -> None:
    try:
        outcome = watch_run(
            lambda: cluster.status(run_id),
            Console(file=sys.stdout),
            explain=lambda status: why_failed(status, cluster.endpoint.namespace),
            timeout_seconds=timeout,
        )
    except KeyboardInterrupt:
        raise ClusterError(f"run {run_id} goes on; watch it again with its id") from None
    typer.echo(f"{outcome}: {cluster.endpoint.run_url(run_id)}")
    if outcome not in (Outcome.DEPLOYED, Outcome.UNCHANGED):
        raise typer.Exit(EXIT_HELD if outcome is Outcome.HELD else 1)


def _say_outcome(summary: dict[str, Any], home: Path, run_dir: Path) -> None:
    metrics, verdict = summary["metrics"], summary["gate"]["verdict"]
    ndcg = f"test NDCG@10 {metrics['ndcg@10']:.4f}"
    report = run_dir / "report.html"
    if summary["deployed"]:
        typer.echo(
            f"{verdict}: {ndcg}, version {summary['model_version']} is champion of {home}; "
            f"read {report}, then: make serve ARGS='--home {home}'"
        )
    else:
        typer.echo(
            f"{verdict}: {ndcg}, {summary['gate']['reason']}; nothing was deployed; read {report}"
        )


def main() -> None:
    """Run the command line; bad input ends in one line and status 2."""
    try:
        app()
    except DataError as error:
        sys.exit(_fail(str(error), EXIT_BAD_INPUT))
    except (StageFailed, ClusterError) as error:
        sys.exit(_fail(str(error), 1))
    except Interrupted:
        sys.exit(
            _fail(
                "interrupted; the previous champion still serves, type the same command to go on",
                EXIT_INTERRUPTED,
            )
        )


def _fail(message: str, status: int) -> int:
    typer.echo(f"error: {message}", err=True)
    return status


if __name__ == "__main__":
    main()
