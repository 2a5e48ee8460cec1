"""`pipeline.py doctor` names each fault that is planted in a cluster that is otherwise right."""

import io
import json
import re
from pathlib import Path

import pytest
import yaml
from kfp import compiler
from kubernetes import config
from rich.console import Console
from typer.testing import CliRunner

import pipeline
from components.command_line import cluster as cluster_commands
from components.runners import endpoint as endpoint_module
from components.runners.doctor import (
    nothing_missing,
    probe,
    run_probe,
    shown_by_probe,
    table,
    would_start,
)
from components.runners.doctor.finding import Finding, Verdict
from components.runners.platform import PlatformSettings, on_platform
from tests.components.kfp.gateway import AUDIENCE, service_account_token
from tests.components.runners.right_cluster import (
    ARGO,
    ARTIFACTS,
    CLAIM,
    CORE,
    CRDS,
    IMAGE,
    KEYS,
    RUNTIME,
    Bench,
    argo,
    secret,
)

POLICIES = "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies"


@pytest.fixture(scope="module")
def platform():
    values = yaml.safe_load(Path("deploy/platform.yaml").read_text())
    values |= {"serving_namespace": "sasrec", "image_pull_secrets": ["registry"]}
    values["stages"]["train"]["nodes"] = 2
    return PlatformSettings.model_validate(values)


@pytest.fixture(scope="module")
def compiled(platform, tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compiler.Compiler().compile(on_platform(pipeline.sasrec_pipeline, platform), str(path))
    return path.read_text().replace("image: sasrec-pipeline:latest", f"image: {IMAGE}")


@pytest.fixture
def bench(tmp_path, compiled, platform, monkeypatch):
    monkeypatch.setattr(endpoint_module, "RETRY_SECONDS", 0.001)
    return Bench(tmp_path, compiled, platform)


def without(path):
    return lambda bench: bench.objects.held.pop(path)


def changed(path, value):
    return lambda bench: bench.objects.held.update({path: value})


def document(old, new):
    def plant(bench):
        assert old in bench.text
        bench.text = bench.text.replace(old, new)

    return plant


def node(name, **parts):
    """A node with other parts, or with more of what it has."""

    def plant(bench):
        held = bench.objects.held[f"/api/v1/nodes/{name}"]
        for part, values in parts.items():
            held[part] = held.get(part, {}) | values

    return plant


def quota(hard, used=None, **spec):
    status = {"hard": hard, "used": used or {}}
    path = f"{CORE}/team-a/resourcequotas/mine"
    return changed(path, {"metadata": {"name": "mine"}, "spec": spec, "status": status})


def platform_with(**changes):
    return lambda bench: setattr(bench, "platform", bench.platform.model_copy(update=changes))


def attribute(name, value):
    return lambda bench: setattr(bench, name, value)


def claim(mode="ReadWriteMany", **more):
    return changed(CLAIM, {"spec": {"accessModes": [mode], **more}, "status": {"phase": "Pending"}})


def egress(*ports, namespace="team-a", selector=None):
    """A policy that lets out to these ports and to nothing else."""
    entries = [port if isinstance(port, dict) else {"port": port} for port in ports]
    policy = {
        "podSelector": selector or {},
        "policyTypes": ["Egress"],
        "egress": [{"ports": entries}],
    }
    path = POLICIES.replace("team-a", namespace)
    return changed(f"{path}/deny", {"metadata": {"name": "deny"}, "spec": policy})


def served_by(address, **environment):
    """A Redis at another address, and a container of serving with this environment."""
    values = {"connection": f"{address},password=p", "url": f"redis://:p@{address}/0"}

    def plant(bench):
        bench.objects.held[f"{CORE}/team-a/secrets/sasrec-redis"] = secret(**values)
        bench.objects.held[f"{CORE}/sasrec/secrets/sasrec-redis"] = secret(**values)
        reference = {"secretKeyRef": {"name": "sasrec-redis", "key": "url"}}
        bench.kubernetes.container = {
            "env": [{"name": "SASREC_HISTORY", "valueFrom": reference}]
            + [{"name": name, "value": value} for name, value in environment.items()]
        }

    return plant


def service(name, namespace, port, target_port, *, named=""):
    """A Service with one pod behind it."""

    def plant(bench):
        labels = {"app": name}
        listens = (
            {"containerPort": 7000, "name": named} if named else {"containerPort": target_port}
        )
        bench.objects.held |= {
            f"{CORE}/{namespace}/services/{name}": {
                "metadata": {"namespace": namespace},
                "spec": {
                    "selector": labels,
                    "ports": [{"port": port, "targetPort": named or target_port}],
                },
            },
            f"{CORE}/{namespace}/pods/{name}-0": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"ports": [listens]}]},
                "status": {"podIP": "10.1.2.3"},
            },
        }

    return plant


