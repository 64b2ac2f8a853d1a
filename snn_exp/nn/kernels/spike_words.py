"""Spikes that a neuron's pass has written as bits besides, for the convolution that reads them by events.

Shapes: T steps, B batch, C channels, H W space.

A word holds 16 channels of a position. The words go with the tensor of the spikes: what is computed from it, or written
into it, has none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_exp.nn.kernels.layout import channels_last

WORD = 16
_NAME = "_spike_words"


def new_words(s_TBCHW: Tensor) -> Tensor | None:
    """Make room for the words of spikes, if they lie by position and whole words side by side.

    Example:
        >>> s = torch.zeros(6, 32, 4, 4).to(memory_format=torch.channels_last).unflatten(0, (2, 3))
        >>> words = new_words(s)
        >>> words is not None and words.shape
        torch.Size([6, 16, 2])
    """
    if s_TBCHW.device.type != "cpu" or not channels_last(s_TBCHW) or s_TBCHW.shape[2] % WORD:
        return None
    T, B, C, H, W = s_TBCHW.shape
    return torch.empty(T * B, H * W, C // WORD, dtype=torch.int16)


def keep_words(s: Tensor, words: Tensor) -> None:
    """Let the words go with the spikes."""
    setattr(s, _NAME, (words, s._version))


def words_of(s: Tensor) -> Tensor | None:
    """Return the words that go with a tensor, if it was not written into since.

    Example:
        >>> s = torch.zeros(1, 1, 16, 2, 1)
        >>> keep_words(s, torch.zeros(1, 2, 1, dtype=torch.int16))
        >>> words_of(s) is None, words_of(s + 0) is None, words_of(s.add_(1)) is None
        (False, True, True)
    """
    words, version = getattr(s, _NAME, (None, None))
    return words if words is not None and version == s._version else None
