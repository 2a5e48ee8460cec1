import io
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import kfp_server_api as kfp_api
import pytest
from kfp import compiler
from rich.console import Console

from components.runners import endpoint as endpoint_module
from components.runners.cluster import Cluster
from components.runners.cluster_run import Outcome, watch_run
from components.runners.endpoint import ATTEMPTS, ClusterError, Endpoint
from components.runners.platform import PlatformSettings, on_platform
from components.support.settings import RunConfig, build_config
from pipeline import sasrec_pipeline
from sasrec.errors import SettingsError
from tests.components.kfp import KfpServer
from tests.components.kfp.documents import Package
from tests.components.kfp.recurring import recurring_run_refusal
from tests.json_server import running

PIPELINE = """pipelineInfo:
  name: sasrec
root:
  inputDefinitions:
    parameters: {config: {parameterType: STRING}, home: {parameterType: STRING},
                 run_dir: {parameterType: STRING}}
"""
STAGES_BEFORE_GATE = dict.fromkeys(
    ["ingest", "publish-features", "extract-sequences", "train", "evaluate", "gate"], "SUCCEEDED"
)


@pytest.fixture
def server():
    return KfpServer()


@pytest.fixture
def url(server, monkeypatch):
    monkeypatch.setattr(endpoint_module, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(endpoint_module, "_CONNECT_AND_READ_SECONDS", (0.3, 0.3))
    with running(server) as url:
        yield url


@pytest.fixture
def cluster(url):
    return Cluster(Endpoint(endpoint=url, namespace="team-a", service_account="sasrec-pipeline"))


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(PIPELINE)
    return path


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The pipeline with the example's platform settings, as compiled."""
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    on_example = on_platform(sasrec_pipeline, PlatformSettings.load(Path("deploy/platform.yaml")))
    compiler.Compiler().compile(on_example, str(path))
    return path


def submit(cluster, package, run_name="run-1", **options):
    return cluster.submit(package, build_config(), home="/mnt/sasrec", run_name=run_name, **options)


def schedule(cluster, package, cron="30 3 * * *", name="nightly", **settings):
    overrides = [f"{key}={value}" for key, value in settings.items()]
    config = build_config(overrides=overrides)
    return cluster.schedule(package, config, home="/mnt/sasrec", name=name, cron=cron)


# Submitting


def test_a_run_refers_to_a_version_and_carries_its_settings(server, cluster, package):
    run_id = submit(cluster, package, experiment="tuning", tags={"commit": "abc123"})
    [run] = server.tables["runs"]
    [version] = server.tables["pipeline_versions"]
    [experiment] = server.tables["experiments"]
    assert run.run_id == run_id
    assert run.pipeline_version_reference.pipeline_version_id == version.pipeline_version_id
    assert run.service_account == "sasrec-pipeline"
    assert (experiment.display_name, experiment.namespace) == ("tuning", "team-a")
    assert version.tags == {"commit": "abc123"}
    parameters = run.runtime_config.parameters
    assert RunConfig.parse(parameters["config"]) == build_config()
    assert parameters["run_dir"] == "/mnt/sasrec/runs/run-1-{run_id}"


def test_the_same_pipeline_is_uploaded_once_and_a_changed_one_is_a_new_version(
    server, cluster, package
):
    submit(cluster, package, "run-1")
    submit(cluster, package, "run-2")
    assert len(server.tables["pipeline_versions"]) == 1
    package.write_text(f"{PIPELINE}# changed\n")
    submit(cluster, package, "run-3")
    assert len(server.tables["pipeline_versions"]) == 2
    assert len(server.tables["pipelines"]) == 1
    assert len(server.tables["runs"]) == 3


@pytest.mark.parametrize("fault", [503, 429, 502, "hang", "lost"])
@pytest.mark.parametrize(
    "request_", ["POST /runs", "POST /experiments", "POST /pipelines", "POST .*upload_version"]
)
def test_a_fault_while_creating_is_repeated_and_creates_one(
    server, cluster, package, request_, fault
):
    server.fail(request_, fault)
    submit(cluster, package)
    assert {name: len(table) for name, table in server.tables.items()} == {
        "pipelines": 1,
        "pipeline_versions": 1,
        "experiments": 1,
        "runs": 1,
        "recurring_runs": 0,
    }


def test_what_another_client_created_meanwhile_is_used(server, cluster, package):
    server.fail("POST /experiments", "created-by-other")
    submit(cluster, package)
    assert len(server.tables["experiments"]) == 1


def test_repeating_a_submit_by_name_starts_nothing_twice(server, cluster, package):
    assert submit(cluster, package, "run-1") == submit(cluster, package, "run-1")
    assert len(server.tables["runs"]) == 1


# Errors


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_server_that_stays_away_is_asked_a_bounded_number_of_times(server, cluster, package):
    server.fail("GET /pipelines", *[503] * 50)
    with pytest.raises(ClusterError) as error:
        submit(cluster, package)
    assert "503 in 5 attempts" in one_line(error)
    assert server.count("GET /pipelines") == ATTEMPTS


def test_an_expired_token_is_told_apart_and_not_retried(server, url, package):
    server.token = "fresh"
    with pytest.raises(ClusterError) as error:
        submit(Cluster(Endpoint(endpoint=url, token="stale")), package)
    assert "token is missing or has expired" in one_line(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("version", "unknown"),
    [
        ((2, 16, 1), "pipelineConfig.resourceTtlOnCompletion"),
        ((2, 15, 0), "securityContext"),
        ((2, 16, 1), "{{$.pipeline_job_schedule_time_utc}}"),
    ],
)
@pytest.mark.parametrize("command", [submit, schedule])
def test_an_older_server_is_refused_by_the_name_of_what_it_does_not_know(
    server, cluster, compiled, version, unknown, command
):
    server.version = version
    with pytest.raises(ClusterError) as error:
        command(cluster, compiled)
    assert unknown in one_line(error)
    assert f"Kubeflow Pipelines {'.'.join(map(str, version))} does not know" in str(error.value)
    assert "upgrade it to 2.17.0" in str(error.value)
    assert not any(server.tables.values())


def test_what_an_older_server_would_do_is_to_drop_the_platform_document(compiled):
    text = compiled.read_text()
    assert Package.read(text, (2, 17, 0)).executors["exec-train"]["pvcMount"]
    assert Package.read(text, (2, 16, 1)).executors == {}


@pytest.mark.parametrize(
    ("pod", "since"),
    [
        ({"nodeSelector": {}, "tolerations": []}, (2, 5, 0)),
        ({"secretAsEnv": [{"secretName": "s", "optional": False}]}, (2, 15, 0)),
        ({"securityContext": {"runAsNonRoot": True}}, (2, 16, 0)),
        ({"notYetInvented": 1}, None),
    ],
)
def test_one_field_of_a_pod_that_a_server_does_not_know_drops_the_document_too(pod, since):
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-x": pod}}}}}
    text = f"{PIPELINE}---\n{json.dumps(platform)}\n"
    releases = [(2, 5, 0), (2, 14, 0), (2, 15, 0), (2, 16, 0), (2, 17, 0)]
    known = [r for r in releases if Package.read(text, r).executors]
    assert known == [r for r in releases if since and r >= since]


def test_a_server_that_names_no_release_needs_to_be_told(server, url, package):
    server.tag_name = "unknown"
    with pytest.raises(ClusterError) as error:
        submit(Cluster(Endpoint(endpoint=url)), package)
    assert "KF_PIPELINES_SERVER_VERSION=2.17.0" in one_line(error)
    assert submit(Cluster(Endpoint(endpoint=url, server_version="2.17.0")), package)


def test_a_rotated_service_account_token_is_read_again(server, url, package, tmp_path):
    path = tmp_path / "token"
    path.write_text("first\n")
    cluster = Cluster(Endpoint(endpoint=url, sa_token_path=path))
    server.token = "first"
    run_id = submit(cluster, package)
    server.token = "second"
    path.write_text("second\n")
    assert cluster.status(run_id).run_id == run_id


def test_a_wrong_namespace_names_the_variable_and_the_role(server, url, package):
    with pytest.raises(ClusterError) as error:
        submit(Cluster(Endpoint(endpoint=url, namespace="team-b")), package)
    assert "namespace team-b" in one_line(error)
    assert "kubeflow-edit" in str(error.value)
    assert not any(server.tables.values())


def test_an_unknown_run_is_named(cluster):
    with pytest.raises(ClusterError) as error:
        cluster.status("no-such-run")
    assert "run no-such-run: 404" in one_line(error)


def test_a_refusal_is_quoted_and_not_repeated(server, cluster, package):
    package.write_text("not: a pipeline")
    with pytest.raises(ClusterError) as error:
        submit(cluster, package)
    assert "the file is not a compiled pipeline" in one_line(error)
    assert server.count("POST .*upload_version") == 1
    assert not server.tables["runs"]


def test_nobody_listening_is_one_line():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoint_module, "RETRY_SECONDS", 0.001)
        with pytest.raises(ClusterError) as error:
            Cluster(Endpoint(endpoint="http://127.0.0.1:9")).status("x")
    assert "did not answer" in one_line(error)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "KF_PIPELINES_ENDPOINT: Field required"),
        ({"KF_PIPELINES_ENDPOINT": "kubeflow.example.com"}, "is not an http"),
        (
            {"KF_PIPELINES_ENDPOINT": "http://x", "KF_PIPELINES_SA_TOKEN_PATH": "/no/token"},
            "KF_PIPELINES_SA_TOKEN_PATH: no file",
        ),
    ],
)
def test_a_wrong_environment_names_the_variable(monkeypatch, environment, message):
    for name in ("ENDPOINT", "SA_TOKEN_PATH"):
        monkeypatch.delenv(f"KF_PIPELINES_{name}", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClusterError, match=message):
        Endpoint.from_environment()


