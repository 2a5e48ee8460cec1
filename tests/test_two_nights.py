"""Two nights of a schedule on a cluster, from the compiled file to a served model.

The cluster is `tests.components.kfp`, which refuses what Kubeflow Pipelines and Argo refuse; the
components run for real, on a real Redis. What else `deploy/platform.yaml` points them at is a
simulated Pushgateway and a simulated Kubernetes API server with serving's Deployment and Service,
which want an API key.
"""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from kfp import compiler
from kubernetes.config import kube_config
from small_site import EASY_GATES, QUICK
from starlette.testclient import TestClient

import pipeline
from components.runners.cluster import Cluster
from components.runners.cluster_run import Outcome
from components.runners.endpoint import Endpoint
from components.runners.platform import PlatformSettings, on_platform
from components.support.image import IMAGE
from components.support.settings import build_config
from components.support.stage import STAGES, read_stages
from sasrec.data.simulated import Storefront
from serving.api.app import create_app
from serving.registry import ModelStore
from serving.release import processes
from serving.settings import Settings
from tests.components.kfp import KfpServer
from tests.components.kfp.access import Access
from tests.components.kfp.argo import KFP_DEFAULTS, Clock, Defaults, Phase
from tests.components.kfp.workflow import Installation
from tests.feature_repo.redis_server import running_redis
from tests.json_server import running
from tests.pushgateway import Pushgateway
from tests.serving import kubernetes_server

pytestmark = pytest.mark.timeout(900)

FIRST = datetime(2026, 1, 3, 3, 30, tzinfo=UTC)
SECOND = datetime(2026, 1, 4, 3, 30, tzinfo=UTC)
THIRD = datetime(2026, 1, 5, 3, 30, tzinfo=UTC)
# What step 5 of docs/production.md makes of Kubeflow's defaults.
PODS_ALONE = Defaults("Always", limit=2, expression='lastRetry.message != ""')
API_KEY = "only-for-the-smoke-test"
JSON = "application/json"


@pytest.fixture
def gateway():
    """A Pushgateway and its address."""
    gateway = Pushgateway()
    with running(gateway) as url:
        yield gateway, url.removeprefix("http://")


@pytest.fixture
def service(tmp_path, redis):
    """Serving itself: a pod that starts on the site and answers one request.

    What it shows it logs aside: these requests are no news for the next night.
    """
    keys = tmp_path / "api_keys.json"
    keys.write_text(json.dumps({"recommend": [API_KEY]}))

    def ask(headers, body):
        settings = Settings(
            home=tmp_path / "home",
            history=redis["url"],
            event_log=tmp_path / "shown",
            api_keys=keys,
            deadline_seconds=60,
        )
        given = {"Authorization": headers.get("Authorization") or "", "Content-Type": JSON}
        with TestClient(create_app(settings)) as client:
            answer = client.post("/v1/recommend", headers=given, content=body)
        return answer.status_code, answer.json()

    return ask


