"""The manifests: valid for two Kubernetes versions, and safe by the rules we hold them to."""

import ipaddress
import json
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api import models

from components.nodes.train_job import RUNTIME
from components.runners.platform import PlatformSettings
from serving.settings import Settings

ROOT = Path("deploy/kubernetes")
BASE = ROOT / "base"
COMPONENTS = sorted(
    path.parent
    for path in ROOT.glob("*/kustomization.yaml")
    if "kind: Component" in path.read_text()
)
OVERLAYS = sorted(path.parent for path in ROOT.glob("overlays/*/kustomization.yaml"))
VERSIONS = ("1.30", "1.35")
OUTSIDE_KUBERNETES = ("monitoring.coreos.com/", "trainer.kubeflow.org/")


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def manifests():
    paths = sorted(p for p in ROOT.rglob("*.yaml") if p.name != "kustomization.yaml")
    return [(f"{p.name}:{d['kind']}", d) for p in paths for d in documents(p)]


def render(overlay):
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl, which renders kustomize overlays")
    command = ["kubectl", "kustomize", str(overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def by_kind(documents_, kind):
    return [document for document in documents_ if document["kind"] == kind]


@pytest.fixture(scope="module")
def base():
    return [document for _, document in manifests()]


@pytest.fixture(scope="module")
def deployment(base):
    return by_kind(base, "Deployment")[0]


@pytest.fixture(scope="module")
def pod(deployment):
    return deployment["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    [container] = pod["containers"]
    return container


# Schemas


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(d, id=name)
        for name, d in manifests()
        if not d["apiVersion"].startswith(OUTSIDE_KUBERNETES)
    ],
)
def test_a_manifest_fits_the_schema(manifest, version):
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_a_rendered_overlay_fits_the_schemas(overlay, version):
    rendered = render(overlay)
    assert {"Deployment", "Service", "NetworkPolicy"} <= {d["kind"] for d in rendered}
    for document in rendered:
        if not document["apiVersion"].startswith(OUTSIDE_KUBERNETES):
            kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_manifest_would_be_noticed(deployment):
    broken = json.loads(json.dumps(deployment))
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


# References


def test_every_file_of_a_folder_is_in_its_kustomization():
    for folder in (BASE, *COMPONENTS):
        [kustomization] = documents(folder / "kustomization.yaml")
        files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert set(kustomization.get("resources", [])) == files


def test_selectors_name_the_pods(base, deployment):
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [by_kind(base, "Service")[0]["spec"]["selector"]]
    selectors += [by_kind(base, "PodDisruptionBudget")[0]["spec"]["selector"]["matchLabels"]]
    selectors += [by_kind(base, "NetworkPolicy")[0]["spec"]["podSelector"]["matchLabels"]]
    for selector in selectors:
        assert selector.items() <= labels


def test_ports_volumes_and_accounts_exist(base, pod, container):
    ports = {port["name"] for port in container["ports"]}
    assert by_kind(base, "Service")[0]["spec"]["ports"][0]["targetPort"] in ports
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    accounts = {account["metadata"]["name"] for account in by_kind(base, "ServiceAccount")}
    assert pod["serviceAccountName"] in accounts
    claims = {claim["metadata"]["name"] for claim in by_kind(base, "PersistentVolumeClaim")}
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] in claims


def test_the_autoscaler_and_the_deployment_do_not_fight(base, deployment):
    [autoscaler] = by_kind(base, "HorizontalPodAutoscaler")
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]


def test_settings_are_ones_that_serving_knows(monkeypatch, container):
    known = {f"SASREC_{field}".upper() for field in Settings.model_fields}
    given = dict(line.split("=", 1) for line in (BASE / "serving.env").read_text().splitlines())
    variables = set(given) | {entry["name"] for entry in container["env"]}
    ours = {name for name in variables if name.startswith("SASREC_")}
    assert ours <= known
    for name in ours & set(given):
        monkeypatch.setenv(name, given[name])
    assert Settings().deadline_seconds == float(given["SASREC_DEADLINE_SECONDS"])


# Training on nodes


@pytest.fixture(scope="module")
def runtime(base):
    [runtime] = by_kind(base, "TrainingRuntime")
    return runtime


def test_the_training_runtime_fits_the_published_models_field_by_field(runtime):
    # An unknown field would be dropped on the way.
    assert models.TrainerV1alpha1TrainingRuntime.from_dict(runtime).to_dict() == runtime


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pods_of_the_training_runtime_fit_the_schema(runtime, version):
    [node] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "node"}}
    job["spec"] = node["template"]["spec"]
    kubernetes_validate.validate(job, version, strict=True)


