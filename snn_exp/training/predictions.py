"""Predictions of an evaluation, sample by sample: what the confusion matrix counts, and what is stored if asked for.

Shapes: N samples, B batch, K classes; M mistaken samples, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from snn_exp.data.split import Split, as_float
from snn_exp.files import whole_file
from snn_exp.runs.run_files import LONGEST_SIDE, MOST_CLASSES, MOST_PICTURES

Confusion = list[list[int]]  # [K][K]: samples of a class (row) that were taken for a class (column)


class Predictions:
    """Logits and labels of the samples that were evaluated, in order.

    Example:
        >>> kept = Predictions()
        >>> kept.add(torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]]), torch.tensor([1, 1, 0]))
        >>> kept.confusion()
        [[1, 0], [1, 1]]
    """

    def __init__(self) -> None:
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, logits_BK: Tensor, labels_B: Tensor) -> None:
        """Add a batch."""
        self._logits.append(logits_BK.detach().cpu())
        self._labels.append(labels_B.detach().cpu())

    def confusion(self) -> Confusion | None:
        """Count the samples of each class (row) by the class with the largest logit (column).

        None for more than MOST_CLASSES classes, whose matrix would be larger than all else in result.json together.
        """
        logits_NK, labels_N = torch.cat(self._logits), torch.cat(self._labels)
        k = logits_NK.shape[1]
        if k > MOST_CLASSES:
            return None
        counts: Confusion = torch.bincount(labels_N * k + logits_NK.argmax(1), minlength=k * k).view(k, k).tolist()
        return counts

    def write(self, path: Path, samples: Split | None = None) -> None:
        """Write logits [N, K], float32 (float64 where they are), and labels [N] as a whole .npz file, or none.

        Args:
            path: of the file.
            samples: those that were evaluated, if they are pictures [N, C, H, W]: of the mistaken ones, MOST_PICTURES
                at most, the file then has the places [M] and pixels [M, C, H, W], uint8, made smaller to LONGEST_SIDE.
        """
        logits_NK, labels_N = torch.cat(self._logits), torch.cat(self._labels)
        if logits_NK.dtype not in (torch.float32, torch.float64):
            logits_NK = logits_NK.float()
        places_M = (logits_NK.argmax(1) != labels_N).nonzero()[:MOST_PICTURES, 0]
        pictures = None if samples is None else _small(samples.take(places_M)).numpy()
        with whole_file(path) as scratch, scratch.open("wb") as file:
            if pictures is None:
                np.savez_compressed(file, logits=logits_NK.numpy(), labels=labels_N.numpy())
            else:
                np.savez_compressed(
                    file, logits=logits_NK.numpy(), labels=labels_N.numpy(), places=places_M.numpy(), pictures=pictures
                )


def _small(images: Tensor) -> Tensor:
    """Return uint8 pictures of at most LONGEST_SIDE pixels a side."""
    pixels = as_float(images).clamp(0, 1)
    if len(pixels) and (longest := max(pixels.shape[-2:])) > LONGEST_SIDE:
        pixels = interpolate(pixels, scale_factor=LONGEST_SIDE / longest, mode="area")
    return (255 * pixels).round().to(torch.uint8)
