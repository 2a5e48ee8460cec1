"""What the feature store costs: building, point-in-time extraction, appends, reads, freshness."""
