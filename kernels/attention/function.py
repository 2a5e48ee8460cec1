"""The public attention function."""

from typing import Literal, overload

import torch
from torch import Tensor

from kernels import precision
from kernels.attention.checks import check_inputs
from kernels.attention.inputs import Inputs
from kernels.attention.operators import attend, attention
from kernels.checks import require


@overload
def jagged_causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    *,
    dropout_p: float = ...,
    softmax_scale: float | None = ...,
    dropout_seed: int | Tensor | None = ...,
    return_lse: Literal[False] = ...,
    position_bias: Tensor | None = ...,
    time_bias: Tensor | None = ...,
    timestamps: Tensor | None = ...,
) -> Tensor: ...


@overload
def jagged_causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    *,
    dropout_p: float = ...,
    softmax_scale: float | None = ...,
    dropout_seed: int | Tensor | None = ...,
    return_lse: Literal[True],
    position_bias: Tensor | None = ...,
    time_bias: Tensor | None = ...,
    timestamps: Tensor | None = ...,
) -> tuple[Tensor, Tensor]: ...


def jagged_causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    *,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    dropout_seed: int | Tensor | None = None,
    return_lse: bool = False,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
    timestamps: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Causal softmax attention within each of many packed sequences.

    For token i of a sequence, over the tokens j ≤ i of the same sequence::

        s_ij = softmax_scale · q_i·k_j + position_bias[min(i - j, max_distance)]
                                       + time_bias[min(⌊log₂(1 + t_i - t_j)⌋, buckets - 1)]
        out_i = Σ_j dropout(softmax_j(s_ij)) · v_j

    (Vaswani et al., "Attention is all you need", 2017, section 3.2, with the causal mask of
    section 3.2.3; the biases: ``kernels/attention/relative_bias.py``.) Nothing is padded, sorted or
    synchronised with the host, and nothing of the size of the scores is stored. Results are
    deterministic. Differentiable in q, k, v, both bias tables and, if returned, the log-sum-exp.

    Args:
        q: queries ``(T, H, D)``: T tokens of all sequences one after another, H heads,
            8 ≤ D ≤ 128. float32, bfloat16 or float16; on the CPU float64 too. Under autocast,
            q, k and v are converted to its dtype.
        k: keys, as q.
        v: values, as q.
        cu_seqlens: int32 ``(B + 1,)``: sequence b holds the tokens ``cu_seqlens[b]`` up to
            ``cu_seqlens[b + 1]``. Starts at 0, never decreases, ends at T. Sequences may be empty.
        dropout_p: probability with which a weight is dropped, in [0, 1); the others are divided
            by ``1 - dropout_p``. A layer that is not training passes 0.
        softmax_scale: factor of the dot products; ``D ** -0.5`` if not given.
        dropout_seed: seed of the dropout mask, an integer or an int64 tensor with one element (a
            tensor on q's device lets replays of one CUDA graph differ). The mask is the same on
            every device. If not given, drawn from torch's default generator.
        return_lse: return also the natural logarithm of the softmax's denominator.
        position_bias: ``(H, max_distance + 1)``, added by distance; the last column holds for all
            greater distances.
        time_bias: ``(H, buckets)``, added by the time between the two tokens, in octaves; needs
            ``timestamps``.
        timestamps: int64 ``(T,)``, seconds, not decreasing within a sequence; a sequence may
            span 68 years.

    Returns:
        ``out (T, H, D)`` in q's dtype; with ``return_lse`` the pair ``(out, lse)``, lse float32
        ``(T, H)`` (float64 for float64 inputs).

    Raises:
        ValueError: an argument has the wrong shape, dtype, device or range. Contents of
            ``cu_seqlens`` and ``timestamps`` are checked on the CPU, and on a GPU if the
            environment variable ``KERNELS_DEBUG`` is 1.
    """
    q, k, v = precision.autocast(q, k, v)
    inputs = Inputs(
        q, k, v, cu_seqlens, None, position_bias, time_bias, timestamps, float(dropout_p), 0.0
    )
    check_inputs(inputs)
    inputs = inputs._replace(
        seed=_seed_tensor(dropout_seed, q.device) if dropout_p > 0.0 else None,
        scale=q.shape[-1] ** -0.5 if softmax_scale is None else float(softmax_scale),
    )
    # Without autograd and tracing, the operator adds only the time that it takes to start.
    bare = not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()
    out, lse = (attend if bare else attention)(*inputs)
    return (out, lse) if return_lse else out


def _seed_tensor(seed: int | Tensor | None, device: torch.device) -> Tensor:
    """The seed as an int64 tensor with one element on the device, without a host copy."""
    if seed is None:
        return torch.randint(-(2**63), 2**63 - 1, (1,), dtype=torch.int64, device=device)
    if isinstance(seed, Tensor):
        require(
            seed.dtype == torch.int64 and seed.numel() == 1,
            "dropout_seed",
            "an int64 tensor with one element",
            f"{seed.dtype} of shape {tuple(seed.shape)}",
        )
        require(seed.device == device, "dropout_seed", f"q's device {device}", seed.device)
        return seed
    require(-(2**63) <= seed < 2**63, "dropout_seed", "a 64-bit integer", seed)
    return torch.full((1,), seed, dtype=torch.int64, device=device)
