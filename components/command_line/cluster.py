"""The commands that ask or change a Kubeflow cluster."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from kfp import compiler
from kfp.dsl.graph_component import GraphComponent
from rich.console import Console

from components.command_line.exits import EXIT_HELD, EXIT_UNSEEN
from components.command_line.options import (
    DEFAULT_PLATFORM,
    Columns,
    DataDir,
    Dataset,
    Experiment,
    Gates,
    Overrides,
    Platform,
    Preset,
    Refresh,
    Split,
    SplitKind,
    Tags,
    Timeout,
    Wait,
    configuration,
    pairs,
    platform_settings,
)
from components.command_line.outputs import require_writable
from components.runners.cluster import EXPERIMENT, Cluster
from components.runners.cluster_run import Outcome, watch_run
from components.runners.doctor import (
    check_all,
    checked_target,
    nothing_missing,
    run_probe,
    shown_by_probe,
    table,
    would_start,
)
from components.runners.endpoint import ClusterError, Endpoint
from components.runners.local import new_run_id
from components.runners.platform import on_platform
from components.runners.pod_reasons import why_failed
from components.support.run_identity import MOMENT, RUN_ID
from sasrec.errors import SettingsError
from sasrec.gates import DEFAULT_GATES
from sasrec.presets.auto import AUTO

CLUSTER_HELP = """
The endpoint and who we are: `KF_PIPELINES_ENDPOINT`, `KF_PIPELINES_NAMESPACE`, and
`KF_PIPELINES_TOKEN` or `KF_PIPELINES_SA_TOKEN_PATH`. Data paths are paths on the site's volume.

**Exit status**: as `run` when it watches: 0 promoted and deployed, 3 held, 1 failed.
"""

DOCTOR_HELP = """
A line each: ✓ is there, ✗ a run would not start or not end well, ? needed and not to be seen from
here, – not needed. It asks as `submit` does (`KF_PIPELINES_*`) and as the current kubeconfig.

**Exit status**: 0 only if a run would start, 1 if it would not, 4 if something that it needs was
not to be seen. With `--offline`: 0 if the compiled files are right.
"""


def compile_(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option(help="Where the specification and platform documents go.")
    ] = Path("pipeline.yaml"),
    dataset: Dataset = None,
    data_dir: DataDir = None,
    column: Columns = None,
    split: Split = SplitKind.GLOBAL_TIME,
    preset: Preset = AUTO,
    set_: Overrides = None,
    gates: Gates = DEFAULT_GATES,
    platform: Platform = DEFAULT_PLATFORM,
) -> None:
    """Compile for Kubeflow Pipelines; the given settings become the run's default `config`.

    Upload the file in the Kubeflow UI. The components' image is `$SASREC_IMAGE`. What `submit`
    refuses is refused here too.
    """
    config = configuration(dataset, data_dir, column, split, preset, set_, gates)
    settings = platform_settings(platform)
    settings.shared_profile()
    if output.suffix not in (".yaml", ".yml"):
        raise SettingsError(f"--output {output}: must end in .yaml")
    require_writable("--output", output)
    compiler.Compiler().compile(
        on_platform(context.obj, settings),
        str(output),
        pipeline_parameters={
            "config": config.model_dump_json(),
            "home": settings.mount_path,
            "run_dir": f"{settings.mount_path}/runs/{MOMENT}-{RUN_ID}",
        },
    )
    typer.echo(f"wrote {output}")


def submit(
    context: typer.Context,
    dataset: Dataset = None,
    data_dir: DataDir = None,
    column: Columns = None,
    split: Split = SplitKind.GLOBAL_TIME,
    preset: Preset = AUTO,
    set_: Overrides = None,
    refresh: Refresh = False,
    gates: Gates = DEFAULT_GATES,
    platform: Platform = DEFAULT_PLATFORM,
    name: Annotated[
        str | None, typer.Option(help="The run's name; an existing one is not started again.")
    ] = None,
    experiment: Experiment = EXPERIMENT,
    tag: Tags = None,
    wait: Wait = False,
    timeout: Timeout = None,
) -> None:
    """Start one run on Kubeflow Pipelines."""
    config = configuration(dataset, data_dir, column, split, preset, set_, gates, refresh)
    cluster = Cluster(Endpoint.from_environment())
    with _package(context.obj, platform) as package:
        run_id = cluster.submit(
            package,
            config,
            home=platform_settings(platform).mount_path,
            run_name=name or new_run_id(config.site),
            experiment=experiment,
            tags=pairs(tag),
        )
    typer.echo(f"submitted {run_id}: {cluster.endpoint.run_url(run_id)}")
    if wait:
        _watch(cluster, run_id, timeout)


def schedule(
    context: typer.Context,
    cron: Annotated[str, typer.Option(help="Five fields, UTC: '30 3 * * *' is 03:30 each day.")],
    dataset: Dataset = None,
    data_dir: DataDir = None,
    column: Columns = None,
    split: Split = SplitKind.GLOBAL_TIME,
    preset: Preset = AUTO,
    set_: Overrides = None,
    refresh: Refresh = False,
    gates: Gates = DEFAULT_GATES,
    platform: Platform = DEFAULT_PLATFORM,
    name: Annotated[str | None, typer.Option(help="[default: site, or site-refresh]")] = None,
    experiment: Experiment = EXPERIMENT,
    tag: Tags = None,
) -> None:
    """Run on a schedule: create the recurring run, or change the one of that name."""
    config = configuration(dataset, data_dir, column, split, preset, set_, gates, refresh)
    cluster = Cluster(Endpoint.from_environment())
    with _package(context.obj, platform) as package:
        scheduled = cluster.schedule(
            package,
            config,
            home=platform_settings(platform).mount_path,
            name=name or f"{config.site}{'-refresh' if refresh else ''}",
            cron=cron,
            experiment=experiment,
            tags=pairs(tag),
        )
    change = "scheduled" if scheduled.changed else "unchanged"
    typer.echo(f"{change}: {scheduled.recurring_run_id}")


def status(
    run_id: Annotated[str | None, typer.Argument(help="[default: recent runs]")] = None,
) -> None:
    """Say what a run, or each recent run, is doing on the cluster."""
    cluster = Cluster(Endpoint.from_environment())
    for run in [cluster.status(run_id)] if run_id else cluster.recent():
        typer.echo(run.line())


def watch(run_id: str, timeout: Timeout = None) -> None:
    """Follow a run on the cluster to its end, and end by its verdict."""
    _watch(Cluster(Endpoint.from_environment()), run_id, timeout)


def doctor(
    context: typer.Context,
    platform: Platform = DEFAULT_PLATFORM,
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
    if offline and probe:
        raise SettingsError("--offline asks no cluster, and --probe runs on one; give one of them")
    with checked_target(context.obj, platform_settings(platform), offline=offline) as target:
        findings = list(check_all(target, offline=offline))
        if probe and nothing_missing(findings):
            tried = run_probe(target, timeout_seconds=timeout or 1800)
            if nothing_missing(tried):
                findings = shown_by_probe(findings)
            findings += tried
        elif probe:
            typer.echo("the probe was not run: mend what is marked ✗ first", err=True)
    if json_:
        typer.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        Console(file=sys.stdout, soft_wrap=True).print(table(findings))
    if not nothing_missing(findings):
        raise typer.Exit(1)
    if not would_start(findings):
        raise typer.Exit(EXIT_UNSEEN)


@contextmanager
def _package(pipeline: GraphComponent, platform: Path) -> Iterator[Path]:
    settings = platform_settings(platform)
    settings.shared_profile()
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(on_platform(pipeline, settings), str(package))
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