def both(*plants):
    def plant(bench):
        for each in plants:
            each(bench)

    return plant


FAULTS = {
    "an old server": (
        lambda bench: setattr(bench.kubeflow, "version", (2, 16, 1)),
        "2.16.1 does not know",
    ),
    "a token for another": (
        attribute("token", service_account_token("https://kubernetes.default.svc")),
        "not for pipelines.kubeflow.org",
    ),
    "an expired token": (
        attribute("token", service_account_token(AUDIENCE, expires_in=-60)),
        "has expired",
    ),
    "another's namespace": (
        lambda bench: bench.kubeflow.namespaces.discard("team-a"),
        "no permission in namespace team-a",
    ),
    "no account": (
        without(f"{CORE}/team-a/serviceaccounts/sasrec-pipeline"),
        "no ServiceAccount sasrec-pipeline",
    ),
    "rights of a task": (
        lambda bench: bench.bind("base", "training"),
        "create workflowtaskresults.argoproj.io",
    ),
    "rights of training": (
        lambda bench: bench.bind("base", "profile"),
        "may not create trainjobs.trainer.kubeflow.org",
    ),
    "rights of a rollout": (
        lambda bench: bench.bind("training"),
        "may not get deployments.apps",
    ),
    "no claim": (without(CLAIM), "no PersistentVolumeClaim sasrec-home"),
    "a claim for one node": (claim("ReadWriteOnce"), "is ReadWriteOnce"),
    "no storage class": (claim(), "there is no default storage class"),
    "another storage class": (claim(storageClassName="nfs"), "there is no storage class nfs"),
    "no secret": (without(f"{CORE}/team-a/secrets/sasrec-redis"), "is not in team-a"),
    "a secret without a key": (
        changed(f"{CORE}/team-a/secrets/sasrec-redis", secret(url="redis://")),
        "has no connection in team-a",
    ),
    "no keys of serving": (
        without(f"{CORE}/sasrec/secrets/sasrec-api-keys"),
        "is not in sasrec",
    ),
    "nothing for Prometheus to present": (
        changed(f"{CORE}/sasrec/secrets/sasrec-api-keys", secret(**{"api_keys.json": "{}"})),
        "has no metrics in sasrec",
    ),
    "no pull secret": (without(f"{CORE}/team-a/secrets/registry"), "is not in team-a"),
    "a pull secret for another": (
        changed(f"{CORE}/team-a/secrets/registry", secret()),
        "not registry.example.com",
    ),
    "no GPU": (
        changed("/api/v1/nodes/n1", {"metadata": {}, "status": {}}),
        "room for 0 on 2 nodes (2 without nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3",
    ),
    "one GPU too few": (
        node("n1", status={"allocatable": {"cpu": "64", "memory": "64Gi", "nvidia.com/gpu": "1"}}),
        "2 pods of 4 cpu, 16Gi memory, 1 nvidia.com/gpu: room for 1 on 2 nodes",
    ),
    "a cordoned node": (node("n1", spec={"unschedulable": True}), "1 cordoned"),
    "a node that is away": (
        node("n1", status={"conditions": [{"type": "Ready", "status": "Unknown"}]}),
        "1 not ready",
    ),
    "a taint that nothing tolerates": (
        node("n1", spec={"taints": [{"key": "team", "value": "b", "effect": "NoExecute"}]}),
        "1 with the taint team",
    ),
    "a taint of the others": (
        node("n2", spec={"taints": [{"key": "maintenance", "effect": "NoSchedule"}]}),
        "1 with the taint maintenance",
    ),
    "too little memory": (
        node("n2", status={"allocatable": {"cpu": "4", "memory": "1Gi"}}),
        "1 too small",
    ),
    "a small quota": (quota({"requests.memory": "8Gi"}), "mine: requests.memory is 8Gi"),
    "a quota without devices": (quota({"requests.nvidia.com/gpu": "1"}), "asks for more"),
    "a quota in use": (
        quota({"limits.memory": "64Gi"}, used={"limits.memory": "60Gi"}),
        "64Gi, 60Gi of it in use",
    ),
    "a quota that wants limits": (quota({"limits.cpu": "64"}), "runs set none"),
    "no namespace": (without(f"{CORE}/sasrec"), "is not there"),
    "sidecars before serving": (
        changed(f"{CORE}/sasrec", {"metadata": {"labels": {"istio-injection": "enabled"}}}),
        "puts a sidecar before serving",
    ),
    "egress to Redis": (egress(9091, 443), "no rule lets runs out to Redis, redis:6379 (deny)"),
    "egress to a Redis elsewhere": (
        both(served_by("redis.example.com:16379"), egress(6379, 9091, 443)),
        "no rule lets runs out to Redis, redis.example.com:16379",
    ),
    "egress to the pods behind a Service": (
        both(
            served_by("redis.data:6379"),
            service("redis", "data", 6379, 16379),
            egress(6379, 9091, 443),
        ),
        "no rule lets runs out to Redis, redis.data:6379",
    ),
    "egress to the Pushgateway": (
        egress(6379, 443),
        "to the Pushgateway, pushgateway.monitoring:9091",
    ),
    "egress to Kubernetes": (egress(6379, 9091), "to the Kubernetes API, kubernetes.default:443"),
    "egress to ML Metadata": (
        both(service("metadata-grpc-service", "kubeflow", 8080, 8080), egress(6379, 9091, 443)),
        "to ML Metadata, metadata-grpc-service.kubeflow:8080",
    ),
    "egress to Kubeflow's artifacts": (
        both(service("seaweedfs", "kubeflow", 9000, 8333), egress(6379, 9091, 443, 9000)),
        "to artifacts, seaweedfs.kubeflow:9000",
    ),
    "egress of serving to Redis": (
        both(served_by("redis:6379"), egress(443, namespace="sasrec")),
        "no rule lets serving out to Redis, redis:6379 (deny)",
    ),
    "egress of serving to its models": (
        both(
            served_by(
                "redis:6379",
                SASREC_MODELS_URL="s3://models/shop",
                AWS_ENDPOINT_URL_S3="http://store.data:9000",
            ),
            egress(6379, 443, namespace="sasrec"),
        ),
        "no rule lets serving out to the bucket, store.data:9000",
    ),
    "no serving": (
        lambda bench: setattr(bench.kubernetes, "removed", True),
        "no Deployment sasrec-serving in sasrec",
    ),
    "no Trainer": (
        without(f"{CRDS}/trainjobs.trainer.kubeflow.org"),
        "trainjobs.trainer.kubeflow.org is not there",
    ),
    "no JobSet": (
        without(f"{CRDS}/jobsets.jobset.x-k8s.io"),
        "jobsets.jobset.x-k8s.io is not there",
    ),
    "no TrainingRuntime": (without(RUNTIME), "sasrec-training is not in team-a"),
    "an image without a registry": (
        document(f"image: {IMAGE}", "image: sasrec-pipeline:latest"),
        "names no registry",
    ),
    "an image by tag": (
        document(IMAGE, IMAGE.partition("@")[0] + ":v1"),
        "may be another image tomorrow",
    ),
    "a macro": (document("runs/{moment}-{run_id}", "runs/[[RunUUID]]"), "has a [[macro]]"),
    "no run id": (document("{{$.pipeline_job_uuid}}", "run"), "all runs share a folder"),
    "a secret in the open": (
        document("name: OMP_NUM_THREADS", "name: REDIS_PASSWORD"),
        "REDIS_PASSWORD is written into the pipeline",
    ),
    "no key of the smoke test": (
        document("envVar: SASREC_ROLLOUT_API_KEY", "envVar: ANOTHER"),
        "deploy has no key",
    ),
    "a URL with a password": (
        document("value: '4'", "value: redis://:s3cret@redis:6379"),
        "OMP_NUM_THREADS is written into the pipeline",
    ),
    "Feast's password": (
        document("value: '4'", "value: redis:6379,password=s3cret"),
        "OMP_NUM_THREADS is written into the pipeline",
    ),
    "a smoke-test key that serving does not know": (
        changed(f"{CORE}/team-a/secrets/sasrec-api-keys", secret(rollout="old")),
        "the key rollout is none of the `recommend` keys",
    ),
    "a smoke-test key with a line's end": (
        changed(f"{CORE}/team-a/secrets/sasrec-api-keys", secret(rollout="k\n")),
        "the key rollout is none of the `recommend` keys",
    ),
    "a key of Prometheus that serving does not know": (
        changed(
            f"{CORE}/sasrec/secrets/sasrec-api-keys",
            secret(**{"api_keys.json": KEYS, "metrics": "old"}),
        ),
        "the key metrics is none of the `metrics` keys",
    ),
    "keys that serving cannot read": (
        changed(
            f"{CORE}/sasrec/secrets/sasrec-api-keys",
            secret(**{"api_keys.json": "{", "metrics": "m"}),
        ),
        "is not what serving reads",
    ),
    "SQLite on the volume": (platform_with(environment={}), "do not work on a network volume"),
    "an unknown profile": (
        platform_with(environment={"SASREC_FEATURE_PROFILE": "prod"}),
        "'prod' is unknown",
    ),
    "nothing that says where Redis is": (
        platform_with(secrets=()),
        "nothing gives pods REDIS_CONNECTION and SASREC_HISTORY",
    ),
}


