"""From a history to a slate: one loaded version, its ranking and what may be shown."""
