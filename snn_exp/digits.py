"""The digits of scikit-learn.

Shapes: N scans, H W space.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from snn_exp.datasets import DATASETS, Indices, Split, StratifiedTest


@DATASETS.register("digits")
class Digits(StratifiedTest):
    """1,797 real handwritten digits of 8 x 8 pixels; comes with scikit-learn, no download.

    Definition:
        stratified 60 / 15 / 25: the test part is fixed by split_seed, training and validation are
        redrawn from the rest by the run's seed

    Args:
        split_seed: fixes the test part.
        val_fraction: of all samples.
        test_fraction: of all samples.
        max_shift: largest random shift of a training image, pixels.

    Raises:
        UserError: a parameter out of its range.

    Source: Alpaydin and Kaynak 1998, as in sklearn.datasets.load_digits.

    Example:
        >>> from pathlib import Path
        >>> digits = Digits(Path(), seed=0)
        >>> len(digits.train), len(digits.val), len(digits.test)
        (1078, 269, 450)
    """

    defaults = {"max_shift": 1}
    embedded = True

    def _read(self, *, train: bool) -> Split:
        images, labels = read_digits()
        return Split(torch.from_numpy(images[:, None].astype(np.float32)), torch.from_numpy(labels))


def read_digits() -> tuple[npt.NDArray[np.float64], Indices]:
    """The digits' pixels [N, H, W] in [0, 1] and labels, as scikit-learn has them."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images / 16, bunch.target.astype(np.int64)
