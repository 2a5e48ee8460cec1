"""Kernels of the recommender: packed causal attention and the loss over a large catalogue.

On CUDA they are Triton kernels, elsewhere blocked torch; the functions are the same.
"""

from kernels.attention.function import jagged_causal_attention
from kernels.cross_entropy.function import next_item_cross_entropy, sampled_cross_entropy

__all__ = ["jagged_causal_attention", "next_item_cross_entropy", "sampled_cross_entropy"]
