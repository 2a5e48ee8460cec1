"""Forward of one short user on a CPU: a request, whose time goes into starting operations."""

import math

import torch
from torch import Tensor

from kernels.attention.inputs import Inputs
from kernels.attention.relative_bias import position_index, relative_times, time_bucket
from kernels.precision import LOG2_E, sum_dtype

_SHORT = 512


def is_one_short_user(inputs: Inputs) -> bool:
    """Whether that is what the call is, without dropout."""
    one = inputs.cu_seqlens.numel() == 2 and 0 < inputs.q.shape[0] <= _SHORT
    return one and inputs.seed is None


def one_short_user(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp, with one dense matrix a head, in as few operations as it takes."""
    q, k, v, cu_seqlens, _, position_bias, time_bias, timestamps, _, scale = inputs
    dtype = sum_dtype(q.dtype)
    q_at, k_at, v_at = (x.to(dtype).transpose(0, 1) for x in (q, k, v))
    if position_bias is None and time_bias is None:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q_at[None], k_at[None], v_at[None], 0.0, True, scale=scale
        )
        return out[0].transpose(0, 1).to(q.dtype).contiguous(), lse[0].T.contiguous()
    scores = (q_at @ k_at.mT).mul_(scale * LOG2_E)
    token = torch.arange(q.shape[0])
    if position_bias is not None:
        index = position_index(token[:, None], token, position_bias.shape[1] - 1)
        scores += (position_bias.to(dtype) * LOG2_E)[:, index]
    if time_bias is not None and timestamps is not None:
        times = relative_times(timestamps, cu_seqlens)
        bucket = time_bucket(times[:, None], times, time_bias.shape[1])
        scores += (time_bias.to(dtype) * LOG2_E)[:, bucket.long()]
    scores += torch.full(scores.shape[1:], -math.inf, dtype=dtype).triu_(1)
    maximum = scores.amax(-1, keepdim=True)
    weights = torch.exp2(scores.sub_(maximum), out=scores)
    total = weights.sum(-1, keepdim=True)
    out = (weights @ v_at).div_(total).transpose(0, 1).to(q.dtype).contiguous()
    lse = maximum.add_(total.log2()).squeeze(-1) / LOG2_E
    return out, lse.T.contiguous()
