"""`train` on several nodes: the TrainJob that Kubeflow Trainer turns into pods under `torchrun`.

The site's volume is where the launcher and the nodes meet: a node reads its work from a folder
there and writes the checkpoint and the model there. The pods' volume, account and restarts are in
`deploy/kubernetes/training`; what a run decides (image, nodes, devices) is in the TrainJob.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubeflow_trainer_api import models

from components.nodes.train_job import API_GROUP, API_VERSION, RUNTIME, TrainJobSettings

MANAGER = "sasrec.pipeline/train"
MAX_RESTARTS = 3
# Pods of one job may be scheduled minutes apart.
_RENDEZVOUS_SECONDS = 900


def node_command(name: str, folder: Path) -> list[str]:
    """What each node runs. Trainer sets `PET_*`, torchrun's options, and Kubernetes fills in `$()`.

    A process that dies makes torchrun start all processes again, on all nodes, from the
    checkpoint: the c10d rendezvous tells the others. A node that dies restarts all pods: see
    `deploy/kubernetes/training`.
    """
    return [
        "torchrun",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=$(PET_MASTER_ADDR):$(PET_MASTER_PORT)",
        f"--rdzv-id={name}",
        f"--rdzv-conf=join_timeout={_RENDEZVOUS_SECONDS},read_timeout={_RENDEZVOUS_SECONDS}",
        f"--max-restarts={MAX_RESTARTS}",
        "--module",
        "components.nodes.train_node",
        str(folder),
    ]


def train_job(
    name: str, folder: Path, settings: TrainJobSettings, owner: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The manifest, built from the API's published models.

    Args:
        name: of the TrainJob, its pods and its rendezvous: RFC 1035, at most 40 characters, so
            that the names of its pods stay under 63.
        folder: on the site's volume, as the pods see it.
        owner: the object whose removal removes the job: apiVersion, kind, name and uid.
    """
    pod = models.TrainerV1alpha1PodSpecPatch(
        nodeSelector=settings.node_selector or None,
        tolerations=[models.IoK8sApiCoreV1Toleration(**t) for t in settings.tolerations] or None,
        imagePullSecrets=[
            models.IoK8sApiCoreV1LocalObjectReference(name=secret)
            for secret in settings.image_pull_secrets
        ]
        or None,
    )
    job = models.TrainerV1alpha1TrainJob(
        apiVersion=f"{API_GROUP}/{API_VERSION}",
        kind="TrainJob",
        metadata=models.IoK8sApimachineryPkgApisMetaV1ObjectMeta(
            name=name,
            labels={"app.kubernetes.io/name": RUNTIME},
            ownerReferences=[models.IoK8sApimachineryPkgApisMetaV1OwnerReference(**owner)]
            if owner
            else None,
        ),
        spec=models.TrainerV1alpha1TrainJobSpec(
            runtimeRef=models.TrainerV1alpha1RuntimeRef(
                apiGroup=API_GROUP, kind="TrainingRuntime", name=RUNTIME
            ),
            activeDeadlineSeconds=settings.timeout_seconds,
            trainer=models.TrainerV1alpha1Trainer(
                image=settings.image,
                command=node_command(name, folder),
                numNodes=settings.nodes,
                numProcPerNode=settings.processes,
                resourcesPerNode=models.IoK8sApiCoreV1ResourceRequirements(
                    requests=_quantities(settings.requests),
                    limits=_quantities(settings.limits),
                ),
                env=[
                    models.IoK8sApiCoreV1EnvVar(name=variable, value=value)
                    for variable, value in settings.environment.items()
                ],
            ),
            runtimePatches=_patches(pod) if pod.to_dict() else None,
        ),
    )
    return job.to_dict()


def _quantities(
    values: Mapping[str, str],
) -> dict[str, models.IoK8sApimachineryPkgApiResourceQuantity]:
    quantity = models.IoK8sApimachineryPkgApiResourceQuantity
    return {name: quantity(value) for name, value in values.items()}


def _patches(
    pod: models.TrainerV1alpha1PodSpecPatch,
) -> list[models.TrainerV1alpha1RuntimePatch]:
    job = models.TrainerV1alpha1JobTemplatePatch(
        spec=models.TrainerV1alpha1JobSpecPatch(
            template=models.TrainerV1alpha1PodTemplatePatch(spec=pod)
        )
    )
    node = models.TrainerV1alpha1ReplicatedJobPatch(name="node", template=job)
    jobs = models.TrainerV1alpha1JobSetSpecPatch(replicatedJobs=[node])
    runtime = models.TrainerV1alpha1TrainingRuntimeSpecPatch(
        template=models.TrainerV1alpha1JobSetTemplatePatch(spec=jobs)
    )
    return [models.TrainerV1alpha1RuntimePatch(manager=MANAGER, trainingRuntimeSpec=runtime)]