def test_the_token_is_not_shown():
    assert "s3cret" not in repr(Endpoint(endpoint="http://x", token="s3cret"))


# Scheduling


def test_a_schedule_leaves_the_moment_to_each_run_and_never_catches_up(server, cluster, package):
    made = schedule(cluster, package)
    [stored] = server.tables["recurring_runs"]
    assert made.changed
    assert stored.trigger.cron_schedule.cron == "0 30 3 * * *"
    assert stored.no_catchup is True
    assert stored.max_concurrency == "1"
    assert stored.mode == "ENABLE"
    parameters = stored.runtime_config.parameters
    assert RunConfig.parse(parameters["config"]).data.as_of is None
    assert parameters["run_dir"] == "/mnt/sasrec/runs/nightly-{moment}-{run_id}"
    assert "[[" not in json.dumps(parameters)


def test_repeating_a_schedule_changes_nothing(server, cluster, package):
    first = schedule(cluster, package)
    again = schedule(cluster, package)
    assert again.recurring_run_id == first.recurring_run_id
    assert not again.changed
    assert server.count("POST /recurringruns") == 1


def test_repeating_a_schedule_without_an_account_changes_nothing(server, url, package):
    """The server fills in its own, which is not what was asked for."""
    cluster = Cluster(Endpoint(endpoint=url, namespace="team-a"))
    schedule(cluster, package)
    assert server.tables["recurring_runs"][0].service_account == "default-editor"
    assert not schedule(cluster, package).changed


