"""The public attention function: checks, registration with torch.library, and dispatch.

``kernels::attention`` and ``kernels::attention_backward`` are custom operators, so that
``torch.compile``, CUDA graphs, autocast and autograd see one opaque, well-described operation.
Their implementations are ``attention_cpu`` and ``attention_triton``.
"""

from typing import Any, Literal, overload

import torch
from torch import Tensor

from kernels import backend, checks
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
    section 3.2.3; the biases: ``kernels/relative_bias.py``.) Nothing is padded, sorted or
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
    device = q.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    _check(q, k, v, cu_seqlens, dropout_p, position_bias, time_bias, timestamps)
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else float(softmax_scale)
    seed = _seed_tensor(dropout_seed, q.device) if dropout_p > 0.0 else None
    # Without autograd and tracing, the operator adds only the time that it takes to start.
    bare = not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()
    out, lse = (_attend if bare else _attention)(
        q, k, v, cu_seqlens, seed, position_bias, time_bias, timestamps, float(dropout_p), scale
    )
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


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    dropout_p: float,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    timestamps: Tensor | None,
) -> None:
    require(q.dim() == 3, "q", "shape (tokens, heads, head_dim)", tuple(q.shape))
    checks.check_float_dtype(q, "q")
    tokens, heads, head_dim = q.shape
    require(
        checks.HEAD_DIM_MIN <= head_dim <= checks.HEAD_DIM_MAX,
        "q",
        f"a head dimension from {checks.HEAD_DIM_MIN} to {checks.HEAD_DIM_MAX}",
        head_dim,
    )
    require(heads >= 1, "q", "at least one head", heads)
    for name, tensor in (("k", k), ("v", v)):
        shape = tuple(q.shape)
        require(tensor.shape == q.shape, name, "q's shape {}", tuple(tensor.shape), shape)
        checks.check_same(tensor, q, name, "q")
    require(cu_seqlens.dtype == torch.int32, "cu_seqlens", "int32", cu_seqlens.dtype)
    require(
        cu_seqlens.dim() == 1 and cu_seqlens.numel() >= 1,
        "cu_seqlens",
        "shape (batch + 1,)",
        tuple(cu_seqlens.shape),
    )
    checks.check_device(cu_seqlens, q, "cu_seqlens", "q")
    require(0.0 <= dropout_p < 1.0, "dropout_p", "a probability in [0, 1)", dropout_p)
    for name, table in (("position_bias", position_bias), ("time_bias", time_bias)):
        if table is not None:
            require(
                table.dim() == 2 and table.shape[0] == heads and table.shape[1] >= 1,
                name,
                f"shape ({heads} heads, at least 1)",
                tuple(table.shape),
            )
            checks.check_float_dtype(table, name)
            checks.check_device(table, q, name, "q")
    require(
        (time_bias is None) == (timestamps is None),
        "timestamps",
        "timestamps exactly when there is a time_bias",
        f"timestamps {'missing' if timestamps is None else 'alone'}",
    )
    if timestamps is not None:
        require(timestamps.dtype == torch.int64, "timestamps", "int64", timestamps.dtype)
        require(
            timestamps.shape == (tokens,),
            "timestamps",
            "shape ({},)",
            tuple(timestamps.shape),
            tokens,
        )
        checks.check_device(timestamps, q, "timestamps", "q")


def _check_contents(tokens: int, cu_seqlens: Tensor, timestamps: Tensor | None) -> None:
    if not checks.contents_are_checked(cu_seqlens.device):
        return
    checks.check_cu_seqlens_contents(cu_seqlens, tokens)
    if timestamps is not None:
        checks.check_timestamps_contents(timestamps, cu_seqlens)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    timestamps: Tensor | None,
    dropout_p: float,
    scale: float,
) -> tuple[Tensor, Tensor]:
    _check_contents(q.shape[0], cu_seqlens, timestamps)
    with backend.autocast_off(q):
        return backend.attention(q.device).forward(
            q, k, v, cu_seqlens, seed, position_bias, time_bias, timestamps, dropout_p, scale
        )


_attention = torch.library.custom_op("kernels::attention", _attend, mutates_args=())


@torch.library.custom_op("kernels::attention_backward", mutates_args=())
def _attention_backward(
    d_out: Tensor,
    d_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    timestamps: Tensor | None,
    dropout_p: float,
    scale: float,
) -> list[Tensor]:
    with backend.autocast_off(q):
        gradients = backend.attention(q.device).backward(
            d_out,
            d_lse,
            q,
            k,
            v,
            out,
            lse,
            cu_seqlens,
            seed,
            position_bias,
            time_bias,
            timestamps,
            dropout_p,
            scale,
        )
    return [gradient for gradient in gradients if gradient is not None]


@_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, *_rest: object) -> tuple[Tensor, Tensor]:
    lse_dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=lse_dtype)


@_attention_backward.register_fake
def _(
    d_out: Tensor,
    d_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    *_rest: object,
) -> list[Tensor]:
    tables = [x.new_empty(x.shape) for x in (position_bias, time_bias) if x is not None]
    return [q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape), *tables]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, dropout_p, scale = inputs
    out, lse = output
    ctx.save_for_backward(*tensors, out, lse)
    ctx.dropout_p, ctx.scale = dropout_p, scale


def _backward(ctx: Any, d_out: Tensor, d_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, cu_seqlens, seed, position_bias, time_bias, timestamps, out, lse = ctx.saved_tensors
    d_q, d_k, d_v, *tables = _attention_backward(
        # An expanded gradient (of a sum, say) has stride 0.
        d_out.contiguous(),
        d_lse,
        q,
        k,
        v,
        out,
        lse,
        cu_seqlens,
        seed,
        position_bias,
        time_bias,
        timestamps,
        ctx.dropout_p,
        ctx.scale,
    )
    d_position = None if position_bias is None else tables[0]
    d_time = None if time_bias is None else tables[-1]
    return d_q, d_k, d_v, None, None, d_position, d_time, None, None, None


_attention.register_autograd(_backward, setup_context=_setup_context)
