"""Samples and their labels, in memory: what a data set is split into.

Shapes: N samples, T steps, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Indices = npt.NDArray[np.int64]


class Split:
    """Samples and their labels.

    Args:
        samples: images [N, C, H, W], uint8 in 0..255 or float in [0, 1]; or counts [N, T, C, H, W], int16.
        labels: [N], int64.
    """

    def __init__(self, samples: Tensor, labels: Tensor) -> None:
        self._samples = samples
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def samples(self) -> Tensor:
        """Return all samples."""
        return self._samples

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Return (C, H, W), or (T, C, H, W) of data with time."""
        return tuple(self._samples.shape[1:])

    def take(self, indices: Tensor) -> Tensor:
        """Return the samples of a batch."""
        return self._samples[indices]

    def blocks(self) -> Iterator[Tensor]:
        """Yield all samples in order, in blocks that fit in memory."""
        yield self._samples

    def at(self, indices: Indices) -> Split:
        """Return some of the samples."""
        chosen = torch.from_numpy(indices)
        return Split(self._samples[chosen], self.labels[chosen])


def as_float(samples: Tensor) -> Tensor:
    """Convert to float32: pixels in [0, 1], counts as they are."""
    return samples.float() / 255 if samples.dtype == torch.uint8 else samples.float()
