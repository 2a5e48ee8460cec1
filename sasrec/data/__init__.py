"""Sources, cleaning, splits, the vocabulary and packed sequences."""
