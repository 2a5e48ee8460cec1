"""All checks, one after the other."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent
from kubernetes import config

from components.runners.cluster import Cluster
from components.runners.doctor import (
    compiled,
    network,
    nodes,
    rights,
    secrets,
    server,
    storage,
    surroundings,
)
from components.runners.doctor.finding import Finding, Verdict, bad, could_not_look, not_needed
from components.runners.doctor.kubernetes_facts import KubernetesFacts, NotAllowed
from components.runners.doctor.target import Target
from components.runners.endpoint import PROFILE_ACCOUNT, SINGLE_USER_ACCOUNT, ClusterError, Endpoint
from components.runners.platform import PlatformSettings, on_platform
from serving.release.kubernetes import ApiFailure, connect

CLUSTER_CHECKS = (
    *rights.CHECKS,
    *storage.CHECKS,
    *secrets.CHECKS,
    *nodes.CHECKS,
    *network.CHECKS,
    *surroundings.CHECKS,
)
NOT_NEEDED = (rights.ours, surroundings.prometheus, surroundings.retry_policy)
IN_PROBE = (
    rights.runs_account,
    storage.claim,
    secrets.artifact_store,
    secrets.pull_secrets,
    nodes.image_on_nodes,
)
"""What the probe's pods need as a run's do."""


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
        kubernetes, no_kubernetes = _kubernetes()
        try:
            endpoint = Endpoint.from_environment()
        except ClusterError as error:
            yield Target(
                platform,
                package,
                kubernetes=kubernetes,
                no_kubeflow=str(error),
                no_kubernetes=no_kubernetes,
            )
            return
        yield Target(
            platform,
            package,
            Cluster(endpoint),
            kubernetes,
            no_kubernetes=no_kubernetes,
            namespace=endpoint.namespace or "kubeflow",
            account=endpoint.service_account
            or (PROFILE_ACCOUNT if endpoint.namespace else SINGLE_USER_ACCOUNT),
        )


def _kubernetes() -> tuple[KubernetesFacts | None, str]:
    """The cluster, or why there is none."""
    try:
        return KubernetesFacts(connect()), ""
    except config.ConfigException as error:
        return None, f"no kubeconfig leads to a cluster: {error}"


def check_all(target: Target, *, offline: bool) -> Iterator[Finding]:
    """Every finding, in the order in which a run would meet it."""
    for of_documents in compiled.CHECKS:
        yield from of_documents(target)
    if offline:
        return
    if target.kubeflow is None:
        yield bad(
            "Kubeflow Pipelines", target.no_kubeflow, "export KF_PIPELINES_ENDPOINT=https://..."
        )
    else:
        for of_server in server.CHECKS:
            yield from of_server(target)
    if target.kubernetes is None:
        yield bad("Kubernetes", target.no_kubernetes, "export KUBECONFIG=...")
        return
    for of_cluster in CLUSTER_CHECKS:
        name = of_cluster.__name__.replace("_", " ")
        try:
            yield from of_cluster(target, target.kubernetes)
        except NotAllowed as error:
            if of_cluster in NOT_NEEDED:
                yield not_needed(name, f"you may not look at it ({error})")
            else:
                yield could_not_look(name, error, in_probe=of_cluster in IN_PROBE)
        except ApiFailure as error:
            said = getattr(error, "reason", None) or type(error).__name__
            yield bad("Kubernetes", f"{name}: {said}", "check KUBECONFIG")
            return


def would_start(findings: list[Finding]) -> bool:
    """Whether a run would start: all that it needs was seen."""
    return not {Verdict.BAD, Verdict.UNSEEN} & {finding.verdict for finding in findings}


def nothing_missing(findings: list[Finding]) -> bool:
    """Whether nothing that a run needs was seen to be missing."""
    return Verdict.BAD not in {finding.verdict for finding in findings}
