"""The compiled pipeline on a Kubeflow Pipelines endpoint: upload, submit, schedule, status."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import kfp_server_api as kfp_api
from kfp_server_api.exceptions import ApiException
from rich.console import Console

from components.runners.cluster_run import RunStatus, watch_run
from components.runners.cron import six_fields
from components.runners.endpoint import DASHBOARD_PATH, DEFAULT_ACCOUNTS, ClusterError, Endpoint
from components.runners.server_version import REQUIRED, parse_version, unknown_to
from components.support.run_identity import MOMENT, RUN_ID
from components.support.settings import RunConfig
from sasrec.errors import SettingsError

T = TypeVar("T")

_LONGEST_NAME = 128
"""Bytes: the moment and the id that follow it in the folder's name have room."""
PIPELINE = "sasrec"
EXPERIMENT = "sasrec"


@dataclass(frozen=True)
class Schedule:
    """A recurring run, and whether this call had to change anything."""

    recurring_run_id: str
    changed: bool


class Cluster:
    """One Kubeflow Pipelines endpoint. Every method is safe to repeat after any failure.

    Raises, from every method:
        ClusterError: the cluster refused, or stayed away through all retries.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        client = self._client = endpoint.client()
        self._pipelines = kfp_api.PipelineServiceApi(client)
        self._uploads = kfp_api.PipelineUploadServiceApi(client)
        self._experiments = kfp_api.ExperimentServiceApi(client)
        self._runs = kfp_api.RunServiceApi(client)
        self._recurring = kfp_api.RecurringRunServiceApi(client)

    def server_version(self) -> str:
        """What the server says of its release; "unknown" from some builds."""
        # The typed answer leaves the name of the release out.
        answer, *_ = self.endpoint.call(
            "server version",
            self._client.call_api,
            "/apis/v2beta1/healthz",
            "GET",
            response_type="object",
            auth_settings=["Bearer"],
        )
        if not isinstance(answer, dict):
            raise ClusterError(
                f"{self.endpoint.endpoint} answers with a page, not as the API; behind Kubeflow's "
                f"dashboard the endpoint ends in {DASHBOARD_PATH}"
            )
        # Behind the dashboard Kubeflow's UI answers for the API server, in words of its own.
        return str(answer.get("tag_name") or answer.get("apiServerTagName") or "unknown")

    def require_version(self, package: Path) -> None:
        """Refuse a server that does not know all fields of a compiled pipeline.

        It would drop the whole platform document without a word: no volume, no secrets, no GPU.
        """
        tag = self.endpoint.server_version or self.server_version()
        wanted = ".".join(map(str, REQUIRED))
        version = parse_version(tag)
        if version is None:
            raise ClusterError(
                f"the server says version '{tag}', which is no release; if it is built from "
                f"{wanted} or later, set KF_PIPELINES_SERVER_VERSION={wanted}"
            )
        if unknown := unknown_to(version, package):
            raise ClusterError(
                f"Kubeflow Pipelines {tag} does not know {', '.join(unknown)} and would ignore the "
                f"whole platform document without a word; upgrade it to {wanted} or later"
            )

    def upload(
        self, package: Path, *, name: str = PIPELINE, tags: Mapping[str, str] | None = None
    ) -> kfp_api.V2beta1PipelineVersionReference:
        """Upload a compiled pipeline as a version named by its content, unless it is there."""
        version_name = f"{name}-{hashlib.sha256(package.read_bytes()).hexdigest()[:12]}"
        pipeline = self._ensure(
            f"pipeline {name}",
            lambda: self._find_pipeline(name),
            lambda **options: self._pipelines.pipeline_service_create_pipeline(
                kfp_api.V2beta1Pipeline(name=name, display_name=name, **self._scope()),
                **options,
            ),
        )
        version = self._ensure(
            f"pipeline version {version_name}",
            lambda: self._find_version(pipeline.pipeline_id, version_name),
            lambda **options: self._uploads.upload_pipeline_version(
                str(package),
                name=version_name,
                display_name=version_name,
                pipelineid=pipeline.pipeline_id,
                tags=json.dumps(dict(tags or {})),
                **options,
            ),
        )
        return kfp_api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
        )

    def submit(
        self,
        package: Path,
        config: RunConfig,
        *,
        home: str,
        run_name: str,
        experiment: str = EXPERIMENT,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Start one run and return its id; a run of that name in the experiment is that run.

        Raises:
            SettingsError: the name is none for a folder; nothing was sent.
        """
        _require_folder_name(run_name)
        self.require_version(package)
        version = self.upload(package, tags=tags)
        parameters = _parameters(config.model_dump(mode="json"), home, f"{run_name}-{RUN_ID}")
        return self._start(version, run_name, experiment, parameters)

    def run_to_end(
        self, package: Path, name: str, console: Console, *, timeout_seconds: float
    ) -> RunStatus:
        """Run another pipeline, without parameters, in an experiment of its name; how it ended.

        Raises:
            ClusterError: the time is up; the run goes on.
        """
        self.require_version(package)
        version = self.upload(package, name=name)
        run_id = self._start(version, f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}", name, {})
        watch_run(
            lambda: self.status(run_id),
            console,
            explain=lambda status: [],
            timeout_seconds=timeout_seconds,
        )
        return self.status(run_id)

    def _start(
        self,
        version: kfp_api.V2beta1PipelineVersionReference,
        run_name: str,
        experiment: str,
        parameters: dict[str, str],
    ) -> str:
        experiment_id = self._experiment(experiment)
        body = kfp_api.V2beta1Run(
            display_name=run_name,
            experiment_id=experiment_id,
            pipeline_version_reference=version,
            runtime_config=kfp_api.V2beta1RuntimeConfig(parameters=parameters),
            service_account=self.endpoint.service_account or None,
        )
        run = self._ensure(
            f"run {run_name}",
            lambda: self._find_run(experiment_id, run_name),
            lambda **options: self._runs.run_service_create_run(body, **options),
        )
        return run.run_id

    def schedule(
        self,
        package: Path,
        config: RunConfig,
        *,
        home: str,
        name: str,
        cron: str,
        experiment: str = EXPERIMENT,
        tags: Mapping[str, str] | None = None,
    ) -> Schedule:
        """Make `name` the one recurring run with this cron, version and settings.

        Each run trains on what had happened by its own moment (`components.support.run_identity`),
        also when a stage is repeated hours later; times missed while the cluster was down are not
        caught up, and no two runs of a schedule overlap.
        KFP cannot change a recurring run: a new one is created first, then older ones are deleted.

        Args:
            cron: five fields, or KFP's six with seconds first; UTC.

        Raises:
            SettingsError: `cron` is none, or the name is none for a folder; nothing was sent.
        """
        _require_folder_name(name)
        cron = six_fields(cron)
        self.require_version(package)
        version = self.upload(package, tags=tags)
        experiment_id = self._experiment(experiment)
        settings = config.model_dump(mode="json")
        wanted = kfp_api.V2beta1RecurringRun(
            display_name=name,
            experiment_id=experiment_id,
            pipeline_version_reference=version,
            runtime_config=kfp_api.V2beta1RuntimeConfig(
                parameters=_parameters(settings, home, f"{name}-{MOMENT}-{RUN_ID}")
            ),
            trigger=kfp_api.V2beta1Trigger(cron_schedule=kfp_api.V2beta1CronSchedule(cron=cron)),
            mode=kfp_api.RecurringRunMode.ENABLE,
            max_concurrency="1",
            no_catchup=True,
            service_account=self.endpoint.service_account or None,
        )
        created = False

        def create(**options: Any) -> kfp_api.V2beta1RecurringRun:
            nonlocal created
            created = True
            return self._recurring.recurring_run_service_create_recurring_run(wanted, **options)

        kept = self._ensure(
            f"schedule {name}",
            lambda: next(
                (s for s in self._schedules(experiment_id, name) if _same(s, wanted)), None
            ),
            create,
        )
        older = [
            schedule.recurring_run_id
            for schedule in self._schedules(experiment_id, name)
            if schedule.recurring_run_id != kept.recurring_run_id
        ]
        for recurring_run_id in older:
            self._delete_schedule(recurring_run_id)
        return Schedule(kept.recurring_run_id, changed=created or bool(older))

    def status(self, run_id: str) -> RunStatus:
        """What a run is doing."""
        run = self.endpoint.call(f"run {run_id}", self._runs.run_service_get_run, run_id)
        return RunStatus.of(run)

    def recent(self, count: int = 10) -> list[RunStatus]:
        """The newest runs of the namespace, newest first."""
        listed = self.endpoint.call(
            "runs",
            self._runs.run_service_list_runs,
            page_size=count,
            sort_by="created_at desc",
            **self._scope(),
        )
        return [self.status(run.run_id) for run in listed.runs or []]

    # What is there already

    def _ensure(self, what: str, find: Callable[[], T | None], create: Callable[..., T]) -> T:
        """Find it or create it; when creating failed half-way or someone was faster, find it."""

        def find_or_create(**options: Any) -> T:
            found = find()
            if found is not None:
                return found
            try:
                return create(**options)
            except ApiException as error:
                if error.status == 409 and (found := find()) is not None:
                    return found
                raise

        return self.endpoint.call(what, find_or_create)

    def _find_pipeline(self, name: str) -> kfp_api.V2beta1Pipeline | None:
        listed = self.endpoint.call(
            "pipelines",
            self._pipelines.pipeline_service_list_pipelines,
            filter=_named(name),
            **self._scope(),
        )
        return next(iter(listed.pipelines or []), None)

    def _find_version(self, pipeline_id: str, name: str) -> kfp_api.V2beta1PipelineVersion | None:
        listed = self.endpoint.call(
            "pipeline versions",
            self._pipelines.pipeline_service_list_pipeline_versions,
            pipeline_id,
            filter=_named(name),
        )
        return next(iter(listed.pipeline_versions or []), None)

    def _experiment(self, name: str) -> str:
        def find() -> kfp_api.V2beta1Experiment | None:
            listed = self.endpoint.call(
                "experiments",
                self._experiments.experiment_service_list_experiments,
                filter=_named(name),
                **self._scope(),
            )
            return next(iter(listed.experiments or []), None)

        body = kfp_api.V2beta1Experiment(display_name=name, **self._scope())
        found = self._ensure(
            f"experiment {name}",
            find,
            lambda **options: self._experiments.experiment_service_create_experiment(
                body, **options
            ),
        )
        return found.experiment_id

    def _find_run(self, experiment_id: str, name: str) -> kfp_api.V2beta1Run | None:
        listed = self.endpoint.call(
            "runs",
            self._runs.run_service_list_runs,
            experiment_id=experiment_id,
            filter=_named(name),
        )
        return next(iter(listed.runs or []), None)

    def _schedules(self, experiment_id: str, name: str) -> list[kfp_api.V2beta1RecurringRun]:
        listed = self.endpoint.call(
            "schedules",
            self._recurring.recurring_run_service_list_recurring_runs,
            experiment_id=experiment_id,
            filter=_named(name),
            page_size=100,
        )
        return listed.recurring_runs or []

    def _delete_schedule(self, recurring_run_id: str) -> None:
        try:
            self.endpoint.call(
                f"schedule {recurring_run_id}",
                self._recurring.recurring_run_service_delete_recurring_run,
                recurring_run_id,
            )
        except ClusterError as error:
            if not (isinstance(error.__cause__, ApiException) and error.__cause__.status == 404):
                raise

    def _scope(self) -> dict[str, str]:
        return {"namespace": self.endpoint.namespace} if self.endpoint.namespace else {}


