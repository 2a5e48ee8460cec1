"""A search for settings: Optuna over the typed configuration, judged by validation alone."""
