import json
from pathlib import Path

import pytest
import yaml
from kfp import compiler

from components.nodes.train_job import VARIABLE, TrainJobSettings
from components.runners.platform import PlatformSettings, Resources, SecretKey, on_platform
from components.support.stage import STAGES
from pipeline import sasrec_pipeline
from sasrec.errors import SettingsError

EXAMPLE = Path("deploy/platform.yaml")
SCHEDULE_TIME = "{{$.pipeline_job_schedule_time_utc}}"
EXECUTORS = {f"exec-{stage.replace('_', '-')}" for stage in STAGES} | {
    "exec-start-run",
    "exec-report-outcome",
}


def compiled(settings, folder):
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(on_platform(sasrec_pipeline, settings), str(path))
    specification, platform = yaml.safe_load_all(path.read_text())
    return specification, platform["platforms"]["kubernetes"]


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    return compiled(PlatformSettings.load(EXAMPLE), tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def containers(documents):
    executors = documents[0]["deploymentSpec"]["executors"]
    return {name: executor["container"] for name, executor in executors.items()}


@pytest.fixture(scope="module")
def pods(documents):
    return documents[1]["deploymentSpec"]["executors"]


def tasks_of(specification):
    """Every task of every level, by name."""
    found = dict(specification["root"]["dag"]["tasks"])
    for component in specification["components"].values():
        found.update(component.get("dag", {}).get("tasks", {}))
    return found


def test_only_trainings_get_a_gpu(containers):
    gpus = {name for name, c in containers.items() if "accelerator" in c["resources"]}
    assert gpus == {"exec-train", "exec-refit"}
    accelerator = containers["exec-train"]["resources"]["accelerator"]
    assert accelerator["resourceType"] == "nvidia.com/gpu"
    assert int(accelerator["resourceCount"]) == 1


def test_training_is_kept_to_gpu_nodes(pods):
    train = pods["exec-train"]
    assert train["nodeSelector"]["labels"]["nvidia.com/gpu.product"].startswith("NVIDIA-H100")
    assert train["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert "nodeSelector" not in pods["exec-ingest"]


def test_every_pod_has_requests_a_memory_limit_and_a_time_limit(containers, pods):
    assert set(containers) == set(pods) == EXECUTORS
    for container in containers.values():
        resources = container["resources"]
        assert resources["resourceMemoryRequest"] == resources["resourceMemoryLimit"]
        assert resources["resourceCpuRequest"]
        assert "resourceCpuLimit" not in resources
    assert containers["exec-train"]["resources"]["resourceMemoryLimit"] == "16Gi"
    assert {pod["activeDeadlineSeconds"] for pod in pods.values()} == {"21600"}


def test_every_pod_mounts_the_site_and_may_not_be_root(pods):
    for pod in pods.values():
        [mount] = pod["pvcMount"]
        assert (mount["constant"], mount["mountPath"]) == ("sasrec-home", "/mnt/sasrec")
        assert pod["securityContext"]["runAsNonRoot"] is True


def test_secrets_arrive_as_variables_and_no_value_is_compiled_in(pods):
    [secret] = pods["exec-publish-features"]["secretAsEnv"]
    assert secret["secretName"] == "sasrec-redis"
    assert secret["keyToEnv"] == [
        {"secretKey": "connection", "envVar": "REDIS_CONNECTION"},
        {"secretKey": "url", "envVar": "SASREC_HISTORY"},
    ]


def test_the_environment_reaches_the_containers(containers):
    for container in containers.values():
        assert {"name": "OMP_NUM_THREADS", "value": "4"} in container["env"]


def test_stages_are_retried_with_growing_pauses_and_never_answered_from_a_cache(documents):
    tasks = tasks_of(documents[0])
    for stage in STAGES:
        task = tasks[stage.replace("_", "-")]
        assert task["retryPolicy"]["maxRetryCount"] == 2
        assert task["retryPolicy"]["backoffDuration"] == "30s"
        assert task["retryPolicy"]["backoffFactor"] == 2
        # Argo's maxDuration counts from the first attempt: all of them and their pauses fit in.
        window = int(task["retryPolicy"]["backoffMaxDuration"].removesuffix("s"))
        assert window >= 3 * 21600 + 30 + 60
        assert not task["cachingOptions"].get("enableCache")


def test_the_run_is_bounded_and_cleaned_up(documents):
    config = documents[1]["pipelineConfig"]
    assert int(config["resourceTtlOnCompletion"]) == 604800
    assert int(config["activeDeadlineSeconds"]) == 86400


def test_the_outcome_is_reported_however_the_run_ends(documents):
    root = documents[0]["root"]["dag"]["tasks"]
    report = root["report-outcome"]
    assert report["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert report["dependentTasks"] == [name for name in root if name != "report-outcome"]
    given = report["inputs"]["parameters"]
    assert given["run_dir"] == {"componentInputParameter": "run_dir"}
    assert given["scheduled_at"]["runtimeValue"]["constant"] == SCHEDULE_TIME


def test_what_differs_from_run_to_run_is_a_constant_of_its_own_and_nothing_is_a_macro(documents):
    """The driver replaces a constant that is exactly a placeholder, and nothing else."""
    given = tasks_of(documents[0])["start-run"]["inputs"]["parameters"]
    assert given["scheduled_at"]["runtimeValue"]["constant"] == SCHEDULE_TIME
    assert given["run_id"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"
    inputs = documents[0]["root"]["inputDefinitions"]["parameters"]
    texts = json.dumps({name: about.get("defaultValue") for name, about in inputs.items()})
    assert "{{" not in texts
    assert "[[" not in texts


def test_without_a_pushgateway_the_exit_handler_still_lets_the_next_run_begin(tmp_path):
    specification, platform = compiled(PlatformSettings(), tmp_path)
    handler = tasks_of(specification)["report-outcome"]["inputs"]["parameters"]
    assert handler["pushgateway"]["runtimeValue"]["constant"] == ""
    assert set(platform["deploymentSpec"]["executors"]) == EXECUTORS
    assert "defaultPipelineRoot" not in specification


def test_artifacts_go_where_the_settings_say(tmp_path):
    specification, _ = compiled(PlatformSettings(artifact_root="s3://bucket/sasrec"), tmp_path)
    assert specification["defaultPipelineRoot"] == "s3://bucket/sasrec"


def test_the_platform_does_not_change_what_is_computed(documents, tmp_path):
    path = tmp_path / "plain.yaml"
    compiler.Compiler().compile(sasrec_pipeline, str(path))
    plain = next(yaml.safe_load_all(path.read_text()))
    for stage in STAGES:
        name = stage.replace("_", "-")
        assert plain["components"][f"comp-{name}"] == documents[0]["components"][f"comp-{name}"]
    assert plain["root"]["inputDefinitions"] == documents[0]["root"]["inputDefinitions"]


def test_training_on_nodes_leaves_the_devices_to_the_nodes(tmp_path):
    example = PlatformSettings.load(EXAMPLE)
    stages = example.stages | {"train": example.stages["train"].model_copy(update={"nodes": 4})}
    specification, platform = compiled(example.model_copy(update={"stages": stages}), tmp_path)
    launcher = specification["deploymentSpec"]["executors"]["exec-train"]["container"]
    environment = {entry["name"]: entry["value"] for entry in launcher["env"]}
    job = TrainJobSettings.from_environment(environment)
    assert (job.nodes, job.processes, job.image) == (4, 1, launcher["image"])
    assert job.limits == {"memory": "16Gi", "nvidia.com/gpu": "1"}
    assert job.node_selector["nvidia.com/gpu.product"].startswith("NVIDIA-H100")
    assert job.tolerations == (
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    )
    assert "accelerator" not in launcher["resources"]
    assert launcher["resources"]["resourceMemoryLimit"] == example.defaults.memory
    assert "nodeSelector" not in platform["deploymentSpec"]["executors"]["exec-train"]
    others = specification["deploymentSpec"]["executors"]["exec-ingest"]["container"]["env"]
    assert VARIABLE not in {entry["name"] for entry in others}


def test_deploying_knows_where_serving_is_and_which_image_it_should_run(tmp_path):
    key = SecretKey(name="sasrec-api-keys", key="rollout")
    settings = PlatformSettings(serving_namespace="shop", serving_key=key)
    specification, platform = compiled(settings, tmp_path)
    executors = specification["deploymentSpec"]["executors"]
    assert executors["exec-deploy"]["container"]["env"] == [
        {"name": "SASREC_ROLLOUT_NAMESPACE", "value": "shop"},
        {"name": "SASREC_ROLLOUT_IMAGE", "value": executors["exec-deploy"]["container"]["image"]},
    ]
    assert "env" not in executors["exec-train"]["container"]
    # The smoke test's key is for this stage alone.
    secrets = {
        name: [secret["keyToEnv"] for secret in pod.get("secretAsEnv", [])]
        for name, pod in platform["deploymentSpec"]["executors"].items()
    }
    given = secrets.pop("exec-deploy")
    assert given == [[{"secretKey": "rollout", "envVar": "SASREC_ROLLOUT_API_KEY"}]]
    assert not any(secrets.values())


def test_a_stage_overrides_only_what_it_names():
    settings = PlatformSettings(
        defaults=Resources(cpu="2", memory="4Gi", retries=5),
        stages={"train": Resources(memory="64Gi", accelerators=2)},
    )
    train = settings.resources("train")
    assert (train.cpu, train.memory, train.retries, train.accelerators) == ("2", "64Gi", 5, 2)
    assert settings.resources("ingest") == settings.defaults


def test_runs_and_serving_use_the_same_redis_by_the_same_secret():
    """What a run publishes is what the pods read."""
    platform = PlatformSettings.load(EXAMPLE)
    deployment = yaml.safe_load(Path("deploy/kubernetes/base/serving-deployment.yaml").read_text())
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    given = {
        entry["name"]: entry["valueFrom"]["secretKeyRef"]
        for entry in container["env"]
        if "valueFrom" in entry
    }
    [secret] = platform.secrets
    assert {
        name: {"name": secret.name, "key": key} for name, key in secret.variables.items()
    } == given
    assert platform.environment["SASREC_FEATURE_PROFILE"] == "production"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: {trian: {cpu: '4'}}", "stages: .*no stage 'trian'"),
        ("stages: {train: {gpus: 1}}", "stages.train.gpus: Extra inputs"),
        ("defaults: {memory: lots}", "defaults.memory: String should match"),
        ("stages: {train: {accelerators: -1}}", "stages.train.accelerators"),
        ("stages: {ingest: {nodes: 2}}", "stages: .*only train runs on several nodes"),
        ("serving_namespace: shop", "serving_namespace: needs serving_key"),
        ("defaults: {nodes: 2}", "defaults: .*only train runs on several nodes"),
        ("defaults: [", "not YAML"),
        ("pushgateway: http://pushgateway:9091", "pushgateway: String should match"),
        ("pushgateway: pushgateway:9091/metrics", "pushgateway: String should match"),
        ("mount_path: mnt/sasrec", "mount_path: String should match"),
        ("- train", "Input should be a valid dictionary"),
    ],
)
def test_a_wrong_setting_is_one_line_with_file_and_field(tmp_path, text, message):
    path = tmp_path / "platform.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as error:
        PlatformSettings.load(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("environment", "secrets", "message"),
    [
        ({}, True, "is local, whose SQLite"),
        ({"SASREC_FEATURE_PROFILE": "prod"}, True, "'prod' is unknown; choose production or"),
        ({"SASREC_FEATURE_PROFILE": "cluster"}, False, "nothing gives pods REDIS_CONNECTION and"),
    ],
)
def test_stores_that_pods_do_not_share_are_refused_in_one_line(environment, secrets, message):
    example = PlatformSettings.load(EXAMPLE)
    assert example.shared_profile() == "production"
    given = {"environment": environment, "secrets": example.secrets if secrets else ()}
    with pytest.raises(SettingsError, match=message) as error:
        example.model_copy(update=given).shared_profile()
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    path = tmp_path / "platform.yaml"
    path.write_bytes("volume_claim: größe".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"platform.yaml: not UTF-8, at byte 16"):
        PlatformSettings.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        PlatformSettings.load(tmp_path / "none.yaml")
