"""The command line: `python pipeline.py COMMAND`, or `sasrec COMMAND` where it is installed."""

import typer
from kfp.dsl.graph_component import GraphComponent

from components.command_line import cluster, local
from components.command_line.check import check
from components.command_line.exits import run_to_exit
from components.command_line.tune import PREPARATION, TUNE_HELP, tune
from serving.__main__ import serve
from serving.registry.__main__ import app as registry

__all__ = ["command_line", "run_to_exit"]


def command_line(
    pipeline: GraphComponent, preparation: GraphComponent | None = None
) -> typer.Typer:
    """Every command.

    Args:
        pipeline: what they run, compile and submit.
        preparation: the same up to the sequences, for `tune`.
    """
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        help="Train, judge and deploy a self-attentive sequential recommender (SASRec).",
    )

    @app.callback()
    def _(context: typer.Context) -> None:
        context.obj = pipeline
        context.meta[PREPARATION] = preparation

    here, there = "On this machine", "On a Kubeflow cluster"
    app.command(epilog=local.RUN_EXAMPLES, rich_help_panel=here)(local.run)
    app.command(rich_help_panel=here)(check)
    app.command(epilog=TUNE_HELP, rich_help_panel=here)(tune)
    app.command(rich_help_panel=here)(local.settings)
    app.command(rich_help_panel=here)(local.recommend)
    app.command(rich_help_panel=here)(serve)
    app.add_typer(registry, name="registry", rich_help_panel=here)
    app.command("compile", rich_help_panel=there)(cluster.compile_)
    app.command(epilog=cluster.DOCTOR_HELP, rich_help_panel=there)(cluster.doctor)
    for command in (cluster.submit, cluster.schedule, cluster.status, cluster.watch):
        app.command(epilog=cluster.CLUSTER_HELP, rich_help_panel=there)(command)
    return app
