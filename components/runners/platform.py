"""What a cluster gives each component: resources, nodes, volume, secrets, retries, time limits."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from kfp import dsl, kubernetes
from kfp.dsl.graph_component import GraphComponent
from kfp.dsl.pipeline_context import Pipeline
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from components.nodes.train_job import VARIABLE, TrainJobSettings
from components.report_outcome import report_outcome
from components.support.image import IMAGE
from components.support.stage import STAGES
from feature_repo.profiles import PROFILE_SETTING, PROFILES
from sasrec.errors import SettingsError, first_problem

BACKOFF_FACTOR = 2
# An attempt's time limit begins when its pod runs; before, it waits for a node and pulls its image.
_POD_START_SECONDS = 3600
_REDIS = ("REDIS_CONNECTION", "SASREC_HISTORY")
"""What Feast's online store and the online history read: where they are."""
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|[KMGTP]i?)?$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Toleration(_Section):
    """A node taint that a component's pod accepts."""

    key: str
    operator: Literal["Equal", "Exists"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class SecretVariables(_Section):
    """Environment variables from the keys of one Kubernetes Secret."""

    name: str
    variables: dict[str, str] = Field(description="environment variable -> key in the Secret")


class SecretKey(_Section):
    """One value of a Kubernetes Secret."""

    name: str = Field(description="of the Secret, in the namespace of the runs")
    key: str


class Resources(_Section):
    """What one component's pod asks for."""

    cpu: Quantity = Field(default="1", description="request; no limit, so that idle cores are used")
    memory: Quantity = Field(default="2Gi", description="request and limit")
    accelerator: str = Field(default="nvidia.com/gpu", description="resource name of a device")
    accelerators: int = Field(default=0, ge=0, description="how many devices, on each node")
    nodes: int = Field(
        default=1, ge=1, description="of `train`; several are a Kubeflow Trainer TrainJob"
    )
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    retries: int = Field(default=2, ge=0, description="a repeated stage continues or starts over")
    backoff_seconds: int = Field(default=30, ge=0, description="before the first retry; doubles")
    timeout_seconds: int = Field(default=6 * 3600, gt=0, description="per attempt")


class PlatformSettings(_Section):
    """How the pipeline uses a cluster; `deploy/platform.yaml` is an example."""

    volume_claim: str = Field(default="sasrec-home", description="ReadWriteMany claim of the site")
    mount_path: str = Field(
        default="/mnt/sasrec", pattern=r"^/[^:]*$", description="where components find the site"
    )
    artifact_root: str | None = Field(
        default=None, description="KFP's artifacts, such as s3://bucket/sasrec; KFP's own default"
    )
    image_pull_secrets: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    secrets: tuple[SecretVariables, ...] = ()
    pushgateway: str | None = Field(
        default=None,
        pattern=r"^[^/:\s]+(:[0-9]+)?$",
        description="host:port of a Prometheus Pushgateway that learns the outcome",
    )
    serving_namespace: str | None = Field(
        default=None, description="of the Deployment sasrec-serving; `deploy` rolls the image out"
    )
    serving_key: SecretKey | None = Field(
        default=None, description="API key with the role `recommend`, for the rollout's smoke test"
    )
    keep_seconds: int = Field(default=7 * 86400, gt=0, description="of a finished run's pods")
    deadline_seconds: int = Field(default=24 * 3600, gt=0, description="of a whole run")
    defaults: Resources = Resources()
    stages: dict[str, Resources] = {}

    @field_validator("stages")
    @classmethod
    def _stages_exist(cls, stages: dict[str, Resources]) -> dict[str, Resources]:
        if unknown := sorted(stages.keys() - set(STAGES)):
            raise ValueError(f"no stage '{unknown[0]}'; the stages are {', '.join(STAGES)}")
        if several := [name for name, own in stages.items() if own.nodes > 1 and name != "train"]:
            raise ValueError(f"{several[0]}: only train runs on several nodes")
        return stages

    @model_validator(mode="after")
    def _a_rollout_has_a_key(self) -> "PlatformSettings":
        if self.serving_namespace and self.serving_key is None:
            raise ValueError(
                "serving_namespace: needs serving_key, the Secret and key of an API key with the "
                "role recommend; serving refuses the smoke test without one"
            )
        return self

    @classmethod
    def load(cls, path: Path) -> "PlatformSettings":
        """Read a YAML file.

        Raises:
            SettingsError: it is missing, is not YAML, or a field does not fit; one line.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            return cls.model_validate(values)
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise SettingsError(f"{path}: not UTF-8, at byte {error.start}") from None
        except yaml.YAMLError as error:
            raise SettingsError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
        except ValidationError as error:
            problem = ": ".join(filter(None, first_problem(error)))
            raise SettingsError(f"{path}: {problem}") from None

    @field_validator("defaults")
    @classmethod
    def _one_node_by_default(cls, defaults: Resources) -> Resources:
        if defaults.nodes > 1:
            raise ValueError("only train runs on several nodes")
        return defaults

    def shared_profile(self) -> str:
        """The feature profile, if all pods and hosts meet in its stores.

        Raises:
            SettingsError: it is unknown, or the local one, as it is where no file says otherwise,
                whose SQLite files would be on the volume of many hosts; or nothing says where Redis
                is.
        """
        setting = f"platform settings: environment.{PROFILE_SETTING}"
        profile = self.environment.get(PROFILE_SETTING, PROFILES[0])
        if profile not in PROFILES:
            known = " or ".join(PROFILES[1:])
            raise SettingsError(f"{setting}: '{profile}' is unknown; choose {known}")
        if profile == PROFILES[0]:
            raise SettingsError(
                f"{setting} is local, whose SQLite files do not work on a network volume; "
                "production, as in deploy/platform.yaml"
            )
        given = {*self.environment, *(name for s in self.secrets for name in s.variables)}
        if missing := [name for name in _REDIS if name not in given]:
            raise SettingsError(
                f"platform settings: nothing gives pods {' and '.join(missing)}, which the profile "
                f"{profile} needs; `secrets`, as in deploy/platform.yaml"
            )
        return profile

    def resources(self, stage: str) -> Resources:
        """The defaults, with what the file says about this stage on top."""
        own = self.stages.get(stage, Resources())
        if stage == "refit" and stage not in self.stages and "train" in self.stages:
            own = _on_one_node(self.stages["train"])  # it is a training, too
        return self.defaults.model_copy(
            update={name: getattr(own, name) for name in own.model_fields_set}
        )


def _on_one_node(resources: Resources) -> Resources:
    given = resources.model_dump(exclude_unset=True, exclude={"nodes"})
    return Resources.model_validate(given)


def on_platform(pipeline: GraphComponent, settings: PlatformSettings) -> GraphComponent:
    """The same pipeline with the platform's settings on every task, ready to compile."""
    define: Callable[..., Any] = pipeline.pipeline_func

    @functools.wraps(define)
    def define_on_platform(*args: Any, **kwargs: Any) -> None:
        # Also without a Pushgateway: it lets the next run begin.
        inputs = dict(zip(pipeline.component_spec.inputs, args, strict=False)) | kwargs
        outcome = report_outcome(
            pushgateway=settings.pushgateway or "",
            run_dir=inputs["run_dir"],
            scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        )
        with dsl.ExitHandler(outcome, name="pipeline"):
            define(*args, **kwargs)
        for name, task in Pipeline.get_default_pipeline().tasks.items():
            place(task, settings, settings.resources(name.replace("-", "_")))
            if name == "deploy" and settings.serving_namespace:
                task.set_env_variable("SASREC_ROLLOUT_NAMESPACE", settings.serving_namespace)
                task.set_env_variable("SASREC_ROLLOUT_IMAGE", IMAGE)
                secret = settings.serving_key
                assert secret is not None  # the settings are refused without it
                kubernetes.use_secret_as_env(
                    task, secret.name, {secret.key: "SASREC_ROLLOUT_API_KEY"}
                )

    return dsl.pipeline(
        name=pipeline.name,
        description=pipeline.description,
        pipeline_root=settings.artifact_root,
        pipeline_config=dsl.PipelineConfig(
            ttl_seconds_after_finished=settings.keep_seconds,
            active_deadline_seconds=settings.deadline_seconds,
        ),
    )(define_on_platform)


def place(task: dsl.PipelineTask, settings: PlatformSettings, resources: Resources) -> None:
    """Give a task's pod its resources, volume, secrets, retries and time limit."""
    # Stages change the site, so a remembered answer is no substitute for running them.
    task.set_caching_options(False)
    if resources.nodes > 1:
        # The stage's own pod only starts the nodes and waits for them.
        task.set_env_variable(VARIABLE, _train_job(settings, resources).model_dump_json())
        limits = {"retries", "backoff_seconds", "timeout_seconds"}
        resources = settings.defaults.model_copy(update=resources.model_dump(include=limits))
    task.set_cpu_request(resources.cpu)
    task.set_memory_request(resources.memory)
    task.set_memory_limit(resources.memory)
    if resources.accelerators:
        task.set_accelerator_type(resources.accelerator)
        task.set_accelerator_limit(resources.accelerators)
    for label, value in resources.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in resources.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump())
    if resources.retries:
        task.set_retry(
            resources.retries,
            backoff_duration=f"{resources.backoff_seconds}s",
            backoff_factor=BACKOFF_FACTOR,
            backoff_max_duration=f"{retrying_seconds(resources)}s",
        )
    kubernetes.set_timeout(task, resources.timeout_seconds)
    kubernetes.mount_pvc(task, settings.volume_claim, settings.mount_path)
    kubernetes.set_security_context(task, run_as_non_root=True)
    if settings.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(settings.image_pull_secrets))
    for variable, value in settings.environment.items():
        task.set_env_variable(variable, value)
    for secret in settings.secrets:
        keys = {key: variable for variable, key in secret.variables.items()}
        kubernetes.use_secret_as_env(task, secret.name, keys)


