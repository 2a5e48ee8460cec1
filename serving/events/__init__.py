"""What users did: the durable log, and its way into the online history."""
