"""The steps that the attention's Triton kernels share; how they go about it: ``triton_launch.py``.

A program *owns* the tokens of one block, whose results it alone writes, and *streams* those that
they meet past them, a tile at a time. Forward and the gradients of q and of the biases own rows
(queries) and stream columns (keys); the gradients of k and v own columns and stream rows. A tile
of scores is (owned, streamed) in either case.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from kernels.triton_shared import LOG2_E, load_rows


class Owned(NamedTuple):
    """The tokens that a program owns, and where its head's bias tables are."""

    head: Any
    first: Any  # the first of them
    index: Any  # where they are on the packed axis
    inside: Any  # whether they are on it
    bound: Any  # first token of their users if they are rows, end of their users if columns
    times: Any
    position_bias: Any
    time_bias: Any


class Streamed(NamedTuple):
    """Tokens of one tile that pass by."""

    index: Any
    scored: Any  # their operand of the scores: k, or q
    weighed: Any  # what the scores weigh: v, or the gradient of the output


@triton.jit
def finite(x):
    """``x`` with zeros for what is not finite: x - x is 0 exactly for finite x."""
    wide = x.to(tl.float32)
    return tl.where(wide - wide == 0.0, wide, 0.0).to(x.dtype)


@triton.jit
def times_of(times, tokens, limit, BUCKETS: tl.constexpr):
    """Times of tokens, zero from ``limit`` on; anything, if there is no time bias."""
    return tokens if BUCKETS is None else tl.load(times + tokens, mask=tokens < limit, other=0)


@triton.jit
def own(
    bound, times, position_bias, time_bias, tokens,
    MAX_DISTANCE: tl.constexpr, BUCKETS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The tokens of this program."""
    head = tl.program_id(1)
    first = tl.program_id(0) * BLOCK
    index = first + tl.arange(0, BLOCK)
    inside = index < tokens
    bounds = tl.load(bound + index, mask=inside, other=0)
    own_times = times_of(times, index, tokens, BUCKETS)
    if BUCKETS is not None:
        time_bias += head * BUCKETS
    if MAX_DISTANCE is not None:
        position_bias += head * (MAX_DISTANCE + 1)
    return Owned(head, first, index, inside, bounds, own_times, position_bias, time_bias)


@triton.jit
def stream(
    first, scored, scored_stride, weighed, weighed_stride, limit,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """The tile of tokens from ``first`` on; if MASKED, those from ``limit`` on are zero."""
    index = first + tl.arange(0, BLOCK)
    scored_tile = load_rows(scored, index, scored_stride, limit, HEAD_DIM, BLOCK_D, MASKED)
    weighed_tile = load_rows(weighed, index, weighed_stride, limit, HEAD_DIM, BLOCK_D, MASKED)
    return Streamed(index, scored_tile, weighed_tile)


@triton.jit
def time_bucket(row_times, column_times, BUCKETS: tl.constexpr):
    """See ``kernels.attention.relative_bias.time_bucket``."""
    elapsed = tl.maximum(row_times - column_times, 0).to(tl.float32) + 1.0
    octave = (elapsed.to(tl.int32, bitcast=True) >> 23) - 127
    return tl.minimum(octave, BUCKETS - 1)


@triton.jit
def scores_of(
    owned, owned_tile, streamed, streamed_times, scale,
    OWNS_ROWS: tl.constexpr, MAX_DISTANCE: tl.constexpr, BUCKETS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores of a tile ``(owned, streamed)`` in units of log 2, with nothing masked."""
    products = tl.dot(owned_tile, tl.trans(streamed.scored), input_precision=PRECISION)
    if OWNS_ROWS:
        rows, columns = owned.index[:, None], streamed.index[None, :]
        row_times, column_times = owned.times[:, None], streamed_times[None, :]
    else:
        rows, columns = streamed.index[None, :], owned.index[:, None]
        row_times, column_times = streamed_times[None, :], owned.times[:, None]
    scores = products * scale
    if MAX_DISTANCE is not None:
        distance = tl.minimum(tl.maximum(rows - columns, 0), MAX_DISTANCE)
        scores += tl.load(owned.position_bias + distance).to(tl.float32) * LOG2_E
    if BUCKETS is not None:
        bucket = time_bucket(row_times, column_times, BUCKETS)
        scores += tl.load(owned.time_bias + bucket).to(tl.float32) * LOG2_E
    return scores


@triton.jit
def columns_of(start, first_row, tokens, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Columns that a block of rows sees: ``first : split`` in full, ``split : stop`` in part."""
    stop = tl.minimum(first_row + BLOCK_M, tokens)
    first = tl.load(start + first_row)
    # All rows see the columns up to the first row, if one user owns them all.
    full = (first_row + 1 - first) // BLOCK_N * BLOCK_N
    split = tl.where(first == tl.load(start + stop - 1), first + full, first)
    return first, split, stop


@triton.jit
def rows_of(end, first_column, tokens, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Rows that see a block of columns: ``split : stop`` in full, from the block on in part.

    Rows below the last column of one user's block see all of it. Those tiles end with the user,
    so that only the tiles near the diagonal, ``first_column : split``, are masked.
    """
    stop = tl.load(end + tl.minimum(first_column + BLOCK_N, tokens) - 1)
    full = tl.maximum(stop - (first_column + BLOCK_N - 1), 0) // BLOCK_M * BLOCK_M
    split = tl.where(tl.load(end + first_column) == stop, stop - full, stop)
    return split, stop


@triton.jit
def sees(owned, streamed):
    """Whether each row that is owned sees each column that is streamed."""
    columns = streamed.index[None, :]
    return (columns <= owned.index[:, None]) & (columns >= owned.bound[:, None])
