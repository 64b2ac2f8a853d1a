"""The fused passes as a part of autograd.

Shapes: T steps, B batch, C channels, N any feature dimensions (C alone, or C, H, W).

Of the forward, backward keeps what the neuron read, and four numbers a channel where a norm was taken in; membranes
are computed again.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_exp.kernels.build import Call, Real, Stored, library
from snn_exp.kernels.forms import Form
from snn_exp.neurons import LIF, SRM, IntegratingNeuron, Neuron
from snn_exp.norms import BatchNorm

# dtype -> what is computed with, and what is stored
NUMBERS: dict[torch.dtype, tuple[Real, Stored]] = {
    torch.float32: ("float", "float"),
    torch.float64: ("double", "double"),
    torch.bfloat16: ("float", "Bfloat16"),
}


def fire(neuron: Neuron, form: Form, norm: BatchNorm | None, x_TBN: Tensor) -> Tensor:
    """What the neuron makes of x, or of norm(x) if a norm in training is given."""
    leak = neuron.leak() if isinstance(neuron, LIF) else 0.0
    bn = None if norm is None else norm.bn
    if bn is not None:
        assert bn.num_batches_tracked is not None
        bn.num_batches_tracked.add_(1)
    gain_C, bias_C = (None, None) if bn is None else (bn.weight, bn.bias)
    threshold = neuron.threshold_as(x_TBN.new_empty((), dtype=_computed_in(x_TBN)))
    s: Tensor = _Passes.apply(x_TBN, threshold, leak, gain_C, bias_C, form, _numbers(neuron), bn)
    return s


def _numbers(neuron: Neuron) -> dict[str, float]:
    """What is no tensor, as it is now: a surrogate's width may change with the epoch."""
    surrogate = neuron.surrogate
    at_rest = float(neuron.v_reset) if isinstance(neuron, IntegratingNeuron) else 0.0
    return {
        "rest": at_rest,
        "v_reset": at_rest,
        "decay": neuron.refractory_decay if isinstance(neuron, SRM) else 0.0,
        "peak": surrogate.peak,
        "width": surrogate.width,
        "alpha": getattr(surrogate, "alpha", 0.0),
        "beta": getattr(surrogate, "beta", 0.0),
    }


class _Passes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_TBN: Tensor,
        threshold: Tensor,
        leak: Tensor | float,
        gain_C: Tensor | None,
        bias_C: Tensor | None,
        form: Form,
        numbers: dict[str, float],
        bn: Any,
    ) -> Tensor:
        x_TBN = x_TBN if channels_last(x_TBN) else x_TBN.contiguous()
        numbers = {**numbers, "leak": float(leak)}
        statistics, running = None, {}
        if bn is not None:
            statistics = x_TBN.new_empty(4, x_TBN.shape[2], dtype=_computed_in(x_TBN))
            numbers |= {"eps": bn.eps, "momentum": bn.momentum}
            running = {"running_mean": bn.running_mean, "running_var": bn.running_var}
        s_TBN = torch.empty_like(x_TBN)
        _pass(
            "forward", form, numbers, x=x_TBN, threshold=threshold, gain=gain_C, bias=bias_C, statistics=statistics,
            s=s_TBN, **running,
        )  # fmt: skip
        ctx.save_for_backward(x_TBN, threshold, statistics)
        ctx.case = form, numbers
        return s_TBN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_TBN, threshold, statistics = ctx.saved_tensors
        form, numbers = ctx.case
        like_numbers = {"dtype": _computed_in(x_TBN)}
        grad_s = gradients[0]
        if grad_s.stride() != x_TBN.stride() or grad_s.dtype != x_TBN.dtype:
            grad_s = torch.empty_like(x_TBN).copy_(grad_s)
        grad_x = torch.empty_like(x_TBN)
        grad_threshold = torch.empty_like(threshold) if form.learns_threshold else None
        grad_leak = x_TBN.new_empty((), **like_numbers) if form.learns_leak else None
        grad_gain, grad_bias = (
            (None, None) if statistics is None else x_TBN.new_empty(2, x_TBN.shape[2], **like_numbers)
        )
        _pass(
            "backward", form, numbers, x=x_TBN, threshold=threshold, statistics=statistics,
            grad_s=grad_s, grad_x=grad_x, grad_threshold=grad_threshold, grad_leak=grad_leak,
            grad_gain=grad_gain, grad_bias=grad_bias,
        )  # fmt: skip
        return grad_x, grad_threshold, grad_leak, grad_gain, grad_bias, None, None, None


def _pass(
    direction: Literal["forward", "backward"],
    form: Form,
    numbers: dict[str, float],
    *,
    x: Tensor,
    threshold: Tensor,
    **others: Tensor | None,
) -> None:
    num_steps, batch, channels, *space = x.shape
    pointers = {name: tensor.data_ptr() for name, tensor in others.items() if tensor is not None}
    call = Call(
        num_steps=num_steps, batch=batch, channels=channels, size=math.prod(space), channels_last=channels_last(x),
        num_thresholds=threshold.numel(), x=x.data_ptr(), threshold=threshold.data_ptr(), **pointers, **numbers,
    )  # fmt: skip
    getattr(library(form.defines, *NUMBERS[x.dtype]), direction)(ctypes.byref(call))


def channels_last(x_TBN: Tensor) -> bool:
    """Whether a sample's values lie by position, all channels of each, and so do not lie by channel.

    Example:
        >>> images = torch.zeros(6, 3, 4, 4).to(memory_format=torch.channels_last).unflatten(0, (2, 3))
        >>> channels_last(images), channels_last(images.contiguous())
        (True, False)
    """
    if x_TBN.dim() != 5 or x_TBN.is_contiguous():
        return False
    _, B, C, H, W = x_TBN.shape
    return x_TBN.stride() == (B * C * H * W, C * H * W, 1, W * C, C)


def _computed_in(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
