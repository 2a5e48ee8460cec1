"""What becomes of a recommender that learns from its own choices: four ways to serve and learn."""
