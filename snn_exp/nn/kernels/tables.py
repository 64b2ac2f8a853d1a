"""Convolutions of spikes by tables of sums, for inference: four channels at a time are looked up, whatever fires.

Shapes: T steps, B batch, C and O channels in and out, H W space, K the kernel's side, N images.

    y = W * s + bias (+ stream), s in {0, 1}
    table[m] = sum of the weights of those of four channels that m names, m = 0 to 15, per tap and output

Weights have to stay as they are, since the tables, four times as large, are made of them once. What it costs does not
depend on the rate. Sums are formed in the dtype of the weights, four channels at a time, and depend neither on the
number of threads nor on the processor. Only on a CPU (tables.cpp).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snn_exp.nn.kernels.build import TableCall, library
from snn_exp.nn.kernels.events import DTYPES, KERNEL_SIZES
from snn_exp.nn.kernels.layout import channels_last

WORD = 16  # channels of a word of spikes
TOGETHER = 4  # channels of a table


class ConvolutionByTables(nn.Module):
    """A convolution of spikes that looks sums up, with what is added to it.

    Equation:
        y[t] = W * s[t] + bias + stream[t]

    Shapes:
        s: [T, B, C, H, W], or its bits [T, B, H, W, ceil(C / 16)]; y, stream: [T, B, O, H', W']

    Args:
        conv: in one group, with a 1x1 or 3x3 kernel, padded to keep the size, stride 1 or 2; float32 or float64.
        over: whether y is written over the stream.

    Raises:
        ValueError: another convolution.

    Example:
        >>> conv = nn.Conv2d(3, 8, 3, padding=1).requires_grad_(False)
        >>> s = (torch.rand(2, 4, 3, 5, 5) < 0.2).float()
        >>> torch.allclose(ConvolutionByTables(conv)(s).flatten(0, 1), conv(s.flatten(0, 1)), atol=1e-6)
        True
    """

    tables: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, *, over: bool = False) -> None:
        super().__init__()
        if not can_be_looked_up(conv):
            raise ValueError(f"not a convolution that tables are for: {conv}")
        weight = conv.weight.detach()
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach()
        self.out_channels, self.in_channels, self.kernel, _ = weight.shape
        self.stride = conv.stride[0]
        self.over = over
        self.register_buffer("tables", sums_of(weight))
        self.register_buffer("bias", nn.functional.pad(bias, (0, -len(bias) % _lane(weight.dtype))))

        self._calls: dict[torch.Size, tuple[bytes, Callable[..., None]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_calls": {}}  # they hold addresses

    def forward(self, s: Tensor, stream: Tensor | None = None) -> Tensor:
        """Compute y."""
        if s.dtype != torch.int16:
            _require(s.shape[2] == self.in_channels and s.dtype == self.bias.dtype, self, s)
        bits = s if s.dtype == torch.int16 else bits_of(s)
        T, B, H, W, words = bits.shape
        size = ((H - 1) // self.stride + 1, (W - 1) // self.stride + 1)
        _require(words == -(-self.in_channels // WORD) and bits.is_contiguous(), self, bits)
        if stream is not None:
            _require(stream.shape == (T, B, self.out_channels, *size) and stream.dtype == self.bias.dtype, self, stream)
            stream = stream if channels_last(stream) else by_position(stream)
        y = (
            stream
            if stream is not None and self.over
            else self.bias.new_empty(T, B, *size, self.out_channels).permute(0, 1, 4, 2, 3)
        )
        known = self._calls.get(bits.shape)
        if known is None:
            prepared = TableCall(
                images=T * B, in_channels=self.in_channels, out_channels=self.out_channels, height=H, width=W,
                kernel=self.kernel, stride=self.stride, out_height=size[0], out_width=size[1],
                tables=self.tables.data_ptr(), bias=self.bias.data_ptr(),
            )  # fmt: skip
            known = self._calls[bits.shape] = bytes(prepared), _library(self.bias.dtype).forward
        template, run = known
        call = TableCall.from_buffer_copy(template)
        call.threads, call.bits, call.y = torch.get_num_threads(), bits.data_ptr(), y.data_ptr()
        call.stream = None if stream is None else stream.data_ptr()
        run(ctypes.byref(call))
        return y

    def _apply(self, fn: Callable[[Tensor], Tensor], *rest: Any) -> ConvolutionByTables:
        require_same_numbers(fn, self.bias)
        return self

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel={self.kernel}, stride={self.stride}"


def _require(fits: bool, layer: nn.Module, given: Tensor) -> None:
    if not fits:
        raise ValueError(f"{layer} does not fit a tensor {tuple(given.shape)} in {given.dtype}")


def require_same_numbers(fn: Callable[[Tensor], Tensor], like: Tensor) -> None:
    """Refuse what would move a prepared layer off the CPU, or into another dtype.

    Raises:
        TypeError: it would.
    """
    now = fn(like[:0])
    if now.dtype != like.dtype or now.device.type != "cpu":
        raise TypeError(
            f"a layer prepared for inference stays on the CPU and in {like.dtype}; prepare the network again in another"
        )


def can_be_looked_up(conv: nn.Conv2d) -> bool:
    """Return whether tables are for this convolution."""
    stride, kernel = conv.stride, tuple(conv.kernel_size)
    fits = kernel in KERNEL_SIZES and stride in ((1, 1), (2, 2)) and conv.dilation == (1, 1) and conv.groups == 1
    return fits and conv.padding == (kernel[0] // 2,) * 2 and conv.weight.dtype in DTYPES


def sums_of(weight: Tensor) -> Tensor:
    """Compute the tables, [lanes, words, K, K, 4, 16, values of a lane].

    Example:
        >>> weight = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 4, 1, 1)
        >>> sums_of(weight)[0, 0, 0, 0, 0, :, 0].tolist() == [float(m) for m in range(16)]
        True
    """
    lane = _lane(weight.dtype)
    num_out, num_in, kernel, _ = weight.shape
    lanes, words = -(-num_out // lane), -(-num_in // WORD)
    whole = weight.new_zeros(lanes * lane, words * WORD, kernel, kernel)
    whole[:num_out, :num_in] = weight
    of_four = whole.view(lanes, lane, words, TOGETHER, TOGETHER, kernel, kernel).permute(0, 2, 5, 6, 3, 4, 1)
    tables = weight.new_zeros(*of_four.shape[:5], 2**TOGETHER, lane)
    for m in range(2**TOGETHER):
        for channel in range(TOGETHER):  # in this order, so that the sums are the same everywhere
            if m >> channel & 1:
                tables[..., m, :] += of_four[..., channel, :]
    return tables


def bits_of(s: Tensor) -> Tensor:
    """Pack spikes [T, B, C, H, W] to [T, B, H, W, ceil(C / 16)], 16 channels to a word; what is not 0 counts as 1.

    Example:
        >>> bits_of(torch.tensor([1.0, 0.0, 1.0]).view(1, 1, 3, 1, 1)).tolist()
        [[[[[5]]]]]
    """
    s = s if channels_last(s) else by_position(s)
    bits = new_bits(s)
    T, B, C, H, W = s.shape
    call = TableCall(
        images=T * B, in_channels=C, height=H, width=W, threads=torch.get_num_threads(), x=s.data_ptr(),
        bits=bits.data_ptr(),
    )  # fmt: skip
    _library(s.dtype).pack(ctypes.byref(call))
    return bits


def new_bits(s: Tensor) -> Tensor:
    """Make room for the bits of spikes [T, B, C, H, W]."""
    T, B, C, H, W = s.shape
    return torch.empty(T, B, H, W, -(-C // WORD), dtype=torch.int16)


def _lane(dtype: torch.dtype) -> int:
    return 64 // dtype.itemsize


def by_position(x_TBCHW: Tensor) -> Tensor:
    """Return the same values in channels-last memory format, also where there is a single channel or position."""
    return x_TBCHW.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def _library(dtype: torch.dtype) -> ctypes.CDLL:
    real = DTYPES[dtype]
    return library("tables.cpp", (), real, real)
