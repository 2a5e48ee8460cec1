"""The network, a trained model with its vocabulary, and the encoder of a single history."""