def test_nothing_is_wrong_with_a_right_cluster(bench):
    findings = bench.findings()
    assert [f for f in findings if f.verdict is not Verdict.OK] == []
    assert would_start(findings)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_with_its_fix(bench, fault):
    plant, said = FAULTS[fault]
    plant(bench)
    faults = bench.faults()
    assert any(said in finding.said for finding in faults), faults
    assert all(finding.fix for finding in faults)
    assert "\n" not in "".join(finding.said + finding.fix for finding in faults)


def test_a_window_that_all_attempts_do_not_fit_into_is_named(bench):
    bench.text = re.sub(r"backoffMaxDuration: \w+", "backoffMaxDuration: 600s", bench.text)
    [fault] = bench.faults()
    assert "given up 600 s after its first attempt began" in fault.said


@pytest.mark.parametrize(
    ("policy", "lost"), [("OnError", "a stage that fails"), ("OnFailure", "pod is deleted")]
)
def test_what_argo_does_not_try_again_is_said(bench, policy, lost):
    bench.objects.held[ARGO] = argo(policy)
    [finding] = [f for f in bench.findings() if f.check == "retries of stages"]
    assert lost in finding.said
    assert "retryPolicy: Always" in finding.fix


def test_a_namespace_without_the_artifact_store_of_a_profile_is_a_fault(bench):
    del bench.objects.held[f"{CORE}/team-a/{ARTIFACTS}"]
    [fault] = bench.faults()
    assert "no Secret mlpipeline-minio-artifact in team-a" in fault.said
    bench.objects.held[f"{CORE}/team-a/configmaps/kfp-launcher"] = {"data": {}}
    assert bench.faults() == []


