"""The layers of an int8 network: weights in small integers, and the neurons that read or emit them.

Shapes: T steps, which is 1, B batch, C channels, H W space, N any feature dimensions.
Symbols: s spikes or, of a ReLU, counts of its scale, both in uint8; q weights in int8; a scale of an activation.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.export.fold import WEIGHT_LAYERS

Q_MAX = 127  # of a weight; -128 is left out, so that a weight can be negated
S_MAX = 255  # of an activation


class IntegerWeights(nn.Module):
    """A convolution or a linear map of small integers, in int8.

    Equation:
        y = w a sum(q s) + bias, the sum in int32, the rest in float32

    Shapes:
        s: [1, B, C, H, W] or [1, B, C] in uint8; y likewise in float32

    Args:
        layer: the weights, a convolution or a linear map in one group.
        scale: a, of the input; 1 for spikes.

    Source: symmetric per-channel quantization, as in Jacob et al. 2018, section 2.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[0.5, -1.0]]))
        >>> IntegerWeights(layer).q.flatten().tolist()  # 0.5 is 63.5 / 127, rounded to the even neighbour
        [64, -127]
    """

    q: Tensor
    w_scale: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        assert isinstance(layer, WEIGHT_LAYERS)
        self.is_linear = isinstance(layer, nn.Linear)
        self.scale = scale
        self.stride = [1, 1] if isinstance(layer, nn.Linear) else list(layer.stride)
        self.padding = [0, 0] if isinstance(layer, nn.Linear) else [int(p) for p in layer.padding]
        weight = layer.weight.detach().double()
        weight = weight[:, :, None, None] if self.is_linear else weight  # a linear map is a 1x1 convolution
        largest = weight.abs().amax((1, 2, 3))
        w_scale = torch.where(largest > 0, largest / Q_MAX, 1.0)
        q = (weight / w_scale.view(-1, 1, 1, 1)).round().to(torch.int8)
        bias = torch.zeros(len(q)) if layer.bias is None else layer.bias.detach().float()
        self.register_buffer("q", q)
        self.register_buffer("w_scale", w_scale.float())
        self.register_buffer("bias", bias)
        self._prepare(self.w_scale, self.bias)

    def _prepare(self, multiplier: Tensor, offset: Tensor) -> None:
        """Set the kernel's multiplier and offset of the sum; the weights are put in its order at first use."""
        self._multiplier, self._offset = multiplier, offset
        self._no_shift = torch.zeros(len(self.q), dtype=torch.long)
        self._packed: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}  # the kernel's own order cannot be copied

    def forward(self, s: Tensor) -> Tensor:
        """Compute y."""
        return self._multiplied(s, torch.float32, "none", [])

    def _multiplied(self, s: Tensor, dtype: torch.dtype, then: str, limits: list[float], unit: float = 1.0) -> Tensor:
        """Call the kernel; `then` is applied to y before it writes round(y / unit)."""
        if self._packed is None:
            self._packed = torch.ops.onednn.qconv_prepack(
                self.q, self._multiplier, self.scale, 0, self.stride, self.padding, [1, 1], 1, None
            )
        s_BCHW = s[0, :, :, None, None] if self.is_linear else s[0]
        y_BCHW: Tensor = torch.ops.onednn.qconv_pointwise(
            s_BCHW, self.scale, 0, self._packed, self._multiplier, self._no_shift, self._offset, self.stride,
            self.padding, [1, 1], 1, unit, 0, dtype, then, limits, "",
        )  # fmt: skip
        return y_BCHW[None, :, :, 0, 0] if self.is_linear else y_BCHW[None]

    def sums(self, s: Tensor) -> Tensor:
        """Compute the sums of q s in float64, where they are exact; the kernel does not return them."""
        x = s[0, :, :, None, None] if self.is_linear else s[0]
        return functional.conv2d(x.double(), self.q.double(), None, self.stride, self.padding)[None]

    @property
    def largest_sum(self) -> Tensor:
        """Return the bound of a sum where all inputs are 0 or 1, per channel."""
        return self.q.double().abs().sum((1, 2, 3))


class IntegerSpikes(IntegerWeights):
    """Weights and the neuron that alone reads them: spikes in, spikes out, only integers in between.

    Equation:
        s' = H(sum(q s) - t),  t = ceil((threshold - bias) / w);  q is negated where it fires from below

    Shapes:
        s, s': [1, B, C, H, W] or [1, B, C] in uint8

    Args:
        layer: as in `IntegerWeights`.
        threshold: of the current, per channel.
        sign: -1 where the neuron fires from below.

    Source: ours; the step is the kernel's clamp to [0, 1] of 2 (sum - t) + 1, an odd number.
    """

    t: Tensor

    def __init__(self, layer: nn.Module, threshold: Tensor, sign: Tensor) -> None:
        super().__init__(layer)
        sign_C, threshold_C = (v.detach().double().flatten().expand(len(self.q)) for v in (sign, threshold))
        t = sign_C * (threshold_C - self.bias.double()) / self.w_scale.double()
        self.q.mul_(sign_C.to(torch.int8).view(-1, 1, 1, 1))
        limit = self.largest_sum + 1  # beyond it the neuron fires always or never; so that float32 holds all of it
        self.register_buffer("t", t.ceil().clamp(-limit, limit).to(torch.int32))
        self._prepare(torch.full_like(self.w_scale, 2.0), 1 - 2 * self.t.float())

    def forward(self, s: Tensor) -> Tensor:
        """Compute s'."""
        return self._multiplied(s, torch.uint8, "hardtanh", [0.0, 1.0])