@pytest.mark.parametrize("account", ["", "another"])
def test_another_account_is_a_changed_schedule(server, url, cluster, package, account):
    schedule(cluster, package)
    other = Cluster(Endpoint(endpoint=url, namespace="team-a", service_account=account))
    assert schedule(other, package).changed
    [stored] = server.tables["recurring_runs"]
    assert stored.service_account == (account or "default-editor")


def test_a_schedule_whose_runs_may_overlap_is_replaced(server, cluster, package):
    schedule(cluster, package)
    server.tables["recurring_runs"][0].max_concurrency = "3"  # in the UI, or by another program
    assert schedule(cluster, package).changed
    [stored] = server.tables["recurring_runs"]
    assert stored.max_concurrency == "1"


@pytest.mark.parametrize("change", [{"cron": "0 4 * * *"}, {"train.epochs": 3}])
def test_a_changed_schedule_replaces_the_old_one(server, cluster, package, change):
    schedule(cluster, package, name="other")
    first = schedule(cluster, package)
    second = schedule(cluster, package, **change)
    assert second.changed
    names = [stored.display_name for stored in server.tables["recurring_runs"]]
    assert sorted(names) == ["nightly", "other"]
    ids = [stored.recurring_run_id for stored in server.tables["recurring_runs"]]
    assert first.recurring_run_id not in ids


