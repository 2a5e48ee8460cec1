"""Kernels of the recommender: packed causal attention and the loss over a large catalogue.

On CUDA they are Triton kernels, elsewhere blocked torch; the functions are the same.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernels.attention.function import jagged_causal_attention
    from kernels.cross_entropy.function import next_item_cross_entropy, sampled_cross_entropy

__all__ = ["jagged_causal_attention", "next_item_cross_entropy", "sampled_cross_entropy"]

_HOMES = {
    "jagged_causal_attention": "kernels.attention.function",
    "next_item_cross_entropy": "kernels.cross_entropy.function",
    "sampled_cross_entropy": "kernels.cross_entropy.function",
}


def __getattr__(name: str) -> object:
    """Load a function when it is asked for: who checks a setting must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kernels' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