@pytest.fixture
def serving(tmp_path, monkeypatch, service, installation):
    """A cluster that serves the champion of the site, and the kubeconfig that reaches it."""
    cluster = kubernetes_server.Cluster(
        service=service,
        allows=lambda *about: installation.access.allows("sasrec-pipeline", *about),
    )
    with running(cluster) as url:
        cluster.write_kubeconfig(tmp_path / "kubeconfig", url)
        # The client reads KUBECONFIG as it is imported, and this process has imported it before.
        monkeypatch.setattr(
            kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig")
        )
        yield cluster, url


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine is no fault: `deploy` waits for its server as long as it takes."""
    monkeypatch.setattr(processes, "START_SECONDS", 600)


@pytest.fixture
def server():
    return KfpServer()


@pytest.fixture
def kubeflow(server):
    """A client of the server, as `pipeline.py schedule` uses it."""
    with running(server) as url:
        yield Cluster(Endpoint(endpoint=url, namespace="team-a", service_account="sasrec-pipeline"))


@pytest.fixture
def redis(tmp_path):
    """The Secret of a Redis, which holds features and histories."""
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as url:
        address = url.removeprefix("redis://").removesuffix("/0")
        yield {"connection": address, "url": url}


@pytest.fixture
def installation(tmp_path, redis):
    return Installation(
        clock=Clock(FIRST),
        folder=tmp_path / "artifacts",
        access=Access.of_manifests("base", "single-user"),
        defaults=PODS_ALONE,
        secrets={"sasrec-api-keys": {"rollout": API_KEY}, "sasrec-redis": redis},
    )


@pytest.fixture
def package(tmp_path, gateway, serving):
    """The pipeline as compiled with the example's platform settings, this machine in place of a
    cluster's addresses.
    """
    _, address = gateway
    _, url = serving
    platform = yaml.safe_load(Path("deploy/platform.yaml").read_text())
    platform |= {
        "mount_path": str(tmp_path / "home"),
        "pushgateway": address,
        "serving_namespace": "sasrec",
        "environment": platform["environment"]
        | {
            "OMP_NUM_THREADS": "1",
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "SASREC_ROLLOUT_URL": url,
            "SASREC_ROLLOUT_POLL_SECONDS": "0.05",
        },
    }
    path = tmp_path / "platform.yaml"
    path.write_text(yaml.safe_dump(platform))
    compiled = tmp_path / "pipeline.yaml"
    on_site = on_platform(pipeline.sasrec_pipeline, PlatformSettings.load(path))
    compiler.Compiler().compile(on_site, str(compiled))
    return compiled


def write_shop(folder, days, *tables):
    """The first days of one small storefront, as far as these tables."""
    source = Storefront(seed=1, users=300, days=30).source()
    start = pc.min(source.interactions["timestamp"]).cast("int64").as_py()
    folder.mkdir(exist_ok=True)
    for name in tables:
        table = getattr(source, name)
        if "timestamp" in table.column_names:
            day = pc.divide(pc.subtract(table["timestamp"].cast("int64"), start), 86_400_000_000)
            table = table.filter(pc.less(day, days))
        pq.write_table(table, folder / f"{name}.parquet")


def schedule(kubeflow, package, folder, *settings, split):
    """`pipeline.py schedule`, with these settings."""
    (folder / "gates.yaml").write_text(EASY_GATES)
    config = build_config(
        overrides=[*QUICK, *settings],
        sections={"data": {"dataset": str(folder / "shop")}, "split": {"kind": split}},
        gates=folder / "gates.yaml",
    )
    return kubeflow.schedule(
        package, config, home=str(folder / "home"), name="nightly", cron="30 3 * * *"
    )


def by_hand(folder, kubeflow, package):
    """`pipeline.py submit`, beside the schedule."""
    config = build_config(overrides=QUICK, sections={"data": {"dataset": str(folder / "shop")}})
    return kubeflow.submit(package, config, home=str(folder / "home"), run_name="by-hand")


def run_dirs(folder):
    return sorted((folder / "home" / "runs").iterdir())


def test_two_nights_with_failures_and_a_held_model_end_in_a_served_one(
    tmp_path, server, kubeflow, installation, package, gateway, serving, service, redis, monkeypatch
):
    pushgateway, _ = gateway
    cluster, _ = serving

    # Night one: nothing but interactions, no time split, and a model that nobody trained.
    write_shop(tmp_path / "shop", 20, "interactions")
    schedule(kubeflow, package, tmp_path, "train.epochs=0", split="leave-one-out")
    installation.faults = {"ingest": ["crash"], "publish-features": ["drain"]}
    held_id = server.tick("nightly", FIRST)
    held = server.execute(held_id, installation)
    assert held.nodes["ingest"].attempts == [Phase.FAILED, Phase.SUCCEEDED], held.logs
    assert held.nodes["publish-features"].attempts == [Phase.ERROR, Phase.SUCCEEDED]
    assert kubeflow.status(held_id).outcome is Outcome.HELD, held.logs
    assert [status["state"] for status in held.final_statuses] == ["COMPLETE"]
    assert list(pushgateway.received) == ["/metrics/job/sasrec-pipeline/outcome/held"]
    assert cluster.image == "sasrec:old"

    # Night two: the team trains it, by time, and the shop has gone on; a node is lost as its pod
    # had put the version into the store, and training runs out of memory after hours.
    write_shop(tmp_path / "shop", 30, "interactions", "items", "impressions")
    assert schedule(kubeflow, package, tmp_path, split="global-time").changed
    installation.clock.now = SECOND
    installation.faults = {"train": ["kill"], "register": ["lost"]}
    installation.seconds = {"train": 5 * 3600}
    refused = []
    installation.meanwhile["publish-features"] = lambda: refused.append(
        server.execute(by_hand(tmp_path, kubeflow, package), installation)
    )
    deployed_id = server.tick("nightly", SECOND, late_seconds=900)
    deployed = server.execute(deployed_id, installation)
    assert deployed.nodes["train"].attempts == [Phase.FAILED, Phase.SUCCEEDED], deployed.logs
    assert deployed.nodes["register"].attempts == [Phase.ERROR, Phase.SUCCEEDED]
    assert kubeflow.status(deployed_id).outcome is Outcome.DEPLOYED, deployed.logs
    assert "/metrics/job/sasrec-pipeline/outcome/deployed" in pushgateway.received

    # A run by hand beside it was refused by the night's name, and left nothing.
    [beside] = refused
    assert beside.nodes.keys() == {"start-run", "report-outcome"}
    said = beside.logs["start-run"][-1]
    assert f"another run is using {tmp_path / 'home'}" in said
    assert f"nightly-20260104-034500-{deployed_id[:8]}" in said

    # Each night has its folder, named by its moment, and used what had happened by then.
    first, second = run_dirs(tmp_path)
    assert first.name == f"nightly-20260103-033003-{held_id[:8]}"
    assert second.name == f"nightly-20260104-034500-{deployed_id[:8]}"
    assert "deploy" not in read_stages(first)
    assert list(read_stages(second)) == list(STAGES)
    moments = [
        json.loads((run / "config.json").read_text())["data"]["as_of"] for run in (first, second)
    ]
    assert moments == ["2026-01-03T03:30:03+00:00", "2026-01-04T03:45:00+00:00"]

    # What night two promoted is the champion, and the one version of it; its image serves.
    version = json.loads((second / "deployment.json").read_text())["version"]
    models = ModelStore(tmp_path / "home" / "models")
    assert models.aliases().champion == version
    assert cluster.image == IMAGE

    # And serving gives it to users whose histories the run put online.
    monkeypatch.setenv("REDIS_CONNECTION", redis["connection"])  # as serving's manifest gives it
    asked = json.dumps({"user_id": "u1", "k": 5}).encode()
    status, answer = service({"Authorization": f"Bearer {API_KEY}"}, asked)
    assert (status, answer["model_version"], answer["degraded"]) == (200, version, None)
    assert len(answer["items"]) == 5
    assert service({}, asked)[0] == 401

    # Night three: nobody did anything, so nothing is trained and nothing changes.
    installation.clock.now = THIRD
    installation.faults = {}
    unchanged_id = server.tick("nightly", THIRD)
    unchanged = server.execute(unchanged_id, installation)
    assert kubeflow.status(unchanged_id).outcome is Outcome.UNCHANGED, unchanged.logs
    assert "train" not in unchanged.nodes
    assert "/metrics/job/sasrec-pipeline/outcome/unchanged" in pushgateway.received
    assert models.aliases().champion == version


def test_a_failed_night_is_reported_as_failed_and_changes_nothing(
    tmp_path, server, kubeflow, installation, package, gateway
):
    """Under the policy that KFP 2.17.0 installs, a container that fails is not tried again."""
    pushgateway, _ = gateway
    write_shop(tmp_path / "shop", 20, "interactions")
    schedule(kubeflow, package, tmp_path, split="leave-one-out")
    installation = dataclasses.replace(
        installation, defaults=Defaults.of(KFP_DEFAULTS), faults={"ingest": ["crash"]}
    )
    run_id = server.tick("nightly", FIRST)
    failed = server.execute(run_id, installation)
    assert failed.nodes["ingest"].message == "not retried under OnError"
    assert kubeflow.status(run_id).outcome is Outcome.FAILED
    assert kubeflow.status(run_id).failed == ["ingest"]
    assert list(pushgateway.received) == ["/metrics/job/sasrec-pipeline/outcome/failed"]
    assert ModelStore(tmp_path / "home" / "models").aliases().champion is None


def test_an_account_without_the_rights_of_a_task_fails_at_its_first_pod(
    tmp_path, server, kubeflow, installation, package
):
    write_shop(tmp_path / "shop", 20, "interactions")
    schedule(kubeflow, package, tmp_path, split="leave-one-out")
    installation = dataclasses.replace(installation, access=Access.of_manifests("base"))
    failed = server.execute(server.tick("nightly", FIRST), installation)
    assert "workflowtaskresults.argoproj.io is forbidden" in failed.logs["start-run"][0]
    assert "ingest" not in failed.nodes


@pytest.mark.parametrize(("defaults", "pods"), [(PODS_ALONE, 3), (Defaults("Always", 2), 3**5)])
def test_a_stage_that_cannot_succeed_ends_soon_only_if_groups_of_tasks_are_not_tried_again(
    tmp_path, server, kubeflow, installation, package, defaults, pods
):
    """Root and entrypoint are groups, and so are the exit handler's scope and each task's own."""
    schedule(kubeflow, package, tmp_path, split="leave-one-out")
    faults = {"start-run": ["crash"] * 3**5}
    installation = dataclasses.replace(installation, defaults=defaults, faults=faults)
    run_id = server.tick("nightly", FIRST)
    failed = server.execute(run_id, installation)
    assert len(failed.nodes["start-run"].attempts) == pods
    assert kubeflow.status(run_id).outcome is Outcome.FAILED
    assert kubeflow.status(run_id).failed == ["start-run"]
    assert kubeflow.status(run_id).stages == {}
