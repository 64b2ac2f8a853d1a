"""Spike functions: a Heaviside step forward, a surrogate derivative backward.

Every surrogate derivative is written as

    ds/dx = peak * k(x / width),  k(0) = 1,  x = u - v_threshold

so that its height and its reach can be studied apart. The defaults reproduce the customary
constants of each form. `primitive` is an antiderivative of the surrogate derivative; the tests
compare the two by finite differences.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from snn_exp.registry import Limit, Positive, Registry


class Surrogate(ABC):
    """The derivative that stands in for that of the step.

    Args:
        peak: height of the derivative at the threshold.
        width: scale of the membrane axis, in the units of the membrane.
    """

    version: ClassVar[int] = 1

    def __init__(self, peak: float, width: float) -> None:
        self.peak = peak
        self.width = width

    @abstractmethod
    def kernel(self, y: Tensor) -> Tensor:
        """Compute k(y), with k(0) = 1."""

    @abstractmethod
    def kernel_primitive(self, y: Tensor) -> Tensor:
        """Compute the antiderivative of k that is 0 at y = 0."""

    def derivative(self, x: Tensor) -> Tensor:
        """Compute peak * k(x / width)."""
        return self.peak * self.kernel(x / self.width)

    def primitive(self, x: Tensor) -> Tensor:
        """Compute the antiderivative of `derivative` that is 1/2 at the threshold: the soft step it belongs to."""
        return 0.5 + self.peak * self.width * self.kernel_primitive(x / self.width)

    def spike(self, x: Tensor) -> Tensor:
        """Compute H(x) in {0, 1} with H(0) = 1; its backward is `derivative`."""
        return _Step.apply(x, self, False)  # type: ignore[no-any-return]

    def sign(self, x: Tensor) -> Tensor:
        """Compute sign(x) in {-1, +1} with sign(0) = +1; its backward is `derivative`."""
        return _Step.apply(x, self, True)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(peak={self.peak:g}, width={self.width:g})"


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: Surrogate, signed: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        s = x.clone().ge_(0)  # in the dtype of x: by way of bool it would take five times as long on a CPU
        return 2 * s - 1 if signed else s

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return gradients[0] * ctx.surrogate.derivative(x), None, None


Peak = Annotated[Positive, Limit(1000, "the gradient, which each layer multiplies by it, overflows")]

SURROGATES: Registry[Surrogate] = Registry("surrogate")


@SURROGATES.register("none")
class NoSurrogate(Surrogate):
    """No surrogate: for activations that have a derivative of their own, such as relu.

    Definition:
        ds/dx = 0; it is never asked for.

    Source: our choice: a part without effect has a name, so that it can be left out of a run's identity.

    Example:
        >>> NoSurrogate()
        NoSurrogate(peak=0, width=1)
    """

    def __init__(self) -> None:
        super().__init__(peak=0.0, width=1.0)

    def kernel(self, y: Tensor) -> Tensor:
        return torch.ones_like(y)

    def kernel_primitive(self, y: Tensor) -> Tensor:
        return y


@SURROGATES.register("sigmoid")
class Sigmoid(Surrogate):
    """Derivative of the logistic function.

    Equation:
        ds/dx = a sig(a x) (1 - sig(a x)),  a = 1 / width;  k(y) = 4 sig(y) (1 - sig(y))

    Args:
        peak: height at the threshold; a / 4.
        width: 1 / a, membrane units; a = 4 is customary.

    Raises:
        UserError: peak or width is not positive.

    Source: SpikingJelly surrogate.Sigmoid (alpha = 4).

    Example:
        >>> Sigmoid().derivative(torch.tensor([0.0, 0.25]))
        tensor([1.0000, 0.7864])
    """

    def __init__(self, *, peak: Peak = 1.0, width: Positive = 0.25) -> None:
        super().__init__(peak, width)

    def kernel(self, y: Tensor) -> Tensor:
        sig = torch.sigmoid(y)
        return 4 * sig * (1 - sig)

    def kernel_primitive(self, y: Tensor) -> Tensor:
        return 4 * (torch.sigmoid(y) - 0.5)


@SURROGATES.register("atan")
class ATan(Surrogate):
    """Derivative of the arc tangent: heavy tails.

    Equation:
        ds/dx = (a / 2) / (1 + (pi a x / 2)^2),  width = 2 / (pi a);  k(y) = 1 / (1 + y^2)

    Args:
        peak: height at the threshold; a / 2.
        width: 2 / (pi a), membrane units; a = 2 is customary.

    Raises:
        UserError: peak or width is not positive.

    Source: Fang et al. 2021 (PLIF); SpikingJelly surrogate.ATan (alpha = 2).

    Example:
        >>> ATan().derivative(torch.tensor([0.0]))
        tensor([1.])
    """

    def __init__(self, *, peak: Peak = 1.0, width: Positive = 1 / math.pi) -> None:
        super().__init__(peak, width)

    def kernel(self, y: Tensor) -> Tensor:
        return 1 / (1 + y * y)

    def kernel_primitive(self, y: Tensor) -> Tensor:
        return torch.atan(y)


@SURROGATES.register("triangle")
class Triangle(Surrogate):
    """A triangle around the threshold.

    Equation:
        ds/dx = max(0, a - a^2 |x|),  width = 1 / a;  k(y) = max(0, 1 - |y|)

    Args:
        peak: height at the threshold; a.
        width: half of the base, membrane units; a = 1 is customary.

    Raises:
        UserError: peak or width is not positive.

    Source: Esser et al. 2016; Bellec et al. 2018.

    Example:
        >>> Triangle().derivative(torch.tensor([-2.0, -0.5, 0.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """

    def __init__(self, *, peak: Peak = 1.0, width: Positive = 1.0) -> None:
        super().__init__(peak, width)

    def kernel(self, y: Tensor) -> Tensor:
        return (1 - y.abs()).clamp(min=0)

    def kernel_primitive(self, y: Tensor) -> Tensor:
        inside = y.clamp(-1, 1)
        return inside - inside * inside.abs() / 2


@SURROGATES.register("rect")
class Rect(Surrogate):
    """A rectangle around the threshold.

    Equation:
        ds/dx = a if |x| < 1 / (2 a) else 0,  width = 1 / a;  k(y) = 1[|y| < 1/2]

    Args:
        peak: height; a.
        width: full width, membrane units; a = 1 is customary.

    Raises:
        UserError: peak or width is not positive.

    Source: Wu et al. 2018 (STBP).

    Example:
        >>> Rect().derivative(torch.tensor([0.4, 0.6]))
        tensor([1., 0.])
    """

    def __init__(self, *, peak: Peak = 1.0, width: Positive = 1.0) -> None:
        super().__init__(peak, width)

    def kernel(self, y: Tensor) -> Tensor:
        return (y.abs() < 0.5).to(y.dtype)

    def kernel_primitive(self, y: Tensor) -> Tensor:
        return y.clamp(-0.5, 0.5)


@SURROGATES.register("slayer_exp")
class SlayerExp(Surrogate):
    """A two-sided exponential, as in SLAYER.

    Equation:
        ds/dx = (a / 2) exp(-a |x|),  width = 1 / a;  k(y) = exp(-|y|)

    Args:
        peak: height at the threshold; a / 2. A peak of 1 exploded in 110 layers, 0.5 did not.
        width: 1 / a, membrane units; a = 1 is customary.

    Raises:
        UserError: peak or width is not positive.

    Source: Shrestha and Orchard 2018 (SLAYER).

    Example:
        >>> SlayerExp().derivative(torch.tensor([0.0, 1.0]))
        tensor([0.5000, 0.1839])
    """

    def __init__(self, *, peak: Peak = 0.5, width: Positive = 1.0) -> None:
        super().__init__(peak, width)

    def kernel(self, y: Tensor) -> Tensor:
        return y.abs().neg_().exp_()  # in place: y.abs() is a new tensor

    def kernel_primitive(self, y: Tensor) -> Tensor:
        return torch.sign(y) * -torch.expm1(-y.abs())


@SURROGATES.register("fast_sigmoid")
class FastSigmoid(Surrogate):
    """Derivative of the fast sigmoid (SuperSpike).

    Equation:
        ds/dx = 1 / (slope |x| + 1)^2,  width = 1 / slope;  k(y) = 1 / (|y| + 1)^2

    Args:
        peak: height at the threshold; 1.
        width: 1 / slope, membrane units; slope = 25 is customary.

    Raises:
        UserError: peak or width is not positive.

    Source: Zenke and Ganguli 2018; snnTorch surrogate.fast_sigmoid (slope = 25).

    Example:
        >>> FastSigmoid().derivative(torch.tensor([0.0, 0.04]))
        tensor([1.0000, 0.2500])
    """

    def __init__(self, *, peak: Peak = 1.0, width: Positive = 0.04) -> None:
        super().__init__(peak, width)

    def kernel(self, y: Tensor) -> Tensor:
        return 1 / (y.abs() + 1) ** 2

    def kernel_primitive(self, y: Tensor) -> Tensor:
        return y / (y.abs() + 1)


@SURROGATES.register("erf")
class Erf(Surrogate):
    """A Gaussian around the threshold, the derivative of the error function.

    Equation:
        ds/dx = a / sqrt(pi) exp(-a^2 x^2),  width = 1 / a;  k(y) = exp(-y^2)

    Args:
        peak: height at the threshold; a / sqrt(pi).
        width: 1 / a, membrane units; a = 2 is customary.

    Raises:
        UserError: peak or width is not positive.

    Source: SpikingJelly surrogate.Erf (alpha = 2).

    Example:
        >>> Erf().derivative(torch.tensor([0.0]))
        tensor([1.1284])
    """

    def __init__(self, *, peak: Peak = 2 / math.pi**0.5, width: Positive = 0.5) -> None:
        super().__init__(peak, width)

    def kernel(self, y: Tensor) -> Tensor:
        return torch.exp(-y * y)

    def kernel_primitive(self, y: Tensor) -> Tensor:
        return math.sqrt(math.pi) / 2 * torch.erf(y)


@SURROGATES.register("s2nn")
class S2NNSurrogate(Surrogate):
    """The single-step surrogate: a sigmoid below the threshold, a 1/x tail above it.

    A neuron far above its threshold keeps a gradient, where bounded forms give almost none. Made
    for one time step; in a network of several steps no study here has run it.

    Equation:
        ds/dx = alpha sig(alpha x) (1 - sig(alpha x))  for x < 0
                beta / (x + 1)                         for x >= 0
        continuous at 0 only if beta = alpha / 4. With peak and width: peak * ds/dx(x / width).

    Args:
        alpha: steepness below the threshold.
        beta: height of the tail above it.
        peak: a factor on the height.
        width: a scale of the membrane axis, membrane units.

    Raises:
        UserError: a parameter is not positive.

    Source: Suetake et al. 2022, as in SpikingJelly surrogate.S2NN and BrainPy; the paper's own
        constants are not known to us.

    Example:
        >>> S2NNSurrogate().derivative(torch.tensor([0.0, 1.0, 9.0]))
        tensor([1.0000, 0.5000, 0.1000])
    """

    def __init__(self, *, alpha: Positive = 4.0, beta: Positive = 1.0, peak: Peak = 1.0, width: Positive = 1.0) -> None:
        super().__init__(peak, width)
        self.alpha = alpha
        self.beta = beta

    def kernel(self, y: Tensor) -> Tensor:
        sig = torch.sigmoid(self.alpha * y)
        # clamp: the untaken branch must stay finite at y = -1, or its gradient turns into NaN
        return torch.where(y < 0, self.alpha * sig * (1 - sig), self.beta / (y.clamp(min=0) + 1))

    def kernel_primitive(self, y: Tensor) -> Tensor:
        below = torch.sigmoid(self.alpha * y) - 0.5
        return torch.where(y < 0, below, self.beta * torch.log1p(y.clamp(min=0)))


@SURROGATES.register("ste")
class STE(Surrogate):
    """Straight-through estimator, cut off outside a window.

    Equation:
        ds/dx = 1[|x| <= 1];  k(y) = 1[|y| <= 1]

    Args:
        peak: height inside the window.
        width: half of the window, membrane units.

    Raises:
        UserError: peak or width is not positive.

    Source: Hubara et al. 2016 (BNN).

    Example:
        >>> STE().derivative(torch.tensor([-1.0, 1.5]))
        tensor([1., 0.])
    """

    def __init__(self, *, peak: Peak = 1.0, width: Positive = 1.0) -> None:
        super().__init__(peak, width)

    def kernel(self, y: Tensor) -> Tensor:
        return (y.abs() <= 1).to(y.dtype)

    def kernel_primitive(self, y: Tensor) -> Tensor:
        return y.clamp(-1, 1)


@SURROGATES.register("approx_sign")
class ApproxSign(Triangle):
    """The piecewise linear derivative of Bi-Real Net, for a sign that jumps by 2.

    Equation:
        ds/dx = max(0, 2 - 2 |x|);  k(y) = max(0, 1 - |y|)

    Args:
        peak: height at the threshold.
        width: half of the base, membrane units.

    Raises:
        UserError: peak or width is not positive.

    Source: Liu et al. 2018 (Bi-Real Net), read in its code.

    Example:
        >>> ApproxSign().derivative(torch.tensor([0.0, 0.5]))
        tensor([2., 1.])
    """

    def __init__(self, *, peak: Peak = 2.0, width: Positive = 1.0) -> None:
        super().__init__(peak=peak, width=width)


@SURROGATES.register("swish_sign")
class SwishSign(Surrogate):
    """Derivative of the SignSwish of BNN+; slightly negative at its feet.

    Equation:
        ds/dx = b (2 - b x tanh(b x / 2)) / (1 + cosh(b x)),  width = 1 / b
        k(y) = (2 - y tanh(y / 2)) / (1 + cosh(y))

    Args:
        peak: height at the threshold; b.
        width: 1 / b, membrane units; b = 5 is customary.

    Raises:
        UserError: peak or width is not positive.

    Source: Darabi et al. 2018 (BNN+), from memory.

    Example:
        >>> SwishSign().derivative(torch.tensor([0.0]))
        tensor([5.])
    """

    def __init__(self, *, peak: Peak = 5.0, width: Positive = 0.2) -> None:
        super().__init__(peak, width)

    def kernel(self, y: Tensor) -> Tensor:
        # 1 / (1 + cosh y) = 2 sig(y) (1 - sig(y)), which does not overflow
        sig = torch.sigmoid(y)
        return (2 - y * torch.tanh(y / 2)) * 2 * sig * (1 - sig)

    def kernel_primitive(self, y: Tensor) -> Tensor:
        sig = torch.sigmoid(y)
        return 2 * sig * (1 + y * (1 - sig)) - 1
