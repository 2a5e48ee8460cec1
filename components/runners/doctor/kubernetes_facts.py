"""Reading a cluster: objects as JSON, and who may do what."""

from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from serving.release.kubernetes import call

_PAUSE_SECONDS = 0.5


class NotAllowed(Exception):
    """We may not look at it."""


class KubernetesFacts:
    """A cluster, asked as the current kubeconfig context. Nothing is changed.

    Raises, from every method:
        NotAllowed: we have no right to ask.
        serving.release.kubernetes.ApiFailure: the server stayed away.
    """

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    def get(self, path: str) -> dict[str, Any] | None:
        """An object or a list, by its path; None where it, or its kind, is not there."""
        try:
            return self._send("GET", path)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def namespaced(self, namespace: str, resource: str, name: str = "") -> dict[str, Any] | None:
        """One of the core kinds, such as secrets, or the list of them."""
        return self.get(f"/api/v1/namespaces/{namespace}/{resource}/{name}".rstrip("/"))

    def crd(self, name: str) -> dict[str, Any] | None:
        """A custom resource's definition, such as trainjobs.trainer.kubeflow.org."""
        return self.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")

    def allows(
        self,
        verb: str,
        group: str,
        resource: str,
        namespace: str,
        *,
        name: str = "",
        account: str | None = None,
    ) -> bool:
        """Whether we may, or the service account `account` of the namespace of runs may.

        Args:
            account: `namespace:name` of a service account; None asks for ourselves.
        """
        attributes = {
            "namespace": namespace,
            "verb": verb,
            "group": group,
            "resource": resource,
            "name": name,
        }
        kind = "SelfSubjectAccessReview" if account is None else "SubjectAccessReview"
        spec: dict[str, Any] = {"resourceAttributes": attributes}
        if account is not None:
            spec["user"] = f"system:serviceaccount:{account}"
            # A binding may name all accounts, or all of a namespace.
            groups = ["system:serviceaccounts", f"system:serviceaccounts:{account.split(':')[0]}"]
            spec["groups"] = [*groups, "system:authenticated"]
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        path = f"/apis/authorization.k8s.io/v1/{kind.lower()}s"
        return bool(self._send("POST", path, body)["status"]["allowed"])

    def _send(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            answer, *_ = call(
                self._api.call_api,
                path,
                method,
                body=body,
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                response_type="object",
                auth_settings=["BearerToken"],
                pause_seconds=_PAUSE_SECONDS,
            )
        except ApiException as error:
            if error.status in (401, 403):
                raise NotAllowed(f"{error.status} on {path}") from error
            raise
        return answer
