"""All checks, one after the other."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent
from kubernetes import config

from components.runners.cluster import Cluster
from components.runners.doctor import compiled, rights, server, storage, surroundings
from components.runners.doctor.finding import Finding, Verdict, bad, unseen
from components.runners.doctor.kubernetes_facts import KubernetesFacts, NotAllowed
from components.runners.doctor.target import Target
from components.runners.endpoint import PROFILE_ACCOUNT, SINGLE_USER_ACCOUNT, ClusterError, Endpoint
from components.runners.platform import PlatformSettings, on_platform
from serving.release.kubernetes import ApiFailure, connect

CLUSTER_CHECKS = (
    *rights.CHECKS,
    *storage.CHECKS,
    *surroundings.CHECKS,
)


@contextmanager
def checked_target(
    pipeline: GraphComponent, platform: PlatformSettings, *, offline: bool
) -> Iterator[Target]:
    """The pipeline compiled with these settings, and the cluster that the environment leads to.

    Args:
        offline: leave the cluster out.
    """
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(on_platform(pipeline, platform), str(package))
        if offline:
            yield Target(platform, package)
            return
        try:
            endpoint = Endpoint.from_environment()
        except ClusterError:
            yield Target(platform, package, kubernetes=_kubernetes())
            return
        yield Target(
            platform,
            package,
            Cluster(endpoint),
            _kubernetes(),
            namespace=endpoint.namespace or "kubeflow",
            account=endpoint.service_account
            or (PROFILE_ACCOUNT if endpoint.namespace else SINGLE_USER_ACCOUNT),
        )


def _kubernetes() -> KubernetesFacts | None:
    try:
        return KubernetesFacts(connect())
    except config.ConfigException:
        return None


def check_all(target: Target, *, offline: bool) -> Iterator[Finding]:
    """Every finding, in the order in which a run would meet it."""
    for of_documents in compiled.CHECKS:
        yield from of_documents(target)
    if offline:
        return
    if target.kubeflow is None:
        yield bad(
            "Kubeflow Pipelines", "no endpoint is named", "export KF_PIPELINES_ENDPOINT=https://..."
        )
    else:
        for of_server in server.CHECKS:
            yield from of_server(target)
    if target.kubernetes is None:
        yield bad("Kubernetes", "no kubeconfig leads to a cluster", "export KUBECONFIG=...")
        return
    for of_cluster in CLUSTER_CHECKS:
        name = of_cluster.__name__.replace("_", " ")
        try:
            yield from of_cluster(target, target.kubernetes)
        except NotAllowed as error:
            yield unseen(name, f"you may not look at it ({error})")
        except ApiFailure as error:
            yield bad("Kubernetes", f"{name}: {type(error).__name__}", "check KUBECONFIG")
            return


def would_start(findings: list[Finding]) -> bool:
    """Whether a run would start: nothing that it needs is missing."""
    return all(finding.verdict is not Verdict.BAD for finding in findings)
