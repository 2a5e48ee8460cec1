"""What serving costs, beside BentoML's own endpoint and plain FastAPI with the same model."""
