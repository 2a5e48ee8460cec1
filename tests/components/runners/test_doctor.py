"""`pipeline.py doctor` names each fault that is planted in a cluster that is otherwise right."""

import base64
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from kfp import compiler
from kubernetes import client, config
from typer.testing import CliRunner

import pipeline
from components.runners import endpoint as endpoint_module
from components.runners.cluster import Cluster
from components.runners.doctor import Target, check_all, would_start
from components.runners.doctor.finding import Verdict
from components.runners.doctor.kubernetes_facts import KubernetesFacts
from components.runners.endpoint import Endpoint
from components.runners.platform import PlatformSettings, on_platform
from tests.components.kfp import KfpServer
from tests.components.kfp.access import Access
from tests.components.kfp.gateway import AUDIENCE, InCluster, service_account_token
from tests.json_server import running
from tests.serving import kubernetes_server

CORE = "/api/v1/namespaces"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
POLICIES = "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies"
IMAGE = "registry.example.com/sasrec-pipeline@sha256:" + "0" * 64
RUNTIME = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a/trainingruntimes/sasrec-training"
CLAIM = f"{CORE}/team-a/persistentvolumeclaims/sasrec-home"
ARGO = f"{CORE}/kubeflow/configmaps/workflow-controller-configmap"


def secret(**values):
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {}, "data": data}


def argo(policy):
    strategy = {"retryStrategy": {"retryPolicy": policy}}
    return {"data": {"workflowDefaults": yaml.safe_dump({"spec": {"templateDefaults": strategy}})}}


def right_cluster():
    """What a cluster holds on which a run starts, serving and training on nodes included."""
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    node = {
        "metadata": {"name": "n1", "labels": labels},
        "status": {"allocatable": {"nvidia.com/gpu": "8"}, "images": [{"names": [IMAGE]}]},
    }
    claim = {"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}}
    return {
        f"{CORE}/team-a": {"metadata": {"labels": {"istio-injection": "enabled"}}},
        f"{CORE}/sasrec": {"metadata": {}},
        f"{CORE}/team-a/serviceaccounts/sasrec-pipeline": {"metadata": {}},
        CLAIM: claim,
        f"{CORE}/team-a/secrets/sasrec-redis": secret(connection="redis:6379", url="redis://"),
        f"{CORE}/team-a/secrets/sasrec-api-keys": secret(rollout="k"),
        f"{CORE}/team-a/secrets/registry": secret(
            **{".dockerconfigjson": json.dumps({"auths": {"registry.example.com": {}}})}
        ),
        f"{CORE}/sasrec/secrets/sasrec-api-keys": secret(**{"api_keys.json": "{}", "metrics": "m"}),
        ARGO: argo("Always"),
        "/api/v1/nodes/n1": node,
        f"{CRDS}/trainjobs.trainer.kubeflow.org": {},
        f"{CRDS}/jobsets.jobset.x-k8s.io": {},
        f"{CRDS}/servicemonitors.monitoring.coreos.com": {},
        RUNTIME: {},
    }


@dataclass
class Bench:
    """A Kubeflow, a Kubernetes, and what the doctor looks at.

    Attributes:
        text: the compiled documents.
    """

    folder: Path
    text: str
    platform: PlatformSettings
    kubeflow: KfpServer = field(default_factory=KfpServer)
    kubernetes: kubernetes_server.Cluster = field(default_factory=kubernetes_server.Cluster)
    token: str = field(default_factory=lambda: service_account_token(AUDIENCE))

    def __post_init__(self):
        self.objects = self.kubernetes.objects
        self.objects.held = right_cluster()
        self.bind("base", "profile", "training")

    def bind(self, *folders):
        """Apply the roles of these manifests."""
        access = Access.of_manifests(*folders)
        self.objects.allows = lambda account, *about: (
            account is None or access.allows(account, *about)
        )

    def findings(self):
        """What the doctor finds, as verdict and line."""
        package = self.folder / "pipeline.yaml"
        package.write_text(self.text)
        with running(InCluster(self.kubeflow)) as kubeflow, running(self.kubernetes) as url:
            self.kubernetes.write_kubeconfig(self.folder / "kubeconfig", url)
            config.load_kube_config(str(self.folder / "kubeconfig"))
            endpoint = Endpoint(
                endpoint=kubeflow,
                token=self.token,
                namespace="team-a",
                service_account="sasrec-pipeline",
            )
            target = Target(
                self.platform,
                package,
                Cluster(endpoint),
                KubernetesFacts(client.ApiClient()),
                namespace="team-a",
                account="sasrec-pipeline",
            )
            return list(check_all(target, offline=False))

    def faults(self):
        """The lines with ✗, each with its fix."""
        return [f for f in self.findings() if f.verdict is Verdict.BAD]


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


def attribute(name, value):
    return lambda bench: setattr(bench, name, value)


def claim(mode="ReadWriteMany", **more):
    return changed(CLAIM, {"spec": {"accessModes": [mode], **more}, "status": {"phase": "Pending"}})


def egress(*ports):
    rules = [{"ports": [{"port": port} for port in ports]}]
    policy = {"podSelector": {}, "policyTypes": ["Egress"], "egress": rules}
    return changed(f"{POLICIES}/deny", {"metadata": {"name": "deny"}, "spec": policy})


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
        "none has 1 nvidia.com/gpu",
    ),
    "no namespace": (without(f"{CORE}/sasrec"), "is not there"),
    "sidecars before serving": (
        changed(f"{CORE}/sasrec", {"metadata": {"labels": {"istio-injection": "enabled"}}}),
        "puts a sidecar before serving",
    ),
    "egress to Redis": (egress(9091, 443), "no rule lets runs out on port 6379"),
    "egress to the Pushgateway": (egress(6379, 443), "no rule lets runs out on port 9091"),
    "egress to the object store": (egress(6379, 9091), "no rule lets runs out on port 443"),
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
    "SQLite on the volume": (
        lambda bench: setattr(
            bench,
            "platform",
            bench.platform.model_copy(update={"environment": {}}),
        ),
        "loses writes",
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


def test_a_claim_that_waits_for_its_first_pod_is_right(bench):
    claim(storageClassName="nfs")(bench)
    nfs = {"metadata": {"name": "nfs"}, "volumeBindingMode": "WaitForFirstConsumer"}
    bench.objects.held["/apis/storage.k8s.io/v1/storageclasses/nfs"] = nfs
    assert bench.faults() == []


def test_what_one_may_not_look_at_is_no_fault(bench):
    bench.objects.forbidden = {CLAIM, f"{CORE}/team-a/secrets/sasrec-redis", ARGO}
    findings = bench.findings()
    assert would_start(findings)
    unseen = [f.check for f in findings if f.verdict is Verdict.OPEN and "403" in f.said]
    assert unseen == ["claim", "Secret sasrec-redis", "Secret sasrec-redis", "retries of stages"]


def test_the_operator_of_prometheus_is_wanted_but_not_needed(bench):
    without(f"{CRDS}/servicemonitors.monitoring.coreos.com")(bench)
    findings = bench.findings()
    assert would_start(findings)
    assert any("no alerts" in finding.said for finding in findings)


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
    result = CliRunner().invoke(pipeline.app, ["doctor", "--json"])
    assert result.exit_code == 1
    said = {f["said"] for f in json.loads(result.stdout) if f["verdict"] == "✗"}
    assert {"no endpoint is named", "no kubeconfig leads to a cluster"} <= said
