"""Training on several nodes: the TrainJob, and what each of its processes does."""
