"""The memory layout of the large tensors, and the precision of the computation.

Shapes: T steps, B batch, C channels, N any feature dimensions (C alone, or C, H, W).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """The memory layout of x.

    Args:
        num_steps: T.
        batch: B.
        channels: C.
        size: positions of a channel.
        channels_last: whether a sample is in channels-last memory format.
    """

    num_steps: int
    batch: int
    channels: int
    size: int
    channels_last: bool

    @classmethod
    def of(cls, x_TBN: Tensor) -> Layout:
        """Return the layout of x.

        Example:
            >>> Layout.of(torch.zeros(2, 3, 4, 5, 6))
            Layout(num_steps=2, batch=3, channels=4, size=30, channels_last=False)
        """
        num_steps, batch, channels, *space = x_TBN.shape
        return cls(num_steps, batch, channels, math.prod(space), channels_last(x_TBN))


def channels_last(x_TBN: Tensor) -> bool:
    """Return whether a sample is in channels-last memory format and not also in the contiguous one.

    Example:
        >>> images = torch.zeros(6, 3, 4, 4).to(memory_format=torch.channels_last).unflatten(0, (2, 3))
        >>> channels_last(images), channels_last(images.contiguous())
        (True, False)
    """
    if x_TBN.dim() != 5 or x_TBN.is_contiguous():
        return False
    _, B, C, H, W = x_TBN.shape
    strides = (B * C * H * W, C * H * W, 1, W * C, C)
    # an axis of one value has whatever stride it was given last
    return all(n == 1 or is_ == is_to for n, is_, is_to in zip(x_TBN.shape, x_TBN.stride(), strides, strict=True))


def computed_in(x: Tensor) -> torch.dtype:
    """Return the dtype of the computation: float64 for float64, float32 for all others.

    Example:
        >>> computed_in(torch.zeros(1, dtype=torch.bfloat16))
        torch.float32
    """
    return torch.float64 if x.dtype == torch.float64 else torch.float32