def test_a_policy_that_repeats_groups_of_tasks_too_is_a_fault(bench):
    bench.objects.held[ARGO] = argo("Always")
    [fault] = bench.faults()
    assert "for groups of tasks too" in fault.said
    assert 'expression: lastRetry.message != ""' in fault.fix


def test_a_claim_that_waits_for_its_first_pod_is_right(bench):
    claim(storageClassName="nfs")(bench)
    nfs = {"metadata": {"name": "nfs"}, "volumeBindingMode": "WaitForFirstConsumer"}
    bench.objects.held["/apis/storage.k8s.io/v1/storageclasses/nfs"] = nfs
    assert bench.faults() == []


LET_OUT = {
    "all that is used": egress(6379, 9091, 443),
    "a range": egress({"port": 6000, "endPort": 10000}, 443),
    "a port by its pods' name": both(
        served_by("redis.data:6379"),
        service("redis", "data", 6379, None, named="redis"),
        egress({"port": "redis"}, 9091, 443),
    ),
    "the port behind a Service": both(
        served_by("redis.data:6379"),
        service("redis", "data", 6379, 16379),
        egress(16379, 9091, 443),
    ),
    "only pods that are no run": egress(1, selector={"matchLabels": {"app": "other"}}),
}


@pytest.mark.parametrize("rules", LET_OUT)
def test_rules_that_let_out_to_all_that_is_used_are_right(bench, rules):
    LET_OUT[rules](bench)
    assert bench.faults() == []