def test_a_replacement_cut_short_is_finished_by_the_next_try(server, cluster, package):
    schedule(cluster, package)
    server.fail("DELETE .*", *[503] * ATTEMPTS)
    with pytest.raises(ClusterError, match="503"):
        schedule(cluster, package, cron="0 4 * * *")
    assert len(server.tables["recurring_runs"]) == 2
    assert schedule(cluster, package, cron="0 4 * * *").changed
    [stored] = server.tables["recurring_runs"]
    assert stored.trigger.cron_schedule.cron == "0 0 4 * * *"


@pytest.mark.parametrize("name", ["a/../../x", "/etc", " ", "n" * 129])
def test_a_name_that_is_no_folder_is_refused_before_anything_is_sent(
    server, cluster, package, name
):
    with pytest.raises(SettingsError, match="must name a folder"):
        schedule(cluster, package, name=name)
    with pytest.raises(SettingsError, match="must name a folder"):
        submit(cluster, package, name)
    assert server.requests == []


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("30 3 *", "has 3 fields"),
        ("99 99 * * xx", "'99' is no minute; 0 to 59"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 3 0 * *", "'0' is no day of the month; 1 to 31"),
        ("0 3 * foo *", "'foo' is no month"),
        ("0 3 * * 7", "'7' is no day of the week; 0 to 6"),
        ("0 3 * * fri-mon", "'fri-mon' is no day of the week"),
        ("0 */0 * * *", "'\\*/0' is no hour"),
        ("0 1-2-3 * * *", "'1-2-3' is no hour"),
        ("0 3, * * *", "'' is no hour"),
        ("61 0 3 * * *", "'61' is no second"),
        ("0 -3 * * *", "'-3' is no hour"),
    ],
)
def test_a_cron_that_is_none_is_refused_before_anything_is_sent(
    server, cluster, package, cron, message
):
    with pytest.raises(SettingsError, match=message) as error:
        schedule(cluster, package, cron=cron)
    assert "\n" not in str(error.value)
    assert server.requests == []
    # The server would refuse it too, were it sent; but not what has five fields, which it reads
    # as six without the last.
    six = cron if len(cron.split()) != 5 else f"0 {cron}"
    trigger = {"cron_schedule": {"cron": six}}
    assert recurring_run_refusal({"trigger": trigger, "max_concurrency": "1"})


@pytest.mark.parametrize(
    ("cron", "sent"),
    [
        ("30 3 * * *", "0 30 3 * * *"),
        ("15 8-20/4 * * mon-fri", "0 15 8-20/4 * * mon-fri"),
        ("0 0 3 1,15 JAN ?", "0 0 3 1,15 JAN ?"),
        ("*/10 2/3 * * 0,6", "0 */10 2/3 * * 0,6"),
    ],
)
def test_a_cron_reaches_the_server_with_seconds(server, cluster, package, cron, sent):
    schedule(cluster, package, cron=cron)
    [stored] = server.tables["recurring_runs"]
    assert stored.trigger.cron_schedule.cron == sent


# Watching


def watched(cluster, run_id, **options):
    text = io.StringIO()
    outcome = watch_run(
        lambda: cluster.status(run_id),
        Console(file=text, width=200),
        poll_seconds=0.01,
        **{"explain": lambda status: [f"look at {', '.join(status.failed)}"], **options},
    )
    return outcome, text.getvalue()


