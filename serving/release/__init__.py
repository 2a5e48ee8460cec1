"""Bringing a version to users: proof on a real server, parity, roll-out, roll-back."""
