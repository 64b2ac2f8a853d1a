"""Convolutions of filtered and normalized spikes that only add: the filter and the norm change places with the weights.

Shapes: T steps, B batch, C and O channels in and out, G groups, H W space, K the kernel's side.

    psp[t] = decay psp[t-1] + s[t]
    y = W * (scale psp),  scale = 1 / sqrt(m + eps),  m = E[psp^2] of a channel
      = filter(V * s),  V = W scale of the input's channel

So the convolution walks over the spikes, and its sums of one step start from decay times those of the step before. The
moment is that of psp, as ever: psp is a sum over the spikes up to now, so that E[psp^2] follows from how often two
steps of a channel fire at the same place, which are counts of bits. It goes back the same way:

    dL/dW = dL/dV scale,  dL/dscale = sum over O, K, K of dL/dV W
    dL/ds = filter backwards in time of (V^T dL/dy + slope psp),  slope = -scale^3 dL/dscale / (T B H W)

psp is nowhere stored: backward keeps the bits of the spikes. Only on a CPU (events.cpp, filter.cpp).
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_exp.nn.kernels.build import EventCall
from snn_exp.nn.kernels.events import convolution_call, new_output, run_events
from snn_exp.nn.kernels.forms import Trace
from snn_exp.nn.kernels.input_gradient import input_gradient
from snn_exp.nn.kernels.on_cpu import filter_on_cpu
from snn_exp.nn.norms import PSPNorm

TRACES = ("Identity", "Exponential")  # of which sums of one step are made of those of the step before
MOST_STEPS = 64  # pairs of steps are counted, and past it that takes as long as squaring psp


class FilteredSpikes(NamedTuple):
    """What stands for filtered, normalized spikes.

    Args:
        bits: of the spikes, as of `pack`.
        words: of the spikes, as of `words_of`, if there are some.
        trace: the filter.
        scale: that of the norm, if there is one.
    """

    bits: Tensor
    words: Tensor | None
    trace: Trace
    scale: Tensor | None


def scale_of(norm: PSPNorm, trace: Trace, bits: Tensor, num_steps: int, height: int, width: int) -> Tensor:
    """Compute the factor of a norm in training per channel, in float64, and update its running moment.

    Shapes:
        bits: [T B, C, words] -> [C]

    Example:
        >>> from snn_exp.nn.norms import Site
        >>> norm = PSPNorm(Site((1, 1, 4)))  # spikes 1, 1, 0, 0 and then 1, 0, 0, 0: psp 1, 1, 0, 0 and 1.5, 0.5, 0, 0
        >>> scale = scale_of(norm, Trace("Exponential", 0.5), torch.tensor([3, 1]).view(2, 1, 1), 2, 1, 4)
        >>> bool(scale.pow(-2) - norm.eps - (1 + 1 + 1.5**2 + 0.5**2) / 8 < 1e-9)
        True
    """
    pairs = pair_weights(trace, num_steps)
    counts = count_pairs(bits, len(pairs)).double()
    moment_C = (counts * pairs).sum((1, 2)) / (len(bits) * height * width)
    is_first = not norm.num_batches  # on a CPU, where nobody waits for it
    norm.num_batches.add_(1)
    with torch.no_grad():
        momentum = 1.0 if is_first else norm.momentum
        running_C = norm.moment.view(-1)
        running_C += (momentum * (moment_C - running_C)).to(running_C.dtype)
    return torch.rsqrt(moment_C + norm.eps)


def pair_weights(trace: Trace, num_steps: int) -> Tensor:
    """Compute how often s[t] s[t'], t' <= t, is in the sum of psp^2 over time, [T, T]; [1, 1] without a filter.

    Example:
        >>> pair_weights(Trace("Exponential", 0.5), 2)  # s0^2 + (s1 + s0 / 2)^2
        tensor([[1.2500, 0.0000],
                [1.0000, 1.0000]], dtype=torch.float64)
    """
    if trace.name == "Identity":
        return torch.ones(1, 1, dtype=torch.float64)
    lag = torch.arange(num_steps)[:, None] - torch.arange(num_steps)
    response = torch.where(lag >= 0, torch.tensor(trace.decay, dtype=torch.float64) ** lag.clamp(min=0), 0.0)
    products = response.T @ response
    return products.tril() + products.tril(-1)


def count_pairs(bits: Tensor, num_steps: int) -> Tensor:
    """Count the places where two steps of a channel fire.

    Shapes:
        bits: [T B, C, words] -> [C, T, T], 0 where the second step is later than the first
    """
    images, num_channels, words = bits.shape
    counts = bits.new_zeros(num_channels, num_steps, num_steps)
    call = EventCall(
        images=images, groups=1, in_channels=num_channels, height=words, width=64, threads=torch.get_num_threads(),
        steps=num_steps, bits=bits.data_ptr(), counts=counts.data_ptr(),
    )  # fmt: skip
    run_events("count_pairs", torch.float32, call)
    return counts


def filtered_conv2d(s_TBCHW: Tensor, weight: Tensor, given: FilteredSpikes, stride: int, groups: int) -> Tensor:
    """Compute the convolution of filtered, normalized spikes, padded by K // 2.

    Shapes:
        s: [T, B, C, H, W], weight: [O, C / G, K, K] -> [T, B, O, ceil(H / stride), ceil(W / stride)]

    Args:
        s_TBCHW: the spikes, which get the gradient.
        weight: in the dtype of s, float32 or float64.
        given: the same spikes, and what is done to them.
        stride: step in space.
        groups: G.
    """
    return cast(Tensor, _FilteredConvolution.apply(s_TBCHW, weight, given, stride, groups))


class _FilteredConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s_TBCHW: Tensor, weight: Tensor, given: FilteredSpikes, stride: int, groups: int) -> Tensor:
        T, B, *per_image = s_TBCHW.shape
        scaled = _scaled(weight, given, groups)
        y = new_output(s_TBCHW.flatten(0, 1), weight, stride)
        call = _call(given, scaled, y, (T * B, *per_image), T, stride, groups)
        call.weight, call.y = scaled.data_ptr(), y.data_ptr()
        run_events("forward", weight.dtype, call)
        ctx.case = given.trace, stride, groups, s_TBCHW.shape
        reads_s = given.words is None and ctx.needs_input_grad[0]
        ctx.save_for_backward(weight, given.bits, given.words, given.scale, s_TBCHW if reads_s else None)
        return y.view(T, B, *y.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, bits, words, scale, s_TBCHW = ctx.saved_tensors
        trace, stride, groups, (T, B, C, H, W) = ctx.case
        given = FilteredSpikes(bits, words, trace, scale)
        grad_y = gradients[0].flatten(0, 1).contiguous(memory_format=torch.channels_last)
        scaled, slope_C = _scaled(weight, given, groups), None
        grad_s = grad_weight = None
        if ctx.needs_input_grad[1] or scale is not None:
            grad_weight = torch.empty_like(scaled)
            call = _call(given, grad_weight, grad_y, (T * B, C, H, W), T, stride, groups)
            call.grad_y, call.grad_weight = grad_y.data_ptr(), grad_weight.data_ptr()
            run_events("backward", grad_y.dtype, call)
        if scale is not None:
            assert grad_weight is not None
            grad_scale_C = (grad_weight * weight).view(groups, -1, *weight.shape[1:]).sum((1, 3, 4)).view(-1)
            slope_C = -(scale**3) * grad_scale_C / (T * B * H * W)
            grad_weight = _scaled(grad_weight, given, groups)
        if ctx.needs_input_grad[0]:
            grad_s = _by_position(input_gradient(grad_y, scaled, H, W, stride, groups).unflatten(0, (T, B)))
            filter_on_cpu(
                "backward", trace, {}, s=grad_s if words is not None else _by_position(s_TBCHW), bits=words,
                slope=weight.new_zeros(C) if slope_C is None else slope_C, grad_psp=grad_s, grad_s=grad_s,
            )  # fmt: skip
        return grad_s, grad_weight, None, None, None


def _by_position(x_TBCHW: Tensor) -> Tensor:
    flat = x_TBCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return flat.view(*x_TBCHW.shape[:2], *flat.shape[1:])


def _call(
    given: FilteredSpikes, weight: Tensor, y: Tensor, shape: tuple[int, ...], num_steps: int, stride: int, groups: int
) -> EventCall:
    call = convolution_call(shape, weight, stride, groups, given.bits, y)
    if given.trace.name != "Identity":
        call.steps, call.decay = num_steps, given.trace.decay
    return call


def _scaled(weight: Tensor, given: FilteredSpikes, groups: int) -> Tensor:
    """Multiply the weights by the factor of the channel that they read."""
    if given.scale is None:
        return weight
    of_groups = weight.view(groups, -1, *weight.shape[1:]) * given.scale.view(groups, 1, -1, 1, 1)
    return of_groups.reshape(weight.shape)
