"""The fused passes as a part of autograd.

Shapes: T steps, B batch, C channels, N any feature dimensions (C alone, or C, H, W).

Of the forward, backward keeps what the neuron read, and four numbers per channel where a norm was taken in; membranes
are computed again. The device of the tensors decides: C++ on a CPU (fused.cpp), Triton on a GPU (passes.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_exp.nn.kernels.forms import Form
from snn_exp.nn.kernels.layout import channels_last, computed_in
from snn_exp.nn.kernels.on_cpu import pass_on_cpu
from snn_exp.nn.kernels.on_gpu import pass_on_gpu
from snn_exp.nn.kernels.spike_words import keep_words, new_words
from snn_exp.nn.neurons import LIF, SRM, IntegerLIF, IntegratingNeuron, LevelNeuron, Neuron
from snn_exp.nn.norms import BatchNorm


def pass_at(x: Tensor) -> Callable[..., None]:
    """Return the implementation of the pass for the device of x."""
    return pass_on_cpu if x.device.type == "cpu" else pass_on_gpu


def fire(neuron: Neuron, form: Form, norm: BatchNorm | None, x_TBN: Tensor, *, writes_words: bool = False) -> Tensor:
    """Compute the neuron's output for x, or for norm(x) if a norm in training is given.

    Args:
        neuron: its parameters are read at each call.
        form: of the neuron.
        norm: a norm in training that is taken in.
        x_TBN: its input.
        writes_words: whether words of spikes go with the output, where there can be some (spike_words.py).
    """
    bn = None if norm is None else norm.bn
    if bn is not None:
        assert bn.num_batches_tracked is not None
        bn.num_batches_tracked.add_(1)
    gain_C, bias_C = (None, None) if bn is None else (bn.weight, bn.bias)
    words = new_words(x_TBN) if writes_words and form.emits == "Spikes" and x_TBN.dtype != torch.bfloat16 else None
    s: Tensor = _Passes.apply(
        x_TBN, _threshold(neuron, x_TBN), _leak(neuron), gain_C, bias_C, form, _numbers(neuron), bn, words
    )
    if words is not None:
        keep_words(s, words)
    return s


def fire_over(neuron: Neuron, form: Form, x_TBN: Tensor) -> Tensor:
    """Compute the neuron's output in place of x, without gradients, if a pass can read the memory layout of x."""
    s_TBN = x_TBN if channels_last(x_TBN) else x_TBN.contiguous()
    pass_at(s_TBN)(
        "forward", form, _numbers(neuron), x=s_TBN, threshold=_threshold(neuron, s_TBN), leak=_leak(neuron), gain=None,
        bias=None, statistics=None, s=s_TBN,
    )  # fmt: skip
    return s_TBN


def fire_folded(
    neuron: Neuron, form: Form, constant: Tensor | None, x_TBN: Tensor, *, overwrite: bool = False
) -> Tensor:
    """Compute the output of a neuron into which a norm is folded, for x + constant, without gradients, on a CPU.

    Args:
        neuron: with a folded threshold.
        form: as `folded_form_of` gives it.
        constant: per channel, if there is one in front of the neuron.
        x_TBN: its input.
        overwrite: write the spikes over x, if a pass can read its memory layout.
    """
    x_TBN = x_TBN if channels_last(x_TBN) else x_TBN.contiguous()
    s_TBN = x_TBN if overwrite else torch.empty_like(x_TBN)
    like = x_TBN.new_empty(x_TBN.shape[2], dtype=computed_in(x_TBN))
    pass_on_cpu(
        "forward", form, _numbers(neuron), x=x_TBN,
        leak=_leak(neuron), s=s_TBN, gain=None, bias=None, statistics=None,
        **{name: _in_each_channel(value, like) for name, value in channel_numbers(neuron, constant).items()},
    )  # fmt: skip
    return s_TBN


