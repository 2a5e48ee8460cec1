"""What serving survives: faults of each kind, brought about on real processes and counted."""
