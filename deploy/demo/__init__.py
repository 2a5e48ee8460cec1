"""The whole system alive on one machine: service, Prometheus, and a crowd that clicks."""
