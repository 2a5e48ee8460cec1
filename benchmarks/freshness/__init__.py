"""What it is worth that a model knows what happened until now, and what each ability adds."""
