import pytest

from components.runners import pod_reasons
from components.runners.cluster_run import RunStatus
from tests.json_server import running
from tests.serving.kubernetes_objects import Objects
from tests.serving.kubernetes_server import Cluster

PODS = "/api/v1/namespaces/team-a/pods"


def failed(*stages):
    states = dict.fromkeys(stages, "FAILED")
    return RunStatus("run-1", "nightly", "FAILED", None, states, states, ())


def pod(node, name, run="run-1", **status):
    annotations = {"workflows.argoproj.io/node-name": node}
    labels = {"pipeline/runid": run}
    metadata = {"name": name, "labels": labels, "annotations": annotations}
    return {"metadata": metadata, "status": {"phase": "Failed", **status}}


def container(reason, exit_code):
    state = {"terminated": {"reason": reason, "exitCode": exit_code}}
    about = {"name": "main", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    return [{**about, "state": state}]


@pytest.fixture
def objects(tmp_path, monkeypatch):
    """What the cluster that the kubeconfig leads to holds."""
    objects = Objects()
    monkeypatch.setattr(pod_reasons, "_PAUSE_SECONDS", 0.001)
    with running(objects) as url:
        Cluster.write_kubeconfig(tmp_path / "kubeconfig", url)
        monkeypatch.setattr(
            "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION",
            str(tmp_path / "kubeconfig"),
        )
        yield objects


def test_the_pods_of_the_failed_stage_say_why(objects):
    objects.held = {
        f"{PODS}/a": pod(
            "sasrec.root.pipeline.train.executor(0)",
            "a",
            containerStatuses=container("OOMKilled", 137),
        ),
        f"{PODS}/b": pod(
            "sasrec.root.pipeline.train.executor(1)",
            "b",
            reason="Evicted",
            message="The node was low on resource: memory.",
        ),
        f"{PODS}/c": pod("sasrec.root.pipeline.train.executor", "c", run="another"),
        f"{PODS}/d": pod("sasrec.root.pipeline.ingest.executor", "d"),
    }
    assert pod_reasons.why_failed(failed("train"), "team-a") == [
        "stage train: pod a: OOMKilled (exit code 137); kubectl -n team-a logs a -c main",
        "stage train: pod b: Evicted The node was low on resource: memory.; "
        "kubectl -n team-a logs b -c main",
    ]


def test_pods_are_found_where_argo_counts_the_attempts_of_groups_too(objects):
    """With `templateDefaults.retryStrategy`, as Kubeflow installs it: (n) in every name."""
    objects.held = {
        f"{PODS}/a": pod("sasrec(0).root(0).pipeline(0).train(0).executor(1)", "a"),
        f"{PODS}/b": pod("sasrec(0).root(0).pipeline(0).retrain(0).executor(0)", "b"),
        f"{PODS}/c": pod("sasrec(0).root(0).pipeline(0).start-run-driver(0)", "c"),
    }
    [line] = pod_reasons.why_failed(failed("train"), "team-a")
    assert line.startswith("stage train: pod a: failed")
    [line] = pod_reasons.why_failed(failed("start-run-driver", "pipeline"), "team-a")
    assert line.startswith("stage start-run-driver: pod c: failed")


def test_where_pods_are_not_to_be_seen_the_commands_are_named(objects):
    objects.forbidden = {PODS}
    [line] = pod_reasons.why_failed(failed("train"), "team-a")
    assert line.startswith("stage train failed; its log: kubectl -n team-a logs -l")
    assert "describe pods -l pipeline/runid=run-1" in line
