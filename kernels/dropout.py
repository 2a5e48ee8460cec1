"""The attention dropout mask: a counter-based hash, and its replica in plain torch.

A mask that is recomputed in the backward pass need not be stored, so it has to be a pure function
of (seed, head, row, column). Philox, the usual choice, costs about forty integer operations a
score, several times the arithmetic of attention itself at head dimension 64. Here all mixing is
done once per row and once per column, and a score costs one multiply-add and one comparison::

    kept(row, col)  <=>  (a[row] · c[col] + b[row]) mod 2³²  >  threshold     (signed, a odd)

This is multiply-shift hashing: for fixed columns and random (a, b) it is two-independent
(M. Dietzfelbinger, "Universal hashing and k-wise independent random variables via integer
arithmetic without primes", STACS 1996). a, b and c are outputs of a 32-bit finaliser with full
avalanche (lowbias32, C. Wellons, "Prospecting for hash functions", 2018) over the token index, the
head and both halves of the seed. ``tests/kernels/test_dropout.py`` holds the mask to binomial
bounds by row, column, head and seed.

``row`` and ``col`` are positions on the packed token axis, so users do not share masks.
"""

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
GOLDEN = 0x9E3779B9
# One stream of keys each for the row's multiplier, the row's offset and the column.
ROW_MULTIPLIER, ROW_OFFSET, COLUMN = 0, 1, 2
STREAMS = 3


def threshold(dropout_p: float) -> int:
    """The signed 32-bit value above which a hash means "kept": a share 1 - p of them, to 2⁻³²."""
    return min(int(dropout_p * 2**32), 2**32 - 1) - 2**31


def _mix(x: Tensor) -> Tensor:
    """lowbias32 on int64 tensors that hold 32-bit unsigned values."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _MASK
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def _keys(seed: Tensor, stream: int, heads: int, tokens: int) -> Tensor:
    """One 32-bit key for each head and token, as an int32 tensor ``(heads, tokens)``."""
    device = seed.device
    low, high = seed & _MASK, (seed >> 32) & _MASK
    lane = torch.arange(heads, device=device)[:, None] * STREAMS + stream
    first = _mix((low + lane * GOLDEN) & _MASK)
    second = _mix(first ^ high)
    token = torch.arange(tokens, device=device)[None, :]
    # Not `(token + first) ^ second`: at token 0, with high = 0, that is 0 whatever the seed.
    key = _mix((_mix((token + second) & _MASK) + first) & _MASK)
    return torch.where(key >= 2**31, key - 2**32, key).to(torch.int32)


def hash_keys(seed: Tensor, heads: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """The hash's keys: multiplier and offset of each row, and column key.

    Args:
        seed: int64 tensor with one element.
        heads: number of heads.
        tokens: number of tokens on the packed axis.

    Returns:
        Three int32 tensors ``(heads, tokens)``; the first holds odd numbers.
    """
    seed = seed.reshape(())
    multiplier = _keys(seed, ROW_MULTIPLIER, heads, tokens) | 1
    offset = _keys(seed, ROW_OFFSET, heads, tokens)
    return multiplier, offset, _keys(seed, COLUMN, heads, tokens)


def keep_mask(seed: Tensor, heads: int, tokens: int, dropout_p: float) -> Tensor:
    """The whole mask ``(heads, tokens, tokens)`` as booleans, true where a weight is kept.

    For tests and the reference: the kernels compute it a tile at a time.
    """
    multiplier, offset, column = hash_keys(seed, heads, tokens)
    bits = multiplier[:, :, None] * column[:, None, :] + offset[:, :, None]
    return bits > threshold(dropout_p)
