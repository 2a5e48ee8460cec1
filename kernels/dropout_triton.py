"""The attention dropout mask inside a Triton kernel; what it is says ``kernels/dropout.py``."""

import triton
import triton.language as tl

from kernels import dropout

GOLDEN = tl.constexpr(dropout.GOLDEN)
STREAMS = tl.constexpr(dropout.STREAMS)
ROW_MULTIPLIER = tl.constexpr(dropout.ROW_MULTIPLIER)
ROW_OFFSET = tl.constexpr(dropout.ROW_OFFSET)
COLUMN = tl.constexpr(dropout.COLUMN)


@triton.jit
def _mix(x):
    """lowbias32."""
    x = x ^ (x >> 16)
    x = x * 0x7FEB352D
    x = x ^ (x >> 15)
    x = x * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def _keys(seed, head, tokens, STREAM: tl.constexpr):
    """One int32 key for each token."""
    value = tl.load(seed)
    low = value.to(tl.uint32)
    high = (value >> 32).to(tl.uint32)
    lane = (head * STREAMS + STREAM).to(tl.uint32)
    first = _mix(low + lane * GOLDEN)
    second = _mix(first ^ high)
    key = _mix(_mix(tokens.to(tl.uint32) + second) + first)
    return key.to(tl.int32, bitcast=True)


@triton.jit
def row_keys(seed, head, rows):
    """Multiplier and offset of each row."""
    multiplier = _keys(seed, head, rows, ROW_MULTIPLIER) | 1
    return multiplier, _keys(seed, head, rows, ROW_OFFSET)


@triton.jit
def column_keys(seed, head, columns):
    """One key for each column."""
    return _keys(seed, head, columns, COLUMN)


@triton.jit
def drop(weights, multiplier, offset, column, threshold, ROWS_FIRST: tl.constexpr):
    """A tile's weights, (rows, columns) or transposed, with zeros for the dropped ones."""
    if ROWS_FIRST:
        bits = multiplier[:, None] * column[None, :] + offset[:, None]
    else:
        bits = multiplier[None, :] * column[:, None] + offset[None, :]
    return tl.where(bits > threshold, weights, 0.0)
