"""A name that is queried is exported, and what is exported is named somewhere a person looks."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import REGISTRY

import serving.metrics  # noqa: F401  (registers its metrics)
from components.support.outcome_metrics import describe_outcome
from deploy.dashboards.__main__ import generated
from deploy.dashboards.panels import BOARDS
from deploy.monitor import PROMETHEUS
from serving.monitoring.gauges import GAUGES
from tests.monitoring.prometheus import require_prometheus

PROJECT = PROMETHEUS.parents[1]
RULES = {
    path.name: [
        rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
    ]
    for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
}
ALERTS = RULES["alerts.yml"]
QUERIES = [rule["expr"] for rules in RULES.values() for rule in rules] + [
    query.expr for board in BOARDS for panel in board.panels for query in panel.queries
]
NAME = re.compile(r"[a-z_]*:?reco_[a-z0-9_]+(?::[a-z0-9_]+)?")
SUFFIX = re.compile(r"_(bucket|count|sum)$")


def exported() -> set[str]:
    service = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
        if family.name.startswith("reco_")
    }
    pipeline = {family.name for family in describe_outcome(Path("/nowhere"))[1].collect()}
    return service | set(GAUGES) | pipeline


def names(texts: list[str]) -> set[str]:
    return {SUFFIX.sub("", name) for text in texts for name in NAME.findall(text)}


def test_every_queried_name_is_exported_or_recorded():
    recorded = {rule["record"] for rule in RULES["recording.yml"]}
    assert names(QUERIES) - exported() - recorded == set()


def test_every_metric_that_a_manifest_names_is_exported():
    manifests = (PROJECT / "deploy" / "kubernetes").rglob("*.yaml")
    found = names([path.read_text() for path in manifests])
    assert "reco_requests_in_flight" in found
    groups = {
        group["name"]
        for path in (PROMETHEUS / "rules").glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
    }
    recorded = {rule["record"] for rule in RULES["recording.yml"]}
    assert found - exported() - recorded - groups == set()


def test_every_exported_metric_and_recorded_rule_is_on_a_dashboard_or_in_an_alert():
    assert exported() - names(QUERIES) == set()
    recorded = {rule["record"] for rule in RULES["recording.yml"]}
    used = names([q for q in QUERIES if q not in {r["expr"] for r in RULES["recording.yml"]}])
    assert recorded - used == set()


def test_every_exported_metric_is_in_the_documentation():
    documented = names([(PROJECT / "docs" / "monitoring.md").read_text()])
    assert exported() - documented == set()


@pytest.mark.parametrize("name", sorted(exported()))
def test_names_end_in_their_unit(name):
    units = ("_total", "_seconds", "_ratio", "_bits", "_psi", "_info", "_events", "_lists")
    assert name.endswith((*units, "_slots", "_generation", "_propensity", "_in_flight"))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_a_severity_a_summary_and_its_chapter_in_the_runbook(alert):
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"]
    document, _, anchor = alert["annotations"]["runbook"].partition("#")
    text = (PROJECT / document).read_text()
    chapters = {
        found.group(1).lower(): found.group(2)
        for found in re.finditer(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    }
    for part in ("**Means**", "**Look at**", "**Do**"):
        assert part in chapters[anchor]


def test_promtool_accepts_the_rules_and_their_cases_fire_or_not():
    require_prometheus()
    for command in (
        ["promtool", "check", "rules", *sorted(map(str, (PROMETHEUS / "rules").glob("*.yml")))],
        ["promtool", "test", "rules", "tests/rules_test.yml"],
    ):
        done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_must_not():
    cases = [
        check
        for test in yaml.safe_load((PROMETHEUS / "tests" / "rules_test.yml").read_text())["tests"]
        for check in test["alert_rule_test"]
    ]
    names = {alert["alert"] for alert in ALERTS}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


def test_generated_files_are_what_the_generator_writes():
    for path, content in generated().items():
        assert path.read_text() == content, f"{path}: run python -m deploy.dashboards"


def test_the_dashboards_load_into_grafana_s_own_types():
    for path in (PROJECT / "deploy" / "grafana" / "dashboards").glob("*.json"):
        written = json.loads(path.read_text())
        loaded = Dashboard.from_json(written)
        assert len(loaded.panels) == len(written["panels"])
        assert loaded.uid in {board.uid for board in BOARDS}


def test_the_console_is_html_and_not_a_template():
    """Prometheus expands consoles as Go templates, to which {{ would be an instruction."""
    assert "{{" not in (PROMETHEUS / "consoles" / "recommender.html").read_text()
