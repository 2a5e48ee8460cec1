"""The same model behind what one would write first: no history, no policy, no log, no keys."""
