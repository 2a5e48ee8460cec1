"""What the Triton kernels of both operations share: tiles of rows, and one step of a softmax."""

import triton
import triton.language as tl

from kernels import precision

LOG2_E = tl.constexpr(precision.LOG2_E)
LN_2 = tl.constexpr(precision.LN_2)


@triton.jit
def load_rows(
    pointer, rows, stride, limit,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Rows of one head as a tile ``(rows, BLOCK_D)``; if MASKED, zero from ``limit`` on."""
    dim = tl.arange(0, BLOCK_D)
    address = pointer + rows.to(tl.int64)[:, None] * stride + dim[None, :]
    if MASKED:
        mask = (rows < limit)[:, None]
        if HEAD_DIM != BLOCK_D:
            mask = mask & (dim < HEAD_DIM)[None, :]
        return tl.load(address, mask=mask, other=0.0)
    if HEAD_DIM != BLOCK_D:
        return tl.load(address, mask=(dim < HEAD_DIM)[None, :], other=0.0)
    return tl.load(address)


@triton.jit
def store_rows(
    pointer, value, rows, stride, limit, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """The opposite of a masked :func:`load_rows`."""
    dim = tl.arange(0, BLOCK_D)
    mask = (rows < limit)[:, None]
    if HEAD_DIM != BLOCK_D:
        mask = mask & (dim < HEAD_DIM)[None, :]
    address = pointer + rows.to(tl.int64)[:, None] * stride + dim[None, :]
    tl.store(address, value.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def softmax_step(maximum, total, scores):
    """Take one more tile of scores, in units of log 2, into the running softmax of each row.

    Returns the new maximum and total, the tile's weights, and the factor by which what was summed
    with the old maximum shrinks (M. Milakov and N. Gimelshein, "Online normalizer calculation for
    softmax", 2018).
    """
    new_maximum = tl.maximum(maximum, tl.max(scores, 1))
    # Every score of a row so far may be masked.
    shift = tl.where(new_maximum == float("-inf"), 0.0, new_maximum)
    rescale = tl.exp2(maximum - shift)
    weights = tl.exp2(scores - shift[:, None])
    return new_maximum, total * rescale + tl.sum(weights, 1), weights, rescale
