"""Why a stage failed: in its pod, since the API of Kubeflow Pipelines leaves a task's error out."""

import re
from collections.abc import Iterator

from kubernetes import client, config

from components.runners.cluster_run import RunStatus
from serving.release.kubernetes import ApiFailure, call, connect

_NODE_NAME = "workflows.argoproj.io/node-name"
_EXECUTOR = "executor"
_MAIN = "main"
_PAUSE_SECONDS = 0.5


def why_failed(status: RunStatus, namespace: str) -> list[str]:
    """Where to look for each failed stage, with the pod's own words where they can be read.

    Pods are asked of Kubernetes as the current kubeconfig or pod; without one, or without the right
    to list pods, the lines name the command alone.
    """
    option = f"-n {namespace} " if namespace else ""
    selector = f"pipeline/runid={status.run_id}"
    found = list(_failed_pods(namespace or "kubeflow", selector))
    lines = [
        f"stage {stage}: pod {pod}: {reason}; kubectl {option}logs {pod} -c {_MAIN}"
        for stage in status.failed
        for node, pod, reason in found
        if _task_of(node) == stage.replace("_", "-")
    ]
    if lines:
        return lines
    what = f"stage {', '.join(status.failed)} failed" if status.failed else "no stage failed"
    return [
        f"{what}; its log: kubectl {option}logs -l {selector} -c {_MAIN} --prefix --tail=100; its "
        f"pods, also those that never started: kubectl {option}describe pods -l {selector}"
    ]


def _task_of(node: str) -> str:
    """The task of a pod's node: `a.root(0).train(0).executor(1)` is of train; (n) are attempts."""
    *groups, last = (re.sub(r"\(\d+\)$", "", part) for part in node.split("."))
    return groups[-1] if last == _EXECUTOR and groups else last


def _failed_pods(namespace: str, selector: str) -> Iterator[tuple[str, str, str]]:
    """Argo's node, pod and reason of each pod of the run that failed; none where not to be had."""
    try:
        core = client.CoreV1Api(connect())
        pods = call(
            core.list_namespaced_pod,
            namespace,
            label_selector=selector,
            pause_seconds=_PAUSE_SECONDS,
        )
    except (config.ConfigException, *ApiFailure):
        return
    for pod in pods.items:
        if pod.status.phase == "Failed":
            node = (pod.metadata.annotations or {}).get(_NODE_NAME, "")
            yield node, pod.metadata.name, _reason(pod.status)


def _reason(status: client.V1PodStatus) -> str:
    """As the pod tells it: evicted and why, else how its main container ended."""
    if status.reason or status.message:
        return " ".join(f"{status.reason or ''} {status.message or ''}".split())
    for container in status.container_statuses or []:
        ended = container.state.terminated
        if container.name == _MAIN and ended:
            return f"{ended.reason} (exit code {ended.exit_code})"
    return "failed"