class IntegerRectified(IntegerWeights):
    """Weights and the ReLU that alone reads them.

    Equation:
        s' = clamp(round((w a sum(q s) + bias) / a'), 0, 255)

    Args:
        layer: as in `IntegerWeights`.
        scale: a.
        unit: a', the scale of the output.
    """

    def __init__(self, layer: nn.Module, scale: float, unit: float) -> None:
        super().__init__(layer, scale)
        self.unit = unit

    def forward(self, s: Tensor) -> Tensor:
        """Compute s'."""
        return self._multiplied(s, torch.uint8, "none", [], self.unit)


class Fire(nn.Module):
    """The neuron that reads a current in float32: spikes in uint8.

    Equation:
        s = H(sign (x - threshold))

    Args:
        threshold: as the neuron has it.
        sign: -1 where it fires from below.

    Example:
        >>> Fire(torch.tensor(1.0), torch.tensor(1.0))(torch.tensor([[[0.9, 1.0]]]))
        tensor([[[0, 1]]], dtype=torch.uint8)
    """

    threshold: Tensor
    sign: Tensor

    def __init__(self, threshold: Tensor, sign: Tensor) -> None:
        super().__init__()
        _hear_announcement()
        self.register_buffer("threshold", threshold.detach().float())
        self.register_buffer("sign", sign.detach().float())
        self.only_from_above = bool((sign > 0).all())

    def forward(self, x: Tensor) -> Tensor:
        """Compute s."""
        # a comparison into float32 and its rounding are both vectorized in torch; one into bool is not
        fired = torch.empty_like(x)
        if self.only_from_above:
            torch.ge(x, self.threshold, out=fired)
        else:
            torch.sub(x, self.threshold, out=fired).mul_(self.sign).ge_(0)
        return rounded(fired, 1.0)


class Rectify(nn.Module):
    """The ReLU that reads a current in float32.

    Equation:
        s = clamp(round(x / a), 0, 255)

    Args:
        scale: a.

    Example:
        >>> Rectify(0.5)(torch.tensor([[[-1.0, 0.9, 1000.0]]]))
        tensor([[[  0,   2, 255]]], dtype=torch.uint8)
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        _hear_announcement()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Compute s."""
        return rounded(x, self.scale)


def rounded(x: Tensor, scale: float) -> Tensor:
    """Compute clamp(round(x / scale), 0, 255) of [1, B, N] in uint8, in x's memory format."""
    # x.round().to(torch.uint8) is not vectorized and takes twice as long; of five axes it would undo the order
    quantized = torch.quantize_per_tensor(x[0], scale, 0, torch.quint8)
    # the same bytes under their plain name; int_repr() would copy them
    plain = torch.empty(0, dtype=torch.uint8)
    return plain.set_(quantized.untyped_storage(), 0, quantized.shape, quantized.stride())[None]


@functools.cache
def _hear_announcement() -> None:
    """Consume torch's warning, given once per process, that a later version drops quint8; no user can act on it."""
    with warnings.catch_warnings(action="ignore"):
        rounded(torch.zeros(1, 1), 1.0)


class ChannelsLast(nn.Module):
    """Float weights in channels-last memory format, put in the order of the kernel once per input shape.

    Args:
        layer: a convolution with plain weights.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        self._how = [[int(n) for n in pair] for pair in (layer.padding, layer.stride, layer.dilation)]  # torch's order
        self._packed: dict[torch.Size, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": {}}  # the kernel's own order cannot be copied

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Convolve [1, B, C, H, W] to [1, B, C', H', W']."""
        x_BCHW = x_TBCHW[0].contiguous(memory_format=torch.channels_last)
        if x_BCHW.shape not in self._packed:
            self._packed[x_BCHW.shape] = torch.ops.mkldnn._reorder_convolution_weight(
                self.layer.weight, *self._how, 1, list(x_BCHW.shape)
            )
        y_BCHW: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x_BCHW, self._packed[x_BCHW.shape], self.layer.bias, *self._how, 1, "none", [], ""
        )
        return y_BCHW[None]


class MeanLast(nn.Module):
    """`MeanOverTimeAndSpace` without a copy."""

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Average [1, B, C, ...] to [B, C]."""
        return x_TBN.mean((0, *range(3, x_TBN.dim())))
