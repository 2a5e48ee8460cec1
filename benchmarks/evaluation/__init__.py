"""What an evaluation costs, and whether off-policy intervals hold what they say."""
