"""Causal attention on packed sequences: ``function.py`` is its entry."""
