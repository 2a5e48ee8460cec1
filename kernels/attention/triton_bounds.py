"""Each token's sequence, found on the GPU: where it starts and ends, and the time since then."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _bounds_kernel(
    cu_seqlens, timestamps, start, end, times, tokens, users, steps,
    HAS_TIME: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """First token and end of each token's sequence, and its time since that first token."""
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = token < tokens
    # The last user whose first token is not after this one, by bisection of [low, high).
    low = tl.zeros((BLOCK,), tl.int32)
    high = low + users
    for _ in range(steps):
        middle = (low + high) // 2
        begun = tl.load(cu_seqlens + middle) <= token
        low = tl.where(begun, middle, low)
        high = tl.where(begun, high, middle)
    first = tl.load(cu_seqlens + low)
    tl.store(start + token, first, mask=inside)
    tl.store(end + token, tl.load(cu_seqlens + low + 1), mask=inside)
    if HAS_TIME:
        now = tl.load(timestamps + token, mask=inside, other=0)
        elapsed = now - tl.load(timestamps + first, mask=inside, other=0)
        elapsed = tl.minimum(tl.maximum(elapsed, 0), 2147483647)
        tl.store(times + token, elapsed.to(tl.int32), mask=inside)


def bounds(
    cu_seqlens: Tensor, timestamps: Tensor | None, tokens: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """First token, end and seconds since the first token of each token's sequence, int32 ``(T,)``.

    Without ``timestamps`` the third is absent. No host synchronisation.
    """
    start, end = cu_seqlens.new_empty(2, tokens)
    times = None if timestamps is None else torch.empty_like(start)
    users = cu_seqlens.shape[0] - 1
    block = 256
    _bounds_kernel[(triton.cdiv(tokens, block),)](
        cu_seqlens.contiguous(),
        None if timestamps is None else timestamps.contiguous(),
        start,
        end,
        times,
        tokens,
        users,
        users.bit_length(),
        HAS_TIME=timestamps is not None,
        BLOCK=block,
    )
    return start, end, times
