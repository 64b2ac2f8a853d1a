"""Synapse and PSP norm in one pass, as a part of autograd.

Shapes: T steps, B batch, C channels, N any feature dimensions (C alone, or C, H, W).

Of the forward, backward keeps the spikes, and one number per channel where there is a norm; potentials are recomputed.
Only on a CPU (filter.cpp).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_exp.nn.kernels.forms import Trace
from snn_exp.nn.kernels.layout import channels_last, computed_in
from snn_exp.nn.kernels.on_cpu import filter_on_cpu
from snn_exp.nn.norms import PSPNorm


def filtered(trace: Trace, norm: PSPNorm | None, s_TBN: Tensor) -> Tensor:
    """Compute the postsynaptic potential of spikes, normalized if a norm in training is given."""
    if norm is None:
        return cast(Tensor, _Filter.apply(s_TBN, trace, {}, None))
    is_first = not norm.num_batches  # on a CPU, where nobody waits for it
    norm.num_batches.add_(1)
    numbers = {"eps": norm.eps, "momentum": 1.0 if is_first else norm.momentum}
    return cast(Tensor, _Filter.apply(s_TBN, trace, numbers, norm.moment))


class _Filter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s_TBN: Tensor, trace: Trace, numbers: dict[str, float], moment: Tensor | None) -> Tensor:
        s_TBN = s_TBN if channels_last(s_TBN) else s_TBN.contiguous()
        scale = None if moment is None else s_TBN.new_empty(s_TBN.shape[2], dtype=computed_in(s_TBN))
        psp_TBN = torch.empty_like(s_TBN)
        filter_on_cpu("forward", trace, numbers, s=s_TBN, moment=moment, scale=scale, psp=psp_TBN)
        ctx.save_for_backward(s_TBN, scale)
        ctx.trace = trace
        return psp_TBN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        s_TBN, scale = ctx.saved_tensors
        grad_psp = gradients[0]
        if grad_psp.stride() != s_TBN.stride() or grad_psp.dtype != s_TBN.dtype:
            grad_psp = torch.empty_like(s_TBN).copy_(grad_psp)
        grad_s = torch.empty_like(s_TBN)
        filter_on_cpu("backward", ctx.trace, {}, s=s_TBN, scale=scale, grad_psp=grad_psp, grad_s=grad_s)
        return grad_s, None, None, None
