"""What is measured, each a command with committed results: `python -m benchmarks.NAME --help`."""
