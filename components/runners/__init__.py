"""Where a pipeline runs: this machine, or a Kubeflow Pipelines endpoint."""