def test_where_redis_is_nobody_may_look_the_way_there_is_shown_by_the_probe(bench):
    egress(6379, 9091, 443)(bench)
    bench.objects.forbidden = {f"{CORE}/team-a/secrets/sasrec-redis"}
    findings = bench.findings()
    assert "egress of runs" in unseen_in(findings)
    assert would_start(shown_by_probe(findings))


def unseen_in(findings):
    return [f.check for f in findings if f.verdict is Verdict.UNSEEN]


def test_what_one_may_not_look_at_is_no_fault_and_no_run_that_would_start(bench):
    bench.objects.forbidden = {CLAIM, f"{CORE}/team-a/secrets/sasrec-redis", ARGO}
    findings = bench.findings()
    assert unseen_in(findings) == ["claim", "Secret sasrec-redis", "Secret sasrec-redis"]
    assert nothing_missing(findings)
    assert not would_start(findings)
    # What Argo tries again a run starts without. The rest the probe's pods need as well.
    assert would_start(shown_by_probe(findings))


def test_who_may_read_nothing_is_told_so_and_not_that_a_run_would_start(bench):
    paths = {*bench.objects.held, *(path.rpartition("/")[0] for path in bench.objects.held)}
    reviews = "/apis/authorization.k8s.io/v1/"
    paths |= {f"{reviews}selfsubjectaccessreviews", f"{reviews}subjectaccessreviews"}
    bench.objects.forbidden = paths
    findings = bench.findings()
    assert nothing_missing(findings)
    assert {"claim", "account of runs", "rollout", "room"} <= set(unseen_in(findings))
    # A probe does not show that serving may be rolled out, nor that there are GPUs.
    assert {"rollout", "room"} <= set(unseen_in(shown_by_probe(findings)))


def test_an_image_that_no_node_has_is_shown_by_the_probe_alone(bench):
    node("n1", status={"images": []})(bench)
    findings = bench.findings()
    assert unseen_in(findings) == ["image on nodes"]
    assert would_start(shown_by_probe(findings))


def test_a_limit_range_gives_what_a_quota_wants(bench):
    quota({"limits.cpu": "64", "pods": "10"})(bench)
    limits = {"spec": {"limits": [{"type": "Container", "default": {"cpu": "2"}}]}}
    bench.objects.held[f"{CORE}/team-a/limitranges/defaults"] = limits | {"metadata": {}}
    assert bench.faults() == []


def test_a_quota_for_some_pods_only_is_left_to_kubernetes(bench):
    quota({"pods": "0"}, scopes=["BestEffort"])(bench)
    assert bench.faults() == []


def test_the_table_shows_brackets_as_they_are():
    """Of a server's words, a path or a command: Rich would take them for its markup."""
    said, fix = "no [nvidia.com/gpu] in [/data] \\[x]", "kubectl get pods -o jsonpath={.items[0]}"
    console = Console(file=io.StringIO(), width=200)
    console.print(table([Finding("nodes [a]", Verdict.BAD, said, fix)]))
    text = console.file.getvalue()
    assert all(part in text for part in ("nodes [a]", said, f"→ {fix}")), text


