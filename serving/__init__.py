"""The online half: model registry, BentoML service, event log, metrics."""
