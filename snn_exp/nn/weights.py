"""Weight normalization and quantization, applied in this order before a weight is used.

Shapes: O output units, N the fan-in dimensions of one output unit (I, or I, kernel height, kernel width).

Both kinds are modules that map W [O, N] to W [O, N]; `gain` is the standard deviation that
sqrt(fan_in) W has at initialisation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from snn_exp.registry import Positive, Registry

WEIGHT_NORMS: Registry[WeightNorm] = Registry("weight_norm")
WEIGHT_QUANTS: Registry[WeightQuant] = Registry("weight_quant")


class WeightNorm(nn.Module, ABC):
    """A normalization of the weights of each output unit.

    Args:
        num_units: O.
        gain: standard deviation of sqrt(fan_in) W at initialisation.
    """

    version: ClassVar[int] = 1

    def __init__(self, num_units: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        self.num_units = num_units
        self.gain = gain

    @abstractmethod
    def forward(self, weight_ON: Tensor) -> Tensor:
        """Normalize the weight."""


@WEIGHT_NORMS.register("none")
class NoWeightNorm(WeightNorm):
    """The weights as they are.

    Equation:
        W_hat = W

    Shapes:
        W, W_hat: [O, N]

    Source: the control.

    Example:
        >>> NoWeightNorm()(torch.tensor([[1.0, 3.0]]))
        tensor([[1., 3.]])
    """

    def forward(self, weight_ON: Tensor) -> Tensor:
        return weight_ON


@WEIGHT_NORMS.register("centred")
class CentredWeights(WeightNorm):
    """Zero-mean weights.

    Equation:
        W_hat = W - mean(W), the mean per output unit

    Shapes:
        W, W_hat: [O, N]

    Source: Huang et al. 2017 (centred weight normalization), without its unit norm.

    Example:
        >>> CentredWeights()(torch.tensor([[1.0, 3.0]]))
        tensor([[-1.,  1.]])
    """

    def forward(self, weight_ON: Tensor) -> Tensor:
        return weight_ON - weight_ON.mean(_fan_in_axes(weight_ON), keepdim=True)


@WEIGHT_NORMS.register("standardized")
class StandardizedWeights(WeightNorm):
    """Zero-mean weights of a learned size, as the variance law of PSP normalization assumes.

    Equation:
        W_hat = g (W - mean) / sqrt(var fan_in + eps), per output unit, g learned, starting from gain

    Shapes:
        W, W_hat: [O, N]

    Args:
        eps: added under the root.

    Raises:
        UserError: eps is not positive.

    Source: Qiao et al. 2019 (weight standardization) with the gain of Brock et al. 2021.

    Example:
        >>> StandardizedWeights()(torch.tensor([[1.0, 3.0]])).detach().round(decimals=3)
        tensor([[-0.7070,  0.7070]])
    """

    def __init__(self, num_units: int = 1, gain: float = 1.0, *, eps: Positive = 1e-4) -> None:
        super().__init__(num_units, gain)
        self.eps = eps
        self.g = nn.Parameter(torch.full((num_units,), gain))

    def forward(self, weight_ON: Tensor) -> Tensor:
        axes = _fan_in_axes(weight_ON)
        centred = weight_ON - weight_ON.mean(axes, keepdim=True)
        var_fan_in = centred.square().sum(axes, keepdim=True)
        g = self.g.view(-1, *(1 for _ in axes))
        return centred * (g * torch.rsqrt(var_fan_in + self.eps))


class WeightQuant(nn.Module, ABC):
    """A quantization of the weights.

    Args:
        gain: standard deviation of sqrt(fan_in) W at initialisation.
    """

    version: ClassVar[int] = 1

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain

    def start(self, weight_ON: Tensor) -> None:
        """Set what is learned by the weights before training; called again where an initialisation changes them."""

    @abstractmethod
    def forward(self, weight_ON: Tensor) -> Tensor:
        """Quantize the weight."""


@WEIGHT_QUANTS.register("none")
class NoWeightQuant(WeightQuant):
    """Full-precision weights.

    Equation:
        W_q = W

    Shapes:
        W, W_q: [O, N]

    Source: the control.

    Example:
        >>> NoWeightQuant()(torch.tensor([[0.3, -0.1]]))
        tensor([[ 0.3000, -0.1000]])
    """

    def forward(self, weight_ON: Tensor) -> Tensor:
        return weight_ON


@WEIGHT_QUANTS.register("bnn")
class BNNWeights(WeightQuant):
    """Binary weights.

    The constant in front keeps the size that full-precision weights have at initialisation, so that
    branch scaling still means something; it folds into whatever norm reads the sum.

    Equation:
        W_q = gain / sqrt(fan_in) sign(W), sign(0) = +1;  dW_q/dW through clamp(W, -1, 1)

    Shapes:
        W, W_q: [O, N]

    Source: Hubara et al. 2016; the constant is our choice.

    Example:
        >>> BNNWeights()(torch.tensor([[0.3, -0.1, 0.0, 0.2]]))
        tensor([[ 0.5000, -0.5000,  0.5000,  0.5000]])
    """

    def forward(self, weight_ON: Tensor) -> Tensor:
        scale = self.gain / math.sqrt(weight_ON[0].numel())
        return scale * _clamped_sign(weight_ON)


@WEIGHT_QUANTS.register("xnor")
class XNORWeights(WeightQuant):
    """Binary weights with one real scale per output unit.

    Equation:
        W_q = mean(|W|) sign(W), the mean per output unit;  dsign/dW through clamp(W, -1, 1)

    Shapes:
        W, W_q: [O, N]

    Source: Rastegari et al. 2016 (XNOR-Net).

    Example:
        >>> XNORWeights()(torch.tensor([[0.3, -0.1]]))
        tensor([[ 0.2000, -0.2000]])
    """

    def forward(self, weight_ON: Tensor) -> Tensor:
        scale = weight_ON.abs().mean(_fan_in_axes(weight_ON), keepdim=True)
        return scale * _clamped_sign(weight_ON)


@WEIGHT_QUANTS.register("int")
class FewBitWeights(WeightQuant):
    """Weights of a few bits: whole numbers times one scale per output unit.

    The scale is learned (LSQ), or the largest weight's. Symmetric: as many negative levels as positive ones, and 0,
    whose operations are skipped. The first layer and the classifier keep their precision unless asked.

    Equation:
        W_q = s round(clip(W / s, -Q, Q)),  Q = 2^(bits - 1) - 1, s per output unit
        learned: s from 2 mean(|W|) / sqrt(Q); dW_q/ds = round(W / s) - W / s inside, -Q or Q outside, times
                 1 / sqrt(fan_in Q);  dW_q/dW = 1 inside, 0 outside
        max:     s = max(|W|) / Q;  dW_q/dW = 1

    Shapes:
        W, W_q: [O, N]; s: [O], one for all units until `start` has seen the weights

    Args:
        bits: of a weight.
        scale: learned, or from the largest weight of each output unit.
        ends: quantize the first layer and the classifier too.

    Raises:
        UserError: bits outside 2 to 8, or scale is neither learned nor max.

    Source: Esser et al. 2020 (LSQ, arXiv 1902.08153), there with one scale per layer; Jacob et al. 2018 for the other.

    Example:
        >>> FewBitWeights(bits=3, scale="max")(torch.tensor([[0.3, -0.1, 0.04]]))
        tensor([[ 0.3000, -0.1000,  0.0000]])
    """

    def __init__(
        self,
        gain: float = 1.0,
        *,
        bits: Annotated[int, Interval(ge=2, le=8)] = 4,
        scale: Literal["learned", "max"] = "learned",
        ends: bool = False,
    ) -> None:
        super().__init__(gain)
        self.bits = bits
        self.most = 2 ** (bits - 1) - 1
        self.scale = nn.Parameter(torch.full((1,), gain / self.most)) if scale == "learned" else None

    @torch.no_grad()
    def start(self, weight_ON: Tensor) -> None:
        if self.scale is not None:
            scale_O = 2 * weight_ON.abs().flatten(1).mean(1) / math.sqrt(self.most)
            self.scale = nn.Parameter(scale_O.clone())

    def forward(self, weight_ON: Tensor) -> Tensor:
        axes = _fan_in_axes(weight_ON)
        if self.scale is None:
            scale = weight_ON.detach().abs().amax(axes, keepdim=True) / self.most
        else:
            slowed = self.scale / math.sqrt(weight_ON[0].numel() * self.most)
            scale = self.scale.detach() + (slowed - slowed.detach())  # the value of one, the gradient of the other
            scale = scale.view(-1, *(1 for _ in axes))
        scale = scale.to(weight_ON.dtype).abs().clamp_min(torch.finfo(torch.float16).tiny)
        whole: Tensor = (weight_ON / scale).clamp(-self.most, self.most)
        quantized: Tensor = scale * (whole.detach().round() + (whole - whole.detach()))
        return quantized

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


class _ClampedSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return torch.where(w >= 0, 1.0, -1.0).to(w.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        gradient: Tensor = gradients[0] * (w.abs() <= 1)
        return gradient


def _clamped_sign(w: Tensor) -> Tensor:
    """Compute sign(w) with sign(0) = +1, and the gradient of clamp(w, -1, 1)."""
    return _ClampedSign.apply(w)  # type: ignore[no-any-return]


def _fan_in_axes(weight_ON: Tensor) -> tuple[int, ...]:
    return tuple(range(1, weight_ON.dim()))
