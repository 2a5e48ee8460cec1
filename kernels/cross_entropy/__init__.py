"""Next-item losses over a large catalogue: ``function.py`` is their entry."""
