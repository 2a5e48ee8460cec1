"""Grafana's dashboards through its own typed SDK, so that the JSON fits its schema."""

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from deploy.dashboards.panels import Board, Panel

DATASOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
PANELS_PER_ROW = 3
WIDTH, HEIGHT = 24 // PANELS_PER_ROW, 8


def dashboard_json(board: Board) -> str:
    """The dashboard as Grafana imports or provisions it."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .tags(["recommender"])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
    )
    for variable in board.variables:
        source = "reco_model_info" if variable == "model_version" else "reco_impressions_total"
        built = built.with_variable(
            dashboard.QueryVariable(variable)
            .datasource(DATASOURCE)
            .query(f"label_values({source}, {variable})")
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    for title, panels in board.rows.items():
        built = built.with_row(dashboard.Row(title))
        for panel in panels:
            built = built.with_panel(_timeseries(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _timeseries(panel: Panel) -> timeseries.Panel:
    chart = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(DATASOURCE)
        .unit(panel.unit)
        .min(0)
        .span(WIDTH)
        .height(HEIGHT)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
    )
    if "difference" in panel.queries[0].expr:
        chart = chart.min(None)  # type: ignore[arg-type]
    for number, query in enumerate(panel.queries):
        chart = chart.with_target(
            prometheus.Dataquery()
            .expr(query.expr)
            .legend_format(query.legend)
            .ref_id(chr(ord("A") + number))
        )
    return chart
