"""What a run decides about training on several nodes, and how it reaches the `train` component."""

import os
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

VARIABLE = "SASREC_TRAIN_JOB"
RUNTIME = "sasrec-training"
API_GROUP, API_VERSION = "trainer.kubeflow.org", "v1alpha1"


class TrainJobSettings(BaseModel):
    """What the platform settings say about training on nodes, as the launcher's environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    nodes: int = Field(ge=2)
    processes: int = Field(default=1, ge=1, description="per node: one for each device")
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    environment: dict[str, str] = {}
    image_pull_secrets: tuple[str, ...] = ()
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str], ...] = ()
    timeout_seconds: int = Field(default=6 * 3600, gt=0)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ
    ) -> "TrainJobSettings | None":
        """The settings in `SASREC_TRAIN_JOB`; None where training is on one node."""
        text = environment.get(VARIABLE)
        return cls.model_validate_json(text) if text else None
