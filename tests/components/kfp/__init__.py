"""One Kubeflow Pipelines server for the tests, which refuses what the real one refuses.

Each module names the upstream file whose rule it applies: `pipelines/` is kubeflow/pipelines at
2.17.0, `argo/` is argoproj/argo-workflows. Nothing of their code is here.
"""

from tests.components.kfp.api import KfpServer

__all__ = ["KfpServer"]
