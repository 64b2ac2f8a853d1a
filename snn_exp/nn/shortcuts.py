"""Shortcut modules and stream activations: pooling with repeated channels, learned rectifiers.

Shapes: T steps, B batch, C channels, H W space.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.nn.stepwise import over_time


class PoolDup(nn.Module):
    """A shortcut without weights: pooling in space, channels repeated.

    Unlike padding with zeros it keeps the variance of every channel of the stream.

    Args:
        pool: avg, the mean of a window; max, which keeps spikes spikes and counts counts.
        stride: size and step of the window.
        repeats: how often the channels are repeated.

    Example:
        >>> import torch
        >>> PoolDup("avg", stride=2, repeats=2)(torch.zeros(1, 2, 8, 5, 5)).shape
        torch.Size([1, 2, 16, 3, 3])
    """

    def __init__(self, pool: Literal["avg", "max"], stride: int, repeats: int) -> None:
        super().__init__()
        self.pool = pool
        self.stride = stride
        self.repeats = repeats

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Pool [T, B, C, H, W] to [T, B, repeats C, ceil(H / stride), ceil(W / stride)]."""
        return over_time(self._pooled_and_repeated, x_TBCHW)

    def _pooled_and_repeated(self, x: Tensor) -> Tensor:
        pool = functional.max_pool2d if self.pool == "max" else functional.avg_pool2d
        return torch.cat([pool(x, self.stride, ceil_mode=True)] * self.repeats, 1)  # in the layout of x, unlike repeat

    def extra_repr(self) -> str:
        return f"{self.pool}, stride={self.stride}, repeats={self.repeats}"


class RPReLU(nn.Module):
    """A leaky rectifier with learned shifts, as ReActNet applies to the real stream. One multiplication per value.

    Equation:
        y = max(0, x - a_c) + b_c min(0, x - a_c) + c_c, per channel; a and c start at 0, the slope b at 0.25

    Args:
        num_channels: C.

    Source: Liu et al. 2020 (ReActNet).

    Example:
        >>> import torch
        >>> RPReLU(1)(torch.tensor([-2.0, 3.0]).view(1, 2, 1, 1, 1)).flatten().detach()
        tensor([-0.5000,  3.0000])
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        # [C] and not [C, 1, 1]: weight decay goes by the number of axes and is for weights alone
        self.shift_in, self.shift_out = (nn.Parameter(torch.zeros(num_channels)) for _ in range(2))
        self.slope = nn.Parameter(torch.full((num_channels,), 0.25))

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Rectify the stream, value by value."""
        shift_in, slope, shift_out = (p.view(-1, 1, 1) for p in (self.shift_in, self.slope, self.shift_out))
        x = x_TBCHW - shift_in
        return torch.where(x >= 0, x, slope * x) + shift_out