def _parameters(settings: Mapping[str, Any], home: str, run_name: str) -> dict[str, str]:
    return {
        "config": json.dumps(settings),
        "home": home,
        "run_dir": f"{home.rstrip('/')}/runs/{run_name}",
    }


def _require_folder_name(name: str) -> None:
    """A run's folder bears its name, beneath `runs` and nowhere else."""
    if not name.strip() or "/" in name or len(name.encode()) > _LONGEST_NAME:
        raise SettingsError(
            f"--name '{name[:80]}': must name a folder: 1 to {_LONGEST_NAME} bytes without '/'"
        )


def _named(name: str) -> str:
    predicate = {"key": "display_name", "operation": "EQUALS", "string_value": name}
    return json.dumps({"predicates": [predicate]})


def _same(schedule: kfp_api.V2beta1RecurringRun, wanted: kfp_api.V2beta1RecurringRun) -> bool:
    return (
        schedule.trigger.cron_schedule is not None
        and schedule.trigger.cron_schedule.cron == wanted.trigger.cron_schedule.cron
        and schedule.pipeline_version_reference == wanted.pipeline_version_reference
        and schedule.runtime_config.parameters == wanted.runtime_config.parameters
        and schedule.mode == wanted.mode
        and schedule.no_catchup is True
        and schedule.max_concurrency == wanted.max_concurrency
        and schedule.service_account in _accounts(wanted.service_account)
    )


def _accounts(named: str | None) -> tuple[str | None, ...]:
    """What a server may answer of this account: where none is named, it fills in its own."""
    return (named,) if named else (None, "", *DEFAULT_ACCOUNTS)
