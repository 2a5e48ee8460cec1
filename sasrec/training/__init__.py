"""From packed sequences to weights: batches, losses, updates, checkpoints."""