def retrying_seconds(resources: Resources) -> int:
    """How long a stage may take with all its attempts and the pauses between them.

    Argo gives up on a stage that is older than this, counted from the start of its first attempt
    (upstream argo-workflows `workflow/controller/operator.go`, `maxDuration`), so every attempt
    must fit. What is retried at all is Argo's `retryPolicy`, which a pipeline cannot set: see
    "What is tried again" in docs/kubeflow.md.
    """
    attempts, pauses = resources.retries + 1, BACKOFF_FACTOR**resources.retries - 1
    slack = attempts * _POD_START_SECONDS
    return attempts * resources.timeout_seconds + pauses * resources.backoff_seconds + slack


def _train_job(settings: PlatformSettings, resources: Resources) -> TrainJobSettings:
    devices = {resources.accelerator: str(resources.accelerators)} if resources.accelerators else {}
    return TrainJobSettings(
        image=IMAGE,
        nodes=resources.nodes,
        processes=max(1, resources.accelerators),
        requests={"cpu": resources.cpu, "memory": resources.memory},
        limits={"memory": resources.memory, **devices},
        environment=settings.environment,
        image_pull_secrets=settings.image_pull_secrets,
        node_selector=resources.node_selector,
        tolerations=tuple(t.model_dump(exclude_none=True) for t in resources.tolerations),
        timeout_seconds=resources.timeout_seconds,
    )
