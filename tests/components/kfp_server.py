"""A small Kubeflow Pipelines server: the v2beta1 API over HTTP, typed by KFP's own models."""

import json
import re
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as kfp_api

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
    """

    def __init__(self) -> None:
        self.tables: dict[str, list[Any]] = {name: [] for name in MODELS}
        self.requests: list[str] = []
        self.faults: list[tuple[str, int | str]] = []
        self.token: str | None = None
        self.namespaces = {"", "team-a"}
        self._client = kfp_api.ApiClient()

    def fail(self, pattern: str, *answers: int | str) -> None:
        """Give these answers, one each, to the next requests that match."""
        self.faults.extend((pattern, answer) for answer in answers)

    def count(self, pattern: str) -> int:
        """How many requests matched."""
        return sum(re.fullmatch(pattern, request) is not None for request in self.requests)

    def set_run(self, run_id: str, state: str, tasks: dict[str, str], **task_errors: str) -> None:
        """Move a run on, as the workflow controller would."""
        run = next(run for run in self.tables["runs"] if run.run_id == run_id)
        run.state = state
        run.run_details = kfp_api.V2beta1RunDetails(
            task_details=[
                kfp_api.V2beta1PipelineTaskDetail(
                    display_name=name,
                    state=task_state,
                    error=kfp_api.GoogleRpcStatus(message=task_errors[name])
                    if name in task_errors
                    else None,
                )
                for name, task_state in tasks.items()
            ]
        )

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
        table = self.tables[collection]
        same = [o for o in table if o.display_name == fields["display_name"]]
        if same and collection not in ("runs", "recurring_runs"):
            return 409, {"message": "Already exists"}
        stored = self._client._ApiClient__deserialize(fields, MODELS[collection])
        setattr(stored, IDS[collection], f"{collection}-{len(self.requests)}")
        stored.created_at = datetime.now(UTC)
        if collection == "runs":
            stored.state = "PENDING"
        table.append(stored)
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
        if b"pipelineInfo" not in body:
            return 400, {"message": "the file is not a compiled pipeline"}
        fields = {
            "pipeline_id": query["pipelineid"][0],
            "name": query["name"][0],
            "display_name": query["display_name"][0],
            "tags": json.loads(query["tags"][0]),
        }
        return self._create("pipeline_versions", fields)
