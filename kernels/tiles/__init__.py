"""Which tile a GPU gets, the commands that make the table of them, and the proof that it fits."""