def channel_numbers(neuron: Neuron, constant: Tensor | None) -> dict[str, Tensor | float]:
    """Return what fused.cpp reads of each channel in inference: the threshold, and what a folded norm has left."""
    shared: dict[str, Tensor | float] = {
        "threshold": neuron.theta() if isinstance(neuron, LevelNeuron) else neuron.v_threshold,
        "resets_to": getattr(neuron, "v_reset", 0.0),
        "constant": 0.0 if constant is None else constant,
    }
    if isinstance(neuron, LevelNeuron):
        levels = neuron.folded_levels
        if levels is None:
            return shared
        return {**shared, "factor": levels.scale, "fires_at": 0.0, "shift": levels.shift, "theta": levels.theta}
    at = neuron.folded_threshold
    if at is None:
        return shared
    return {**shared, "factor": at.sign, "fires_at": at.threshold, "shift": 0.0, "theta": 0.0}


def scalar_numbers(neuron: Neuron) -> tuple[dict[str, float], float]:
    """Return what fused.cpp reads of a neuron once, and its leak."""
    return _numbers(neuron), float(_leak(neuron))


def _in_each_channel(value: Tensor | float, like_C: Tensor) -> Tensor:
    given = torch.as_tensor(value, dtype=like_C.dtype).flatten()
    return given.expand_as(like_C).contiguous()


def _leak(neuron: Neuron) -> Tensor | float:
    if isinstance(neuron, IntegerLIF):
        return neuron.tau
    return neuron.leak() if isinstance(neuron, LIF) else 0.0


def _threshold(neuron: Neuron, x_TBN: Tensor) -> Tensor:
    if isinstance(neuron, LevelNeuron):
        return neuron.theta().to(computed_in(x_TBN))
    return neuron.threshold_as(x_TBN.new_empty((), dtype=computed_in(x_TBN)))


def _numbers(neuron: Neuron) -> dict[str, float]:
    """Return the current scalar parameters: a surrogate's width may change with the epoch."""
    surrogate = neuron.surrogate
    at_rest = neuron.v_reset if isinstance(neuron, IntegratingNeuron) else 0.0
    at_rest = 0.0 if isinstance(at_rest, Tensor) else float(at_rest)  # of a norm that is folded in: see there
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
        words: Tensor | None,
    ) -> Tensor:
        x_TBN = x_TBN if channels_last(x_TBN) else x_TBN.contiguous()
        statistics, running = None, {}
        if bn is not None:
            statistics = x_TBN.new_empty(4, x_TBN.shape[2], dtype=computed_in(x_TBN))
            numbers = {**numbers, "eps": bn.eps, "momentum": bn.momentum}
            running = {"running_mean": bn.running_mean, "running_var": bn.running_var}
        s_TBN = torch.empty_like(x_TBN)
        pass_at(x_TBN)(
            "forward", form, numbers, x=x_TBN, threshold=threshold, leak=leak, gain=gain_C, bias=bias_C,
            statistics=statistics, s=s_TBN, **running, **({} if words is None else {"bits": words}),
        )  # fmt: skip
        learned, number = (leak, None) if isinstance(leak, Tensor) else (None, leak)
        ctx.save_for_backward(x_TBN, threshold, statistics, learned)
        ctx.case = form, numbers, number
        return s_TBN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_TBN, threshold, statistics, learned = ctx.saved_tensors
        form, numbers, number = ctx.case
        like_numbers = {"dtype": computed_in(x_TBN)}
        grad_s = gradients[0]
        if grad_s.stride() != x_TBN.stride() or grad_s.dtype != x_TBN.dtype:
            grad_s = torch.empty_like(x_TBN).copy_(grad_s)
        grad_x = torch.empty_like(x_TBN)
        grad_threshold = torch.empty_like(threshold) if form.learns_threshold else None
        grad_leak = x_TBN.new_empty((), **like_numbers) if form.learns_leak else None
        grad_gain, grad_bias = (
            (None, None) if statistics is None else x_TBN.new_empty(2, x_TBN.shape[2], **like_numbers)
        )
        pass_at(x_TBN)(
            "backward", form, numbers, x=x_TBN, threshold=threshold, leak=number if learned is None else learned,
            statistics=statistics, grad_s=grad_s, grad_x=grad_x, grad_threshold=grad_threshold, grad_leak=grad_leak,
            grad_gain=grad_gain, grad_bias=grad_bias,
        )  # fmt: skip
        return grad_x, grad_threshold, grad_leak, grad_gain, grad_bias, None, None, None, None
