"""Kernels of the recommender: packed causal attention and the loss over a large catalogue.

On CUDA they are Triton kernels, elsewhere blocked torch; the functions are the same.
"""

from kernels.attention import jagged_causal_attention

__all__ = ["jagged_causal_attention"]
