"""A cluster on which a run starts, simulated, for faults to be planted in."""

import base64
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from kubernetes import client, config

from components.runners.cluster import Cluster
from components.runners.doctor import Target, check_all
from components.runners.doctor.finding import Verdict
from components.runners.doctor.kubernetes_facts import KubernetesFacts
from components.runners.endpoint import Endpoint
from components.runners.platform import PlatformSettings
from tests.components.kfp import KfpServer
from tests.components.kfp.access import Access
from tests.components.kfp.argo import KFP_DEFAULTS
from tests.components.kfp.gateway import AUDIENCE, InCluster, service_account_token
from tests.json_server import running
from tests.serving import kubernetes_server

CORE = "/api/v1/namespaces"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
IMAGE = "registry.example.com/sasrec-pipeline@sha256:" + "0" * 64
RUNTIME = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a/trainingruntimes/sasrec-training"
CLAIM = f"{CORE}/team-a/persistentvolumeclaims/sasrec-home"
KEYS = json.dumps({"recommend": ["k"], "metrics": ["m"]})
ARGO = f"{CORE}/kubeflow/configmaps/workflow-controller-configmap"


ARTIFACTS = "secrets/mlpipeline-minio-artifact"


def secret(**values):
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {}, "data": data}


def argo(policy, **strategy):
    """The ConfigMap as Kubeflow installs it, with this policy, or with no defaults."""
    defaults = yaml.safe_load(KFP_DEFAULTS)
    defaults["spec"]["templateDefaults"]["retryStrategy"] |= {"retryPolicy": policy} | strategy
    return {"data": {"workflowDefaults": yaml.safe_dump(defaults)}}


def right_cluster():
    """What a cluster holds on which a run starts, serving and training on nodes included."""
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    allocatable = {"cpu": "31850m", "memory": "128Gi", "nvidia.com/gpu": "8"}
    node = {
        "metadata": {"name": "n1", "labels": labels},
        "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
        "status": {"allocatable": allocatable, "images": [{"names": [IMAGE]}]},
    }
    small = {"cpu": "4", "memory": "16Gi"}
    claim = {"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}}
    return {
        f"{CORE}/team-a": {"metadata": {"labels": {"istio-injection": "enabled"}}},
        f"{CORE}/sasrec": {"metadata": {}},
        f"{CORE}/team-a/serviceaccounts/sasrec-pipeline": {"metadata": {}},
        CLAIM: claim,
        f"{CORE}/team-a/{ARTIFACTS}": secret(accesskey="a", secretkey="s"),
        f"{CORE}/team-a/secrets/sasrec-redis": secret(connection="redis:6379", url="redis://"),
        f"{CORE}/team-a/secrets/sasrec-api-keys": secret(rollout="k"),
        f"{CORE}/team-a/secrets/registry": secret(
            **{".dockerconfigjson": json.dumps({"auths": {"registry.example.com": {}}})}
        ),
        f"{CORE}/sasrec/secrets/sasrec-api-keys": secret(**{"api_keys.json": KEYS, "metrics": "m"}),
        ARGO: argo("Always", expression='lastRetry.message != ""'),
        "/api/v1/nodes/n1": node,
        "/api/v1/nodes/n2": {"metadata": {"name": "n2"}, "status": {"allocatable": small}},
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
        namespace: of the runs.
    """

    folder: Path
    text: str
    platform: PlatformSettings
    namespace: str = "team-a"
    kubeflow: KfpServer = field(default_factory=KfpServer)
    kubernetes: kubernetes_server.Cluster = field(default_factory=kubernetes_server.Cluster)
    token: str = field(default_factory=lambda: service_account_token(AUDIENCE))

    def __post_init__(self):
        self.objects = self.kubernetes.objects
        self.objects.held = right_cluster()
        self.kubeflow.namespaces.add(self.namespace)
        self.bind("base", "profile", "training")

    def bind(self, *folders):
        """Apply the roles of these manifests."""
        access = Access.of_manifests(*folders)
        self.objects.allows = lambda account, *about: (
            account is None or access.allows(account, *about)
        )

    @contextmanager
    def target(self):
        """What the doctor examines."""
        package = self.folder / "pipeline.yaml"
        package.write_text(self.text)
        with running(InCluster(self.kubeflow)) as kubeflow, running(self.kubernetes) as url:
            self.kubernetes.write_kubeconfig(self.folder / "kubeconfig", url)
            config.load_kube_config(str(self.folder / "kubeconfig"))
            endpoint = Endpoint(
                endpoint=kubeflow,
                token=self.token,
                namespace=self.namespace,
                service_account="sasrec-pipeline",
            )
            yield Target(
                self.platform,
                package,
                Cluster(endpoint),
                KubernetesFacts(client.ApiClient()),
                namespace=self.namespace,
                account="sasrec-pipeline",
            )

    def findings(self):
        """What the doctor finds, as verdict and line."""
        with self.target() as target:
            return list(check_all(target, offline=False))

    def faults(self):
        """The lines with ✗, each with its fix."""
        return [f for f in self.findings() if f.verdict is Verdict.BAD]