@pytest.mark.parametrize(
    ("verdict", "status"), [(Verdict.OK, 0), (Verdict.BAD, 1), (Verdict.UNSEEN, 4)]
)
def test_the_exit_status_says_whether_a_run_would_start(monkeypatch, verdict, status):
    found = [Finding("claim", verdict, "it", "do"), Finding("other", Verdict.OPEN, "not there")]
    monkeypatch.setattr(cluster_commands, "check_all", lambda *_, **__: iter(found))
    words = ["doctor", "--offline", "--platform", "deploy/platform.yaml"]
    assert CliRunner().invoke(pipeline.app, words).exit_code == status


def test_the_operator_of_prometheus_is_wanted_but_not_needed(bench):
    without(f"{CRDS}/servicemonitors.monitoring.coreos.com")(bench)
    findings = bench.findings()
    assert would_start(findings)
    assert any("no alerts" in finding.said for finding in findings)


@pytest.mark.parametrize("broken", [None, "find-locked", "reach"])
def test_the_probe_runs_five_small_pods_and_says_what_each_found(bench, monkeypatch, broken):
    monkeypatch.setattr(probe, "why_failed", lambda status, namespace: [f"{status.failed} failed"])
    tasks = ["write", "hold-lock", "see-rename", "find-locked", "reach"]

    def end(run_id):
        states = {task: "FAILED" if task == broken else "SUCCEEDED" for task in tasks}
        bench.kubeflow.set_run(run_id, "FAILED" if broken else "SUCCEEDED", states)

    bench.kubeflow.on_run = end
    with bench.target() as target:
        findings = run_probe(target, timeout_seconds=5)
    assert {finding.check for finding in findings} == {f"probe: {task}" for task in tasks}
    assert [f.check for f in findings if f.verdict is Verdict.BAD] == (
        [f"probe: {broken}"] if broken else []
    )
    # Its pods are as a run's: the same image, volume, secrets and account.
    [package] = bench.kubeflow.packages.values()
    assert {pod["pvcMount"][0]["constant"] for pod in package.executors.values()} == {"sasrec-home"}
    [run] = bench.kubeflow.tables["runs"]
    assert run.service_account == "sasrec-pipeline"


def test_without_a_cluster_the_compiled_files_are_examined(monkeypatch):
    words = ["doctor", "--offline", "--platform", "deploy/platform.yaml"]
    result = CliRunner().invoke(pipeline.app, words)
    assert result.exit_code == 1
    assert "names no registry" in result.stdout
    assert "SASREC_IMAGE" in result.stdout
    assert "Kubernetes" not in result.stdout


def test_no_endpoint_and_no_kubeconfig_are_faults(monkeypatch, tmp_path):
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    monkeypatch.setattr(config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    result = CliRunner().invoke(
        pipeline.app, ["doctor", "--json", "--platform", "deploy/platform.yaml"]
    )
    assert result.exit_code == 1
    said = "\n".join(f["said"] for f in json.loads(result.stdout) if f["verdict"] == "✗")
    assert "KF_PIPELINES_ENDPOINT: Field required" in said
    assert "no kubeconfig leads to a cluster" in said


@pytest.mark.parametrize("text", ["contexts: [", "a text", "current-context: gone"])
def test_a_broken_kubeconfig_and_what_is_wrong_with_the_endpoint_are_named(
    monkeypatch, tmp_path, text
):
    (tmp_path / "kubeconfig").write_text(text)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "https://kubeflow.example.com/pipeline")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(
        config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig")
    )
    result = CliRunner().invoke(
        pipeline.app, ["doctor", "--json", "--platform", "deploy/platform.yaml"]
    )
    said = [f["said"] for f in json.loads(result.stdout) if f["verdict"] == "✗"]
    assert f"KF_PIPELINES_SA_TOKEN_PATH: no file {tmp_path / 'token'}" in said
    assert any(line.startswith("no kubeconfig leads to a cluster: ") for line in said)
