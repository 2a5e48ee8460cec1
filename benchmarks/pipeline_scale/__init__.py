"""What the pipeline's stages cost as data grows: seconds and memory of each, in its own process."""
