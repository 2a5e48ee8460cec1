"""Running it elsewhere: images, manifests, and what watches it."""