def test_nodes_see_the_site_where_the_launcher_sees_it_and_are_as_restricted(runtime, pod):
    assert runtime["metadata"]["name"] == RUNTIME
    [node] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    spec = node["template"]["spec"]["template"]["spec"]
    [container] = spec["containers"]
    # Trainer finds both by these names.
    assert node["name"] == container["name"] == "node"
    assert node["template"]["metadata"]["labels"] == {
        "trainer.kubeflow.org/trainjob-ancestor-step": "trainer"
    }
    platform = PlatformSettings()
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    }
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] in claims]
    assert claims[mount["name"]] == platform.volume_claim
    assert mount["mountPath"] == platform.mount_path
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == pod["securityContext"]
    assert container["securityContext"] == pod["containers"][0]["securityContext"]


@pytest.fixture
def with_components(tmp_path):
    """Render the staging overlay with these components in place of its own."""

    def render_with(*names):
        shutil.copytree(ROOT, tmp_path / "kubernetes", dirs_exist_ok=True)
        path = tmp_path / "kubernetes/overlays/staging/kustomization.yaml"
        [overlay] = documents(path)
        folders = [f"../../{name}" for name in names]
        path.write_text(yaml.safe_dump(overlay | {"components": folders}))
        return render(path.parent)

    return render_with


