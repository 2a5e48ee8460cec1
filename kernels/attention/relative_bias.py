"""Relative biases: which entry of a learned table is added to which attention score.

``position_bias[h, min(i - j, max_distance)]``: by distance in the sequence, clipped (as in
Shaw et al., "Self-attention with relative position representations", 2018, section 3.2, with a
scalar per head as in T5: Raffel et al., 2020, section 2.1).

``time_bias[h, min(⌊log₂(1 + t_i - t_j)⌋, buckets - 1)]``: by the time between two events, in
octaves (the logarithmic buckets of HSTU: Zhai et al., "Actions speak louder than words", 2024,
appendix). With seconds, 32 buckets reach 68 years: bucket 6 is about a minute, 12 an hour, 16 a
day, 25 a year.
"""

import torch
from torch import Tensor

_FLOAT32_MANTISSA_BITS = 23
_FLOAT32_EXPONENT_OF_ONE = 127


def position_index(rows: Tensor, columns: Tensor, max_distance: int) -> Tensor:
    """Entry of the position table for each (row, column), shape of ``rows - columns``."""
    return (rows - columns).clamp(0, max_distance)


def time_bucket(rows: Tensor, columns: Tensor, buckets: int) -> Tensor:
    """Entry of the time table for each pair of int32 times, shape of ``rows - columns``.

    The exponent field of ``float32(1 + Δt)`` is the octave: no logarithm, and the same integer
    on every device. (Rounding to 24 bits can only move a Δt within 2⁻²⁴ of the next octave.)
    """
    elapsed = (rows - columns).clamp_min_(0).to(torch.float32).add_(1.0)
    octave = (elapsed.view(torch.int32) >> _FLOAT32_MANTISSA_BITS) - _FLOAT32_EXPONENT_OF_ONE
    return octave.clamp_max_(buckets - 1)


def relative_times(timestamps: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Seconds since each user's first event, int32 ``(T,)``; saturates at 68 years.

    Differences of these are those of the timestamps, in half the bytes. No host synchronisation.
    """
    tokens = timestamps.shape[0]
    token = torch.arange(tokens, device=timestamps.device)
    user = torch.searchsorted(cu_seqlens[1:].long(), token, right=True)
    first = timestamps[cu_seqlens.long()[user].clamp_max(max(tokens - 1, 0))]
    return (timestamps - first).clamp(0, 2**31 - 1).to(torch.int32)
