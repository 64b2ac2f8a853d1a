"""Convolutions of spikes that add where a spike is and do nothing where none is, as operators of torch.

Shapes: N images, C and O channels in and out, G groups, H W space, K the kernel's side, odd.

    y = W * s, s in {0, 1}       the sum of the rows of W whose input spikes
    dL/dW                        likewise the sum of the rows of dL/dy that a spike reaches
    dL/ds                        dense: it has no zeros to leave out (input_gradient.py)

Sums are formed in the input's dtype, channel by channel, and do not depend on the number of threads. Of the input,
backward keeps the bits: 1/32 of the memory of float32. Outputs are in channels-last memory format. Only on a CPU
(events.cpp).
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from snn_exp.nn.kernels.build import EventCall, Real, library
from snn_exp.nn.kernels.input_gradient import input_gradient

KERNEL_SIZES = ((1, 1), (3, 3))
DTYPES: dict[torch.dtype, Real] = {torch.float32: "float", torch.float64: "double"}


class Packed(NamedTuple):
    """Spikes as bits.

    Args:
        bits: a bit per position, in words of 64 per image and channel, [N, C, ceil(H W / 64)].
        rate: share of the values that are 1.
        whole: whether all others are 0.
    """

    bits: Tensor
    rate: float
    whole: bool


def pack(s: Tensor) -> Packed:
    """Pack spikes.

    Shapes:
        s: [N, C, H, W]

    Example:
        >>> packed = pack(torch.tensor([[[[0.0, 1.0, 1.0, 0.0]]]]))
        >>> packed.bits.tolist(), packed.rate, packed.whole
        ([[[6]]], 0.5, True)
    """
    by_position = s.is_contiguous(memory_format=torch.channels_last)
    s, bits = s if by_position else s.contiguous(), _new_bits(s)
    N, C, H, W = s.shape
    call = EventCall(
        images=N, groups=1, in_channels=C, height=H, width=W, by_position=by_position,
        threads=torch.get_num_threads(), x=s.data_ptr(), bits=bits.data_ptr(),
    )  # fmt: skip
    run_events("pack", s.dtype, call)
    return Packed(bits, call.spikes / max(1, s.numel()), call.others == 0)


def spike_conv2d(s: Tensor, weight: Tensor, stride: int = 1, groups: int = 1, *, bits: Tensor | None = None) -> Tensor:
    """Compute the convolution of spikes, padded by K // 2, without multiplying.

    Shapes:
        s: [N, C, H, W], weight: [O, C / G, K, K] -> [N, O, ceil(H / stride), ceil(W / stride)]

    Args:
        s: 0 where there is no spike and 1 where there is one; whatever is not 0 counts as 1.
        weight: in the dtype of s, float32 or float64.
        stride: step in space.
        groups: G.
        bits: those of s, if they are known; then its values are not read.

    Raises:
        TypeError: another dtype.
        ValueError: shapes that do not fit, a kernel that is neither 1 x 1 nor 3 x 3.

    Example:
        >>> s, weight = (torch.rand(2, 3, 5, 5) < 0.2).float(), torch.rand(4, 3, 3, 3)
        >>> torch.allclose(spike_conv2d(s, weight), torch.conv2d(s, weight, padding=1))
        True
    """
    if bits is None:
        bits = spike_bits(s.detach())
    return cast(Tensor, _conv2d(s, bits, weight, stride, groups))


def spike_linear(s: Tensor, weight: Tensor) -> Tensor:
    """Compute weight s for spikes s: a 1 x 1 convolution whose positions are the samples.

    Shapes:
        s: [N, C], weight: [O, C] -> [N, O]

    Example:
        >>> s, weight = (torch.rand(6, 3) < 0.2).float(), torch.rand(4, 3)
        >>> torch.allclose(spike_linear(s, weight), s @ weight.T)
        True
    """
    width = 64 if len(s) % 64 == 0 else len(s)
    images = s.contiguous().view(-1, 1, width, s.shape[1]).permute(0, 3, 1, 2)
    return spike_conv2d(images, weight[:, :, None, None]).permute(0, 2, 3, 1).reshape(len(s), -1)


def pack_words(words: Tensor, height: int, width: int) -> Packed:
    """Pack spikes that a neuron has written as words of 16 channels, by position.

    Shapes:
        words: [N, H W, C / 16], int16

    Example:
        >>> pack_words(torch.tensor([[[1], [0], [1]]], dtype=torch.int16), 1, 3).bits[0, :2].tolist()
        [[5], [0]]
    """
    N, positions, of_a_position = words.shape
    bits = torch.empty(N, 16 * of_a_position, (positions + 63) // 64, dtype=torch.int64)
    call = EventCall(
        images=N, groups=1, in_channels=16 * of_a_position, height=height, width=width,
        threads=torch.get_num_threads(), known=words.data_ptr(), bits=bits.data_ptr(),
    )  # fmt: skip
    run_events("pack", torch.float32, call)
    return Packed(bits, call.spikes / max(1, 16 * words.numel()), True)


@torch.library.custom_op("snn_exp::spike_bits", mutates_args=(), device_types="cpu")
def spike_bits(s: Tensor) -> Tensor:
    """Compute the bits of `pack`.

    Example:
        >>> spike_bits(torch.tensor([[[[0.0, 1.0, 1.0]]]])).tolist()
        [[[6]]]
    """
    return pack(s).bits


@torch.library.custom_op("snn_exp::spike_conv2d", mutates_args=(), device_types="cpu")
def _conv2d(s: Tensor, bits: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    """Compute the output from the bits; s is there for its gradient."""
    _check(s, bits, weight, groups)
    y = new_output(s, weight, stride)
    call = convolution_call(s.shape, weight, stride, groups, bits, y)
    call.weight, call.y = weight.data_ptr(), y.data_ptr()
    run_events("forward", s.dtype, call)
    return y


@torch.library.custom_op("snn_exp::spike_conv2d_weight", mutates_args=(), device_types="cpu")
def _conv2d_weight(
    bits: Tensor, grad_y: Tensor, weight: Tensor, height: int, width: int, stride: int, groups: int
) -> Tensor:
    """Compute dL/dW, in the memory format of the weight."""
    grad_y = grad_y.contiguous(memory_format=torch.channels_last)
    grad_weight = torch.empty_like(weight)
    call = convolution_call((*bits.shape[:2], height, width), grad_weight, stride, groups, bits, grad_y)
    call.grad_y, call.grad_weight = grad_y.data_ptr(), grad_weight.data_ptr()
    run_events("backward", grad_y.dtype, call)
    return grad_weight


@torch.library.custom_op("snn_exp::spike_conv2d_input", mutates_args=(), device_types="cpu")
def _conv2d_input(grad_y: Tensor, weight: Tensor, height: int, width: int, stride: int, groups: int) -> Tensor:
    """Compute dL/ds."""
    return input_gradient(grad_y, weight, height, width, stride, groups)


@spike_bits.register_fake
def _(s: Tensor) -> Tensor:
    return _new_bits(s)


@_conv2d.register_fake
def _(s: Tensor, bits: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    return new_output(s, weight, stride)


@_conv2d_weight.register_fake
def _(bits: Tensor, grad_y: Tensor, weight: Tensor, height: int, width: int, stride: int, groups: int) -> Tensor:
    return torch.empty_like(weight)


@_conv2d_input.register_fake
def _(grad_y: Tensor, weight: Tensor, height: int, width: int, stride: int, groups: int) -> Tensor:
    shape = (grad_y.shape[0], weight.shape[1] * groups, height, width)
    return torch.empty(shape, dtype=grad_y.dtype, device=grad_y.device, memory_format=torch.channels_last)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int, int], output: Tensor) -> None:
    s, bits, weight, ctx.stride, ctx.groups = inputs
    ctx.shape = s.shape
    ctx.save_for_backward(weight, bits if weight.requires_grad else None)


def _back(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
    weight, bits = ctx.saved_tensors
    stride, groups, (_, _, height, width) = ctx.stride, ctx.groups, ctx.shape
    grad_s = grad_weight = None
    if ctx.needs_input_grad[0]:
        grad_s = _conv2d_input(grad_y, weight, height, width, stride, groups)
    if ctx.needs_input_grad[2]:
        grad_weight = _conv2d_weight(bits, grad_y, weight, height, width, stride, groups)
    return grad_s, None, grad_weight, None, None


_conv2d.register_autograd(_back, setup_context=_keep)


def _check(s: Tensor, bits: Tensor, weight: Tensor, groups: int) -> None:
    if s.dtype not in DTYPES or weight.dtype != s.dtype:
        raise TypeError(f"spikes and weights are both in float32 or float64, not {s.dtype} and {weight.dtype}")
    num_out, per_group, *kernel = weight.shape
    if tuple(kernel) not in KERNEL_SIZES:
        raise ValueError(f"a kernel is 1 x 1 or 3 x 3, not {' x '.join(map(str, kernel))}")
    if s.dim() != 4 or s.shape[1] != per_group * groups or num_out % groups or bits.shape != _new_bits(s).shape:
        raise ValueError(
            f"weights {tuple(weight.shape)} in {groups} groups and bits {tuple(bits.shape)} do not fit spikes "
            f"{tuple(s.shape)}"
        )


def _new_bits(s: Tensor) -> Tensor:
    return s.new_empty(*s.shape[:2], (s.shape[2] * s.shape[3] + 63) // 64, dtype=torch.int64)


def new_output(s: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Make room for the output of spikes [N, C, H, W], channels-last."""
    space = [(size - 1) // stride + 1 for size in s.shape[2:]]
    shape = (s.shape[0], weight.shape[0], *space)
    return torch.empty(shape, dtype=s.dtype, device=s.device, memory_format=torch.channels_last)


def convolution_call(
    shape: tuple[int, ...], weights: Tensor, stride: int, groups: int, bits: Tensor, outputs: Tensor
) -> EventCall:
    """Make the arguments that a convolution and its gradient share."""
    N, C, H, W = shape
    return EventCall(
        images=N, groups=groups, in_channels=C // groups, out_channels=weights.shape[0] // groups, height=H, width=W,
        kernel=weights.shape[-1], stride=stride, out_height=outputs.shape[2], out_width=outputs.shape[3],
        threads=torch.get_num_threads(), weight_strides=(ctypes.c_int64 * 4)(*weights.stride()), bits=bits.data_ptr(),
    )  # fmt: skip


def run_events(name: str, dtype: torch.dtype, call: EventCall) -> None:
    """Call a function of events.cpp."""
    real = DTYPES[dtype]
    getattr(library("events.cpp", (), real, real), name)(ctypes.byref(call))
