"""`pipeline.py submit | schedule | status | watch`, as typed, against a KFP server."""

import pytest
from typer.testing import CliRunner

import pipeline
from components.runners import endpoint
from components.runners.endpoint import ClusterError
from components.support.settings import RunConfig
from sasrec.errors import SettingsError
from tests.components.kfp import KfpServer
from tests.components.kfp.documents import Package
from tests.json_server import running

GATED = ["ingest", "publish-features", "extract-sequences", "train", "evaluate", "gate"]


@pytest.fixture
def server(monkeypatch):
    server = KfpServer()
    monkeypatch.setattr(endpoint, "RETRY_SECONDS", 0.001)
    with running(server) as url:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", url)
        monkeypatch.setenv("KF_PIPELINES_NAMESPACE", "team-a")
        yield server


def typed(*words):
    return CliRunner().invoke(pipeline.app, list(words))


def test_submit_uploads_the_pipeline_with_its_platform_and_says_where_to_look(server):
    result = typed(
        *("submit", "--platform", "deploy/platform.yaml", "--name", "first", "--tag", "commit=abc"),
        *("--set", "train.epochs=3"),
    )
    assert result.exit_code == 0, result.output
    [run] = server.tables["runs"]
    assert f"submitted {run.run_id}" in result.output
    assert f"#/runs/details/{run.run_id}" in result.output
    assert RunConfig.parse(run.runtime_config.parameters["config"]).train.epochs == 3
    assert run.runtime_config.parameters["home"] == "/mnt/sasrec"
    assert server.tables["pipeline_versions"][0].tags == {"commit": "abc"}


FOR_A_CLUSTER = [("compile",), ("submit",), ("schedule", "--cron", "30 3 * * *")]


@pytest.mark.parametrize("words", FOR_A_CLUSTER)
def test_stores_of_one_host_are_refused_before_anything_is_written(
    server, tmp_path, monkeypatch, words
):
    (tmp_path / "platform.yaml").write_text("volume_claim: sasrec-home\n")
    monkeypatch.chdir(tmp_path)
    result = typed(*words, "--platform", "platform.yaml")
    assert isinstance(result.exception, SettingsError)
    assert "SASREC_FEATURE_PROFILE is local" in str(result.exception)
    assert not server.tables["pipeline_versions"]
    assert not (tmp_path / "pipeline.yaml").exists()


def test_what_is_compiled_without_a_word_is_what_submit_sends(server, tmp_path):
    path = tmp_path / "pipeline.yaml"
    assert typed("compile", "--output", str(path)).exit_code == 0
    assert typed("submit", "--name", "first").exit_code == 0
    [sent] = server.packages.values()
    compiled = Package.read(path.read_text(), server.version)
    assert compiled.executors == sent.executors
    assert compiled.executors["exec-train"]["secretAsEnv"][0]["secretName"] == "sasrec-redis"


@pytest.mark.parametrize("words", [*FOR_A_CLUSTER, ("doctor", "--offline")])
def test_without_the_usual_file_it_is_asked_for(server, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    result = typed(*words)
    assert isinstance(result.exception, SettingsError)
    assert "no deploy/platform.yaml here; --platform names" in str(result.exception)
    assert server.requests == []


@pytest.mark.parametrize(
    ("state", "stages", "status"),
    [
        ("SUCCEEDED", [*GATED, "register", "deploy"], 0),
        ("SUCCEEDED", GATED, 3),
        ("SUCCEEDED", ["ingest"], 0),
        ("FAILED", ["ingest"], 1),
    ],
)
def test_watch_ends_by_the_verdict_as_run_does(server, state, stages, status):
    typed("submit", "--name", "first")
    run_id = server.tables["runs"][0].run_id
    server.set_run(run_id, state, dict.fromkeys(stages, "SUCCEEDED"))
    result = typed("watch", run_id)
    assert result.exit_code == status, result.output


def test_settings_do_not_make_a_new_version_of_the_pipeline(server):
    typed("submit", "--name", "first")
    typed("submit", "--name", "second", "--set", "train.epochs=3")
    assert len(server.tables["runs"]) == 2
    assert len(server.tables["pipeline_versions"]) == 1


def test_schedule_says_whether_it_changed_anything(server):
    assert "scheduled: " in typed("schedule", "--cron", "30 3 * * *").output
    assert "unchanged: " in typed("schedule", "--cron", "30 3 * * *").output
    assert len(server.tables["recurring_runs"]) == 1


def test_status_lists_runs(server):
    typed("submit", "--name", "first")
    assert "pending" in typed("status").output
    assert "first" in typed("status", server.tables["runs"][0].run_id).output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("compile", "--output", "/nonexist/x.yaml"),
            "--output /nonexist/x.yaml: there is no folder /nonexist",
        ),
        (("compile", "--output", "/x.txt"), "--output /x.txt: must end in .yaml"),
        (("doctor", "--offline", "--probe"), "--offline asks no cluster"),
        (("schedule", "--cron", "99 99 * * xx"), "--cron '99 99 * * xx': '99' is no minute"),
    ],
)
def test_what_a_person_can_mend_is_one_line_and_status_2(
    server, monkeypatch, capsys, words, message
):
    words = (*words, "--platform", "deploy/platform.yaml")
    monkeypatch.setattr("sys.argv", ["pipeline.py", *words])
    with pytest.raises(SystemExit) as end:
        pipeline.main()
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert server.requests == []


def test_a_refusal_is_one_line_and_status_1(server, monkeypatch, capsys):
    monkeypatch.setenv("KF_PIPELINES_NAMESPACE", "team-b")
    monkeypatch.setattr("sys.argv", ["pipeline.py", "status"])
    with pytest.raises(SystemExit) as end:
        pipeline.main()
    assert end.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: runs: 403, no permission in namespace team-b")
    assert isinstance(end.value.__context__, ClusterError)
