"""Encodings: pixels in [0, 1], or frames, become T steps of input.

Shapes: T steps, B batch, C channels, H W space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from snn_exp.errors import UserError
from snn_exp.registry import Limit, Registry

Steps = Annotated[int, Ge(1), Limit(10_000, "each layer keeps every one of them for the backward pass")]

ENCODINGS: Registry[Encoding] = Registry("encoding", traits=("min_steps", "has_time"))


class Encoding(nn.Module, ABC):
    """Base class of encodings.

    Args:
        pixel_mean: mean of the training pixels.
        pixel_std: standard deviation of the training pixels.
        num_steps: T; null is 1 for a single-step neuron and 4 for the others.
    """

    min_steps: ClassVar[int] = 1
    has_time: ClassVar[bool] = False  # whether its input has time
    version: ClassVar[int] = 1

    def __init__(self, pixel_mean: float = 0.0, pixel_std: float = 1.0, *, num_steps: Steps | None = None) -> None:
        super().__init__()
        self.pixel_mean = pixel_mean
        self.pixel_std = pixel_std
        self.num_steps = num_steps or 1

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Encode pixels [B, C, H, W] in [0, 1], or frames [B, T, C, H, W], as [T, B, C, H, W]."""


@ENCODINGS.register("direct")
class Direct(Encoding):
    """The same pixels at each step; the first layer reads real values.

    Equation:
        y[t] = (x - pixel_mean) / pixel_std   with standardize, else x

    Shapes:
        x: [B, C, H, W], y: [T, B, C, H, W]

    Args:
        standardize: subtract the mean of the training pixels and divide by their standard deviation.

    Raises:
        UserError: num_steps < 1.

    Source: the usual direct input; standardized because all-positive pixels leave many channels dead.

    Example:
        >>> Direct(0.5, 0.25, num_steps=2)(torch.ones(1, 1, 1, 1)).flatten()
        tensor([2., 2.])
    """

    def __init__(
        self, pixel_mean: float = 0.0, pixel_std: float = 1.0, *, standardize: bool = True, **steps: Any
    ) -> None:
        super().__init__(pixel_mean, pixel_std, **steps)
        self.standardize = standardize

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.standardize:
            x_BCHW = (x_BCHW - self.pixel_mean) / self.pixel_std
        return x_BCHW.expand(self.num_steps, *x_BCHW.shape)


@ENCODINGS.register("rate")
class Rate(Encoding):
    """Random spikes whose rate is the pixel.

    Equation:
        y[t] ~ Bernoulli(x), independently at each step

    Shapes:
        x: [B, C, H, W], y: [T, B, C, H, W]

    Raises:
        UserError: num_steps < 1.

    Source: the usual rate code.

    Example:
        >>> Rate(num_steps=3)(torch.ones(1, 1, 1, 1)).flatten()
        tensor([1., 1., 1.])
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.bernoulli(x_BCHW.expand(self.num_steps, *x_BCHW.shape))


@ENCODINGS.register("latency")
class Latency(Encoding):
    """One spike per pixel: the brighter, the earlier.

    Equation:
        y[t] = 1 at t = round((1 - x) (T - 1)), else 0

    Shapes:
        x: [B, C, H, W], y: [T, B, C, H, W]

    Raises:
        UserError: num_steps < 2: all spikes would fall on the same step.

    Source: the usual time-to-first-spike code, with black pixels at the last step.

    Example:
        >>> Latency(num_steps=3)(torch.tensor([1.0, 0.0]).view(1, 1, 1, 2))[:, 0, 0, 0]
        tensor([[1., 0.],
                [0., 0.],
                [0., 1.]])
    """

    min_steps = 2

    def __init__(self, pixel_mean: float = 0.0, pixel_std: float = 1.0, **steps: Any) -> None:
        super().__init__(pixel_mean, pixel_std, **steps)
        if self.num_steps < self.min_steps:
            raise UserError(f"encoding=latency needs encoding.num_steps >= {self.min_steps}, not {self.num_steps}")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        step = torch.round((1 - x_BCHW) * (self.num_steps - 1)).long()
        y_TBCHW = x_BCHW.new_zeros(self.num_steps, *x_BCHW.shape)
        return y_TBCHW.scatter_(0, step.unsqueeze(0), 1.0)


@ENCODINGS.register("frames")
class Frames(Encoding):
    """The frames of data with time, one per step; the first layer reads counts of events, or the values of a series.

    Equation:
        y[t] = x[:, t]

    Shapes:
        x: [B, T, C, H, W], y: [T, B, C, H, W]

    Raises:
        UserError: num_steps < 1.

    Source: the usual input of event data and of time series.

    Example:
        >>> Frames(num_steps=2)(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1)).flatten()
        tensor([1., 2.])
    """

    has_time = True

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        return x_BTCHW.transpose(0, 1)
