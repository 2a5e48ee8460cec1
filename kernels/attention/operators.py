"""The attention's registration with torch.library, and dispatch.

``kernels::attention`` and ``kernels::attention_backward`` are custom operators, so that
``torch.compile``, CUDA graphs, autocast and autograd see one opaque, well-described operation.
Their implementations are ``cpu.py`` and ``triton_launch.py``. An operator's arguments are flat:
both take those of :class:`Inputs`, in its order.
"""

from typing import Any

import torch
from torch import Tensor

from kernels import backend, precision
from kernels.attention.checks import check_contents
from kernels.attention.inputs import SCHEMA, Inputs


def attend(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp, without the operator around it."""
    inputs = Inputs(*arguments)
    check_contents(inputs)
    with precision.autocast_off(inputs.q):
        return backend.attention(inputs.q.device).forward(inputs)


attention = torch.library.custom_op(
    "kernels::attention", attend, mutates_args=(), schema=f"({SCHEMA}) -> (Tensor, Tensor)"
)


@torch.library.custom_op(
    "kernels::attention_backward",
    mutates_args=(),
    schema=f"(Tensor d_out, Tensor? d_lse, Tensor out, Tensor lse, {SCHEMA}) -> Tensor[]",
)
def attention_backward(
    d_out: Tensor, d_lse: Tensor | None, out: Tensor, lse: Tensor, *arguments: Any
) -> list[Tensor]:
    """Gradients of q, k, v and of the bias tables that there are."""
    inputs = Inputs(*arguments)
    with precision.autocast_off(inputs.q):
        gradients = backend.attention(inputs.q.device).backward(d_out, d_lse, out, lse, inputs)
    return [gradient for gradient in gradients if gradient is not None]


@attention.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    q = Inputs(*arguments).q
    lse_dtype = precision.sum_dtype(q.dtype)
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=lse_dtype)


@attention_backward.register_fake
def _(
    _d_out: Tensor, _d_lse: Tensor | None, _out: Tensor, _lse: Tensor, *arguments: Any
) -> list[Tensor]:
    inputs = Inputs(*arguments)
    q, tables = inputs.q, (inputs.position_bias, inputs.time_bias)
    d_tables = [x.new_empty(x.shape) for x in tables if x is not None]
    return [q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape), *d_tables]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.dropout_p, ctx.scale = inputs
    ctx.save_for_backward(*output, *tensors)


def _backward(ctx: Any, d_out: Tensor, d_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    out, lse, *tensors = ctx.saved_tensors
    arguments: tuple[Any, ...] = (*tensors, ctx.dropout_p, ctx.scale)
    inputs = Inputs(*arguments)
    # An expanded gradient (of a sum, say) has stride 0.
    d_out = d_out.contiguous()
    d_q, d_k, d_v, *d_tables = attention_backward(d_out, d_lse, out, lse, *inputs)
    gradients = dict.fromkeys(Inputs._fields) | {"q": d_q, "k": d_k, "v": d_v}
    if inputs.position_bias is not None:
        gradients["position_bias"] = d_tables[0]
    if inputs.time_bias is not None:
        gradients["time_bias"] = d_tables[-1]
    return tuple(gradients.values())


attention.register_autograd(_backward, setup_context=_setup_context)