def test_an_overlay_can_add_training_on_nodes(with_components):
    rendered = with_components("training")
    [runtime] = by_kind(rendered, "TrainingRuntime")
    assert runtime["metadata"]["namespace"] == "sasrec-staging"
    assert {role["metadata"]["name"] for role in by_kind(rendered, "Role")} == {
        "sasrec-rollout",
        "sasrec-training",
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_all_components_together_fit_the_schemas(with_components, version):
    # A site is in one kind of install.
    names = {folder.name for folder in COMPONENTS} - {"single-user"}
    for document in with_components(*sorted(names)):
        if not document["apiVersion"].startswith(OUTSIDE_KUBERNETES):
            kubernetes_validate.validate(document, version, strict=True)


def test_the_autoscaler_asks_for_a_metric_only_where_it_is_provided(with_components):
    """One metric that nobody provides is enough for never scaling down."""
    [autoscaler] = by_kind(with_components(), "HorizontalPodAutoscaler")
    assert [metric["type"] for metric in autoscaler["spec"]["metrics"]] == ["Resource"]
    [autoscaler] = by_kind(with_components("requests-in-flight"), "HorizontalPodAutoscaler")
    names = [m["pods"]["metric"]["name"] for m in autoscaler["spec"]["metrics"] if "pods" in m]
    assert names == ["reco_requests_in_flight"]
    exported = Path("serving/metrics.py").read_text()
    assert f'"{names[0]}"' in exported


def test_models_in_an_object_store_reach_serving_and_the_exporter(with_components):
    rendered = with_components("monitoring", "object-store")
    for deployment in by_kind(rendered, "Deployment"):
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        assert {"secretRef": {"name": "sasrec-object-store"}} in container["envFrom"]


# What a run's pods may do, by the roles that a Kubeflow install has


# Read in upstream's manifests: pipelines `base/pipeline/pipeline-runner-role.yaml`, and of
# `kubeflow-edit` what it aggregates from pipelines `multi-user/view-edit-cluster-roles.yaml` and
# manifests `common/kubeflow-roles/base/cluster-roles.yaml`.
INSTALL = {
    ("ClusterRole", "kubeflow-edit"): {
        ("argoproj.io", "workflowtaskresults"): {"*"},
        ("", "configmaps"): {"get", "list", "watch", "create", "delete", "patch", "update"},
        ("", "secrets"): {"get", "list", "watch", "create", "delete", "patch", "update"},
        ("", "pods"): {"get", "list", "watch", "create", "delete", "patch", "update"},
    },
    ("Role", "pipeline-runner"): {
        ("argoproj.io", "workflowtaskresults"): {"create", "patch"},
        ("", "configmaps"): {"get", "list", "watch"},
        ("", "secrets"): {"get"},
        ("", "pods"): {"*"},
    },
}
# Argo's executor reports by task results; driver and launcher read the rest (`v2/config/env.go`,
# `v2/objectstore/object_store.go`, `v2/component/launcher_v2.go`).
KUBEFLOW_ASKS = [
    ("argoproj.io", "workflowtaskresults", "create"),
    ("argoproj.io", "workflowtaskresults", "patch"),
    ("", "configmaps", "get"),
    ("", "secrets", "get"),
    ("", "pods", "get"),
]


@pytest.mark.parametrize("install", ["profile", "single-user"])
def test_runs_have_the_rights_that_kubeflows_part_of_a_pod_asks_for(with_components, install):
    granted = set()
    for binding in by_kind(with_components(install), "RoleBinding"):
        accounts = {(s["kind"], s["name"]) for s in binding["subjects"]}
        assert accounts == {("ServiceAccount", "sasrec-pipeline")}
        role = binding["roleRef"]
        rules = INSTALL.get((role["kind"], role["name"]), {})
        granted |= {(group, kind, verb) for (group, kind), verbs in rules.items() for verb in verbs}
    for group, kind, verb in KUBEFLOW_ASKS:
        assert {(group, kind, verb), (group, kind, "*")} & granted


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_says_which_install_it_is_for_and_which_storage(overlay):
    [kustomization] = documents(overlay / "kustomization.yaml")
    assert len({"../../profile", "../../single-user"} & set(kustomization["components"])) == 1
    [claim] = by_kind(render(overlay), "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["spec"]["storageClassName"]


def pod_templates():
    """Every pod that a manifest of ours starts: its labels and its specification."""
    for name, manifest in manifests():
        kind, spec = manifest["kind"], manifest.get("spec", {})
        if kind == "Pod":
            yield name, manifest["metadata"].get("labels", {}), spec
        elif kind in ("Deployment", "Job"):
            yield name, spec["template"]["metadata"]["labels"], spec["template"]["spec"]
        elif kind == "TrainingRuntime":
            [job] = spec["template"]["spec"]["replicatedJobs"]
            template = job["template"]["spec"]["template"]
            yield name, template["metadata"]["labels"], template["spec"]


def test_no_pod_gets_a_sidecar_in_a_profiles_namespace():
    found = {name: labels for name, labels, _ in pod_templates()}
    assert len(found) >= 5
    for name, labels in found.items():
        assert labels.get("sidecar.istio.io/inject") == "false", name


def test_the_volume_is_given_to_the_user_that_everything_runs_as(pod):
    [job] = documents(ROOT / "prepare-volume.yaml")
    [chown] = job["spec"]["template"]["spec"]["containers"]
    user = pod["securityContext"]["runAsUser"]
    assert f"chown {user}:{pod['securityContext']['fsGroup']} " in chown["command"][-1]
    dockerfile = Path("deploy/Dockerfile").read_text()
    assert f"USER {user}:" in dockerfile  # whom Kubeflow's pods run as
    users = {n: spec["securityContext"]["runAsUser"] for n, _, spec in pod_templates()}
    assert {name for name, uid in users.items() if uid != user} == {"prepare-volume.yaml:Job"}


# Policies


def test_no_request_is_dropped_while_versions_change(deployment, pod, container):
    rolling = deployment["spec"]["strategy"]["rollingUpdate"]
    assert rolling["maxUnavailable"] == 0
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    readiness = container["readinessProbe"]
    assert pause >= readiness["periodSeconds"] * readiness["failureThreshold"]
    assert pod["terminationGracePeriodSeconds"] >= pause + 30
    assert deployment["spec"]["progressDeadlineSeconds"] > 90 * 2


def test_probes_ask_what_they_mean(container):
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_pods_meet_the_restricted_security_standard(pod, container):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10000
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_what_must_be_written_is_a_volume(container):
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert "readOnly" not in mounts["/tmp"]
    assert mounts["/etc/sasrec"]["readOnly"] is True


def test_serving_has_no_rights_and_the_pipeline_only_the_rollout(base, pod):
    assert pod["automountServiceAccountToken"] is False
    subjects = [s["name"] for b in by_kind(base, "RoleBinding") for s in b["subjects"]]
    assert set(subjects) == {"sasrec-pipeline"}
    assert not by_kind(base, "ClusterRole")
    for rule in [rule for role in by_kind(base, "Role") for rule in role["rules"]]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        if {"patch", "update", "delete"} & set(rule["verbs"]):
            # TrainJobs are named by what they train, and only runs have any.
            own = rule.get("resourceNames") == ["sasrec-serving"]
            assert own or rule["resources"] == ["trainjobs"]


def test_memory_is_bounded_and_the_processor_is_requested_but_not_capped(container):
    resources = container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert resources["requests"]["cpu"]
    assert "cpu" not in resources["limits"]


def test_no_secret_is_in_the_repository(base):
    assert not by_kind(base, "Secret")
    for path in ROOT.rglob("*"):
        if path.is_file():
            assert not re.search(r"password\s*[:=]\s*\S", path.read_text(), re.IGNORECASE)


def lets_out(policies, labels, port, protocol="TCP", *, namespace=None, address=None):
    """Whether policies let a pod with these labels out, as Kubernetes adds them up."""
    for policy in policies:
        spec = policy["spec"]
        if not selects(spec["podSelector"], labels):
            continue
        for rule in spec.get("egress", []):
            ports = [(p["port"], p.get("protocol", "TCP")) for p in rule["ports"]]
            if (port, protocol) in ports and (
                "to" not in rule or any(reaches(to, namespace, address) for to in rule["to"])
            ):
                return True
    return False


def selects(selector, labels):
    expressions = selector.get("matchExpressions", [])
    assert all(e["operator"] == "In" for e in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(e["key"]) in e["values"] for e in expressions
    )


def reaches(to, namespace, address):
    if "ipBlock" in to:
        network = ipaddress.ip_network(to["ipBlock"]["cidr"])
        return address is not None and ipaddress.ip_address(address) in network
    wanted = to["namespaceSelector"]["matchLabels"]
    return wanted == {"kubernetes.io/metadata.name": namespace}


SERVING = {"app.kubernetes.io/name": "sasrec-serving", "app.kubernetes.io/component": "serving"}
EXPORTER = {"app.kubernetes.io/name": "sasrec-quality"}


def test_serving_reaches_dns_and_redis_and_nothing_else(with_components):
    policies = by_kind(with_components(), "NetworkPolicy")
    for protocol in ("UDP", "TCP"):
        assert lets_out(policies, SERVING, 53, protocol, namespace="kube-system")
        # NodeLocal DNS: no pod, but this address of every node.
        assert lets_out(policies, SERVING, 53, protocol, address="169.254.20.10")
    assert not lets_out(policies, SERVING, 53, "UDP", address="8.8.8.8")
    assert not lets_out(policies, SERVING, 53, "TCP", address="169.254.169.254")
    assert lets_out(policies, SERVING, 6379, address="10.1.2.3")
    for port in (443, 9000, 4317, 9091):
        assert not lets_out(policies, SERVING, port, namespace="monitoring", address="10.1.2.3")


def test_an_object_store_and_telemetry_are_reached_where_they_are_added(with_components):
    policies = by_kind(with_components("object-store", "telemetry", "monitoring"), "NetworkPolicy")
    for labels in (SERVING, EXPORTER):
        for port in (443, 9000, 8333):
            assert lets_out(policies, labels, port, address="52.216.0.1")
        assert lets_out(policies, labels, 53, "UDP", address="169.254.20.10")
    for port in (4317, 4318, 9091):
        assert lets_out(policies, SERVING, port, namespace="monitoring")
        assert not lets_out(policies, EXPORTER, port, namespace="monitoring")


def test_the_network_policies_close_both_directions(base):
    policies = {p["metadata"]["name"]: p["spec"] for p in by_kind(base, "NetworkPolicy")}
    names = {manifest["metadata"]["name"] for manifest in by_kind(base, "Deployment")}
    for name in names:
        assert sorted(policies[name]["policyTypes"]) == ["Egress", "Ingress"]
        assert all(rule.get("from") for rule in policies[name]["ingress"])
    for name in policies.keys() - names:
        assert policies[name]["policyTypes"] == ["Egress"]
    for spec in policies.values():
        assert all(rule.get("ports") for rule in spec.get("egress", []))


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_pins_the_image_and_its_namespace(overlay):
    [kustomization] = documents(overlay / "kustomization.yaml")
    rendered = render(overlay)
    for deployment in by_kind(rendered, "Deployment"):
        image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        assert re.search(r"(@sha256:[0-9a-f]{64}|:(?!latest)[\w.-]+)$", image)
    assert {d["metadata"]["namespace"] for d in rendered} == {kustomization["namespace"]}


def test_production_keeps_several_replicas_on_an_image_by_digest_and_is_scraped():
    rendered = render(ROOT / "overlays/production")
    [autoscaler] = by_kind(rendered, "HorizontalPodAutoscaler")
    assert autoscaler["spec"]["minReplicas"] >= 3
    for deployment in by_kind(rendered, "Deployment"):
        assert "@sha256:" in deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    services = {service["metadata"]["name"]: service for service in by_kind(rendered, "Service")}
    monitors = by_kind(rendered, "ServiceMonitor")
    assert {monitor["metadata"]["name"] for monitor in monitors} == set(services)
    for monitor in monitors:
        service = services[monitor["metadata"]["name"]]
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        assert wanted <= service["metadata"]["labels"].items()
        assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_a_changed_setting_becomes_a_rolling_update():
    """The ConfigMap's name ends in a hash of its content, and the Deployment refers to it."""
    rendered = render(ROOT / "overlays/staging")
    [config] = by_kind(rendered, "ConfigMap")
    assert re.fullmatch(r"sasrec-serving-[0-9a-z]{10}", config["metadata"]["name"])
    [deployment] = by_kind(rendered, "Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"][0]["configMapRef"]["name"] == config["metadata"]["name"]
