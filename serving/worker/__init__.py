"""One serving process: its models, its queue, and the hot swap of versions."""