def test_watching_shows_each_stage_and_ends_by_the_verdict(server, cluster, package):
    run_id = submit(cluster, package)
    server.set_run(run_id, "RUNNING", {"ingest": "SUCCEEDED", "train": "RUNNING"})
    promoted = {**STAGES_BEFORE_GATE, "register": "SUCCEEDED", "deploy": "SUCCEEDED"}
    mover = threading.Timer(0.1, server.set_run, (run_id, "SUCCEEDED", promoted))
    mover.start()
    outcome, text = watched(cluster, run_id)
    mover.join()
    assert outcome is Outcome.DEPLOYED
    assert text.count("ingest") == 1
    assert ["train", "running"] in [line.split()[1:] for line in text.splitlines()]
    assert ["deploy", "succeeded"] in [line.split()[1:] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("state", "tasks", "outcome"),
    [
        ("SUCCEEDED", STAGES_BEFORE_GATE, Outcome.HELD),
        ("SUCCEEDED", {**STAGES_BEFORE_GATE, "deploy": "SKIPPED"}, Outcome.HELD),
        ("FAILED", {"ingest": "FAILED"}, Outcome.FAILED),
        ("CANCELED", {"ingest": "SUCCEEDED"}, Outcome.CANCELED),
        ("RUNNING", {**STAGES_BEFORE_GATE, "deploy": "SUCCEEDED"}, None),
    ],
)
def test_the_verdict_of_a_run(server, cluster, package, state, tasks, outcome):
    run_id = submit(cluster, package)
    server.set_run(run_id, state, tasks)
    assert cluster.status(run_id).outcome is outcome


def test_a_failed_run_names_its_stages_and_what_the_server_says_of_the_run(
    server, cluster, package
):
    run_id = submit(cluster, package)
    server.set_run(run_id, "FAILED", {"ingest": "SUCCEEDED", "train": "FAILED"})
    [run] = server.tables["runs"]
    said = kfp_api.GoogleRpcStatus(message="exceeded its\n deadline")
    run.state_history = [kfp_api.V2beta1RuntimeStatus(state="FAILED", error=said)]
    outcome, text = watched(cluster, run_id)
    assert outcome is Outcome.FAILED
    assert "error: exceeded its deadline\n" in text
    assert "error: look at train\n" in text


def test_of_a_group_of_tasks_that_argo_began_anew_the_later_attempt_counts(
    server, cluster, package
):
    run_id = submit(cluster, package)
    server.set_run(run_id, "SUCCEEDED", STAGES_BEFORE_GATE)
    [run] = server.tables["runs"]
    details = run.run_details.task_details
    for minute, state in ((9, "SUCCEEDED"), (5, "FAILED")):
        at = datetime(2026, 1, 3, 3, minute, tzinfo=UTC)
        details.append(
            kfp_api.V2beta1PipelineTaskDetail(display_name="deploy", state=state, start_time=at)
        )
    assert cluster.status(run_id).outcome is Outcome.DEPLOYED


def test_a_stage_behind_one_that_failed_never_began(server, cluster, package):
    run_id = submit(cluster, package)
    omitted = "RUNTIME_STATE_UNSPECIFIED"
    server.set_run(run_id, "FAILED", {"root": "FAILED", "start-run": "FAILED", "ingest": omitted})
    status = cluster.status(run_id)
    assert (status.stages, status.failed) == ({}, ["start-run"])


def test_watching_survives_a_server_that_is_away_for_a_moment(server, cluster, package):
    run_id = submit(cluster, package)
    server.set_run(run_id, "SUCCEEDED", STAGES_BEFORE_GATE)
    server.fail("GET /runs/.*", 503, "hang", "lost")
    assert watched(cluster, run_id)[0] is Outcome.HELD


def test_when_the_time_is_up_the_pending_stage_is_named(server, cluster, package):
    run_id = submit(cluster, package)
    server.set_run(run_id, "RUNNING", {"ingest": "SUCCEEDED", "train": "PENDING"})
    with pytest.raises(ClusterError) as error:
        watched(cluster, run_id, timeout_seconds=0.05)
    assert "train waits for an image, quota or a node" in one_line(error)


def test_recent_runs_have_their_verdicts(server, cluster, package):
    server.set_run(submit(cluster, package), "SUCCEEDED", STAGES_BEFORE_GATE)
    [status] = cluster.recent()
    assert "held by the gate" in status.line()
    assert status.created_at.utcoffset() == timedelta(0)
