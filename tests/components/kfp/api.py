"""The v2beta1 API over HTTP, typed by KFP's own models, and the runs that it starts."""

import email.parser
import email.policy
import json
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as kfp_api

from tests.components.kfp.documents import Package, Refused, Version
from tests.components.kfp.driver import RunFacts
from tests.components.kfp.recurring import recurring_run_refusal
from tests.components.kfp.workflow import Installation, Workflow

API = "/apis/v2beta1"
MODELS = {
    "pipelines": kfp_api.V2beta1Pipeline,
    "pipeline_versions": kfp_api.V2beta1PipelineVersion,
    "experiments": kfp_api.V2beta1Experiment,
    "runs": kfp_api.V2beta1Run,
    "recurring_runs": kfp_api.V2beta1RecurringRun,
}
LISTS = {
    "pipelines": kfp_api.V2beta1ListPipelinesResponse,
    "pipeline_versions": kfp_api.V2beta1ListPipelineVersionsResponse,
    "experiments": kfp_api.V2beta1ListExperimentsResponse,
    "runs": kfp_api.V2beta1ListRunsResponse,
    "recurring_runs": kfp_api.V2beta1ListRecurringRunsResponse,
}
IDS = {name: f"{name.removesuffix('s')}_id" for name in MODELS}


class KfpServer:
    """What a server would hold, and the faults it is told to have.

    Attributes:
        tables: the stored objects, per collection.
        requests: "METHOD /path" of every request, in order.
        faults: the next answers to requests whose "METHOD /path" matches a pattern: a status, or
            "hang" (no answer in time), "lost" (done, but the answer never arrives), or
            "created-by-other" (409, because another client just created the same).
        token: what a request must bear, when set.
        namespaces: where this token may act.
        version: of the server; what it does not know it drops or leaves as it is.
        tag_name: what it says of its version, where that differs.
        packages: the stored documents, per pipeline version.
        default_account: what a run acts as that names no account.
        on_run: is told the id of each run that is created.
    """

    def __init__(self) -> None:
        self.tables: dict[str, list[Any]] = {name: [] for name in MODELS}
        self.requests: list[str] = []
        self.faults: list[tuple[str, int | str]] = []
        self.token: str | None = None
        self.namespaces = {"", "team-a"}
        self.version: Version = (2, 17, 0)
        self.tag_name: str | None = None
        self.packages: dict[str, Package] = {}
        self.default_account = "default-editor"
        self.on_run: Callable[[str], None] | None = None
        self._client = kfp_api.ApiClient()

    def fail(self, pattern: str, *answers: int | str) -> None:
        """Give these answers, one each, to the next requests that match."""
        self.faults.extend((pattern, answer) for answer in answers)

    def count(self, pattern: str) -> int:
        """How many requests matched."""
        return sum(re.fullmatch(pattern, request) is not None for request in self.requests)

    def set_run(self, run_id: str, state: str, tasks: dict[str, str]) -> None:
        """Move a run on, as the workflow controller would.

        Tasks have no errors: upstream `backend/src/apiserver/server/api_converter.go`,
        `toApiPipelineTaskDetail`, leaves them out.
        """
        run = self._run(run_id)
        run.state = state
        run.run_details = kfp_api.V2beta1RunDetails(
            task_details=[
                kfp_api.V2beta1PipelineTaskDetail(display_name=name, state=task_state)
                for name, task_state in tasks.items()
            ]
        )

    def execute(self, run_id: str, installation: Installation) -> Workflow:
        """Run a run to its end on a cluster, as the workflow controller would."""
        run = self._run(run_id)
        package = self.packages[run.pipeline_version_reference.pipeline_version_id]
        name = run.display_name
        facts = RunFacts(run_id, name, f"sasrec-{run_id[:5]}", run.created_at, self.version)
        workflow = Workflow(package, facts, installation, run.service_account)
        state = workflow.run(run.runtime_config.parameters)
        # Argo's groups around the tasks are told as tasks too: the root's, and each pod's own.
        self.set_run(run_id, state, {"root": state, "executor": state} | workflow.states)
        return workflow

    def tick(self, name: str, at: datetime, late_seconds: float = 3) -> str:
        """Start the run of a recurring run that is due, as its controller does; its id.

        The parameters are handed over as they are, macros and all: upstream
        `backend/src/crd/controller/scheduledworkflow/controller.go`.
        """
        [recurring] = [r for r in self.tables["recurring_runs"] if r.display_name == name]
        fields = {
            "display_name": f"{name}-{at:%Y%m%d%H%M}",
            "experiment_id": recurring.experiment_id,
            "pipeline_version_reference": recurring.pipeline_version_reference,
            "runtime_config": recurring.runtime_config,
            "service_account": recurring.service_account,
        }
        status, answer = self._create("runs", self._client.sanitize_for_serialization(fields))
        if status != 200:
            raise Refused(answer["message"])
        self._run(answer["run_id"]).created_at = at + timedelta(seconds=late_seconds)
        return answer["run_id"]

    def _run(self, run_id: str) -> Any:
        return next(run for run in self.tables["runs"] if run.run_id == run_id)

    # One request

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """Status and JSON of a request."""
        parts = urlsplit(url)
        path, query = parts.path.removeprefix(API), parse_qs(parts.query)
        request = f"{method} {path}"
        self.requests.append(request)
        fault = self._next_fault(request)
        if isinstance(fault, int):
            return fault, {
                "error": "told to fail",
                "code": fault,
                "message": f"told to fail {fault}",
            }
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"message": "Request header error: there is no user identity header."}
        if query.get("namespace", [""])[0] not in self.namespaces:
            return 403, {"message": "User is not authorized to list in this namespace"}
        status, answer = self._serve(method, path, query, headers, body)
        if fault == "created-by-other":
            return 409, {"message": "Already exists"}
        if fault == "lost":
            raise ConnectionAbortedError
        if fault == "hang":
            time.sleep(0.6)
        return status, answer

    def _next_fault(self, request: str) -> int | str | None:
        for index, (pattern, answer) in enumerate(self.faults):
            if re.fullmatch(pattern, request):
                del self.faults[index]
                return answer
        return None

    def _serve(
        self, method: str, path: str, query: dict[str, list[str]], headers: Any, body: bytes
    ) -> tuple[int, Any]:
        segments = path.strip("/").split("/")
        if segments == ["healthz"]:  # upstream `backend/src/apiserver/main.go`
            tag = self.tag_name or ".".join(map(str, self.version))
            return 200, {"commit_sha": "unknown", "tag_name": tag, "multi_user": True}
        if segments == ["pipelines", "upload_version"]:
            return self._upload_version(query, headers, body)
        collection = {"recurringruns": "recurring_runs", "versions": "pipeline_versions"}.get(
            segments[-1 if len(segments) % 2 else -2], segments[-1 if len(segments) % 2 else -2]
        )
        if len(segments) % 2:
            if method == "POST":
                return self._create(collection, json.loads(body))
            return self._list(collection, segments, query)
        found = [o for o in self.tables[collection] if getattr(o, IDS[collection]) == segments[-1]]
        if not found:
            return 404, {"message": f"{collection} {segments[-1]} not found"}
        if method == "DELETE":
            self.tables[collection].remove(found[0])
            return 200, {}
        return 200, self._client.sanitize_for_serialization(found[0])

    def _create(self, collection: str, fields: dict[str, Any]) -> tuple[int, Any]:
        unknown = fields.keys() - MODELS[collection].attribute_map.values()
        if unknown:
            return 400, {"message": f"unknown field {sorted(unknown)[0]}"}
        if fields.get("namespace", "") not in self.namespaces:
            return 403, {"message": "User is not authorized to create in this namespace"}
        if collection in ("runs", "recurring_runs") and (refusal := self._check_run(fields)):
            return 400, {"message": refusal}
        if collection == "recurring_runs" and (refusal := recurring_run_refusal(fields)):
            return 400, {"message": refusal}
        table = self.tables[collection]
        same = [o for o in table if o.display_name == fields["display_name"]]
        if same and collection not in ("runs", "recurring_runs"):
            return 409, {"message": "Already exists"}
        stored = self._client._ApiClient__deserialize(fields, MODELS[collection])
        setattr(stored, IDS[collection], str(uuid.uuid4()))
        stored.created_at = datetime.now(UTC)
        if collection in ("runs", "recurring_runs"):
            # pipelines/backend/src/apiserver/resource/resource_manager.go, `CreateJob`
            stored.service_account = stored.service_account or self.default_account
        if collection == "runs":
            stored.state = "PENDING"
        table.append(stored)
        if collection == "runs" and self.on_run:
            self.on_run(stored.run_id)
        return 200, self._client.sanitize_for_serialization(stored)

    def _list(
        self, collection: str, segments: list[str], query: dict[str, list[str]]
    ) -> tuple[int, Any]:
        found = list(self.tables[collection])
        for predicate in json.loads(query.get("filter", ['{"predicates": []}'])[0])["predicates"]:
            found = [o for o in found if getattr(o, predicate["key"]) == predicate["string_value"]]
        if "experiment_id" in query:
            found = [o for o in found if o.experiment_id == query["experiment_id"][0]]
        if collection == "pipeline_versions":
            found = [o for o in found if o.pipeline_id == segments[1]]
        answer = LISTS[collection](**{collection: found})
        return 200, self._client.sanitize_for_serialization(answer)

    def _upload_version(
        self, query: dict[str, list[str]], headers: Any, body: bytes
    ) -> tuple[int, Any]:
        if not headers["Content-Type"].startswith("multipart/form-data"):
            return 400, {"message": "not a multipart upload"}
        try:
            package = Package.read(_uploaded(headers["Content-Type"], body), self.version)
        except Refused as error:
            return 400, {"message": str(error)}
        fields = {
            "pipeline_id": query["pipelineid"][0],
            "name": query["name"][0],
            "display_name": query["display_name"][0],
            "tags": json.loads(query["tags"][0]),
        }
        status, answer = self._create("pipeline_versions", fields)
        if status == 200:
            self.packages[answer["pipeline_version_id"]] = package
        return status, answer

    def _check_run(self, fields: dict[str, Any]) -> str:
        """Why a run cannot be made of its pipeline version; empty where it can."""
        version = fields["pipeline_version_reference"]["pipeline_version_id"]
        try:
            given = fields.get("runtime_config", {}).get("parameters", {})
            self.packages[version].check_parameters(given)
        except Refused as error:
            return str(error)
        return ""


def _uploaded(content_type: str, body: bytes) -> str:
    """The one file of a multipart upload."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    [part] = message.iter_parts()
    return (
        part.get_content()
        if part.get_content_maintype() == "text"
        else part.get_payload(decode=True).decode()
    )
