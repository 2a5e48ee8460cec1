"""Scores, ranks and metrics of any model or baseline over the full catalogue."""
