"""The digits of scikit-learn: all of them, few of them, and among clutter on a larger canvas.

Shapes: N scans, D distractors, G pixels per side of an image, P of a stroke, H W space of the canvas.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from snn_exp.data.base import DATASETS, StratifiedTest
from snn_exp.data.split import Indices, Split
from snn_exp.registry import Count, Fraction, Limit

DIGITS_COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)
CANVAS = 16  # pixels per side
STROKE = 4  # pixels per side of a distractor's window of another scan

# the most there is of each, at difficulty 1
NUM_DISTRACTORS = 4
MAX_OFFSET = 4.0  # pixels, down and right
MAX_TURN = math.pi / 4  # beyond it digits become other digits
MAX_ZOOM = 1.5  # and 1 / MAX_ZOOM
MAX_NOISE = 0.3  # of white


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
        >>> digits = Digits(Path(), seed=0)
        >>> len(digits.train), len(digits.val), len(digits.test)
        (1078, 269, 450)
    """

    defaults = {"max_shift": 1}
    embedded = True
    licence = "CC BY 4.0"
    image_shape = (1, 8, 8)
    class_counts = DIGITS_COUNTS

    def _expected_shape(self) -> tuple[int, int, int]:
        return (1, 8, 8)  # of the scans

    def _read(self, *, train: bool) -> Split:
        images, labels = read_digits()
        return Split(torch.from_numpy(images[:, None].astype(np.float32)), torch.from_numpy(labels))


def read_digits() -> tuple[npt.NDArray[np.float64], Indices]:
    """Read the digits' pixels [N, H, W] in [0, 1] and labels, as scikit-learn has them."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images / 16, bunch.target.astype(np.int64)


@DATASETS.register("digits_200")
class Digits200(Digits):
    """The digits with 200 training images; validation and test are those of the digits.

    Definition:
        a stratified part of the training images of dataset=digits with the same seed and split_seed; the
        others are left out, so runs differ from those on digits in their training images only. Validation
        keeps its 269 images, more than there are to train on: hyperparameters are chosen more surely than
        they could be with 200 images in all

    Args:
        num_train: training images; null is dataset=digits.

    Raises:
        UserError: a parameter out of its range; more images than there are.

    Source: our choice: few enough that methods differ which 1,078 images make alike.

    Example:
        >>> few = Digits200(Path(), seed=0)
        >>> len(few.train), len(few.val), len(few.test)
        (200, 269, 450)
    """

    defaults = {"max_shift": 1, "num_train": 200}


@DATASETS.register("digits_clutter")
class DigitsClutter(Digits):
    """The 1,797 digits shifted, turned and scaled among strokes of other digits, 16 x 16 pixels; no download.

    Definition:
        image = clip(max(digit, strokes) + noise), with d the difficulty and every u uniform in [-1, 1]:
        the digit is moved by 4 d u pixels down and right, turned by 45 d u degrees, scaled by 1.5^(d u);
        each of 4 strokes is there with probability d, is a window of 4 x 4 pixels of another scan of the
        same part, and lies anywhere at any angle; noise is 0.3 d u per pixel.
        The scans of each part are those of dataset=digits, so no scan is in two parts. Training and
        validation are composed by the run's seed, the test images by split_seed

    Args:
        difficulty: 0 is the digit upright in the middle of an empty canvas.
        copies: compositions of each training scan; validation and test have one of each.
        num_train: training scans to keep, every class in proportion, drawn by the seed; null keeps all.

    Raises:
        UserError: a parameter out of its range.

    Source: in the manner of cluttered MNIST, Mnih et al. 2014; sizes and ranges are our choice.

    Example:
        >>> clutter = DigitsClutter(Path(), seed=0)
        >>> clutter.in_shape, len(clutter.train), len(clutter.val), len(clutter.test)
        ((1, 16, 16), 2156, 269, 450)
    """

    image_shape = (1, CANVAS, CANVAS)

    def __init__(
        self,
        root: Path,
        seed: int,
        num_steps: int = 1,
        *,
        difficulty: Fraction = 0.4,
        copies: Annotated[Count, Limit(1000, "the images take more than a GiB")] = 2,
        **parent: Any,
    ) -> None:
        super().__init__(root, seed, num_steps, **parent)
        self.difficulty = difficulty
        self.train = among_clutter(self.train, difficulty, (seed, 0), copies)
        self.val = among_clutter(self.val, difficulty, (seed, 1))

    @cached_property
    def test(self) -> Split:
        return among_clutter(self._everything.at(self._test_indices), self.difficulty, (self.split_seed, 2))

    def _test_key(self) -> bytes:
        return super()._test_key() + f"{self.split_seed} {self.difficulty}".encode()


def among_clutter(scans: Split, difficulty: float, key: tuple[int, ...], copies: int = 1) -> Split:
    """Compose each scan `copies` times: all of them once, then all of them again.

    Args:
        scans: images [N, 1, G, G] in [0, 1]; strokes are cut from them as well.
        difficulty: in [0, 1].
        key: of the random numbers.
        copies: compositions of each scan; one more leaves the others as they are.
    """
    scans_NGG = scans.samples[:, 0].double()
    made = [_composed(scans_NGG, difficulty, np.random.default_rng((*key, copy))) for copy in range(copies)]
    return Split(torch.cat(made), scans.labels.repeat(copies))


def _composed(scans_NGG: Tensor, difficulty: float, rng: np.random.Generator) -> Tensor:
    """Compose one canvas [1, H, W] per scan, uint8."""
    n, d = len(scans_NGG), NUM_DISTRACTORS

    def u(*shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(-1, 1, (n, *shape)))

    digits_NHW = placed(
        scans_NGG, difficulty * MAX_OFFSET * u(2), difficulty * MAX_TURN * u(), MAX_ZOOM ** (difficulty * u())
    )
    windows = scans_NGG.unfold(1, STROKE, 1).unfold(2, STROKE, 1)
    other = (np.arange(n)[:, None] + rng.integers(1, n, (n, d))) % n
    row, column = rng.integers(0, windows.shape[1], (2, n, d))
    strokes = windows[other, row, column].flatten(0, 1)
    turn, zoom = math.pi * u(d).flatten(), torch.ones(n * d, dtype=torch.float64)
    strokes_NDHW = placed(strokes, CANVAS / 2 * u(d, 2).flatten(0, 1), turn, zoom).unflatten(0, (n, d))
    there_ND = torch.from_numpy(rng.random((n, d)) < difficulty)
    ink_NHW = torch.maximum(digits_NHW, (strokes_NDHW * there_ND[:, :, None, None]).amax(1))
    noisy_NHW = ink_NHW + difficulty * MAX_NOISE * u(CANVAS, CANVAS)
    # rounded twice: the last bits of a machine's arithmetic do not decide how a half is rounded
    return (255 * noisy_NHW.clamp(0, 1)).round(decimals=9).round().to(torch.uint8).unsqueeze(1)


def placed(images_NGG: Tensor, offset_N2: Tensor, turn_N: Tensor, zoom_N: Tensor) -> Tensor:
    """Place each image on an empty canvas [H, W], bilinear.

    Equation:
        canvas(p) = image(R(-turn) (p - offset) / zoom), positions counted from the middle of either

    Args:
        images_NGG: brightness.
        offset_N2: of the image's middle from the canvas', down and right, pixels.
        turn_N: clockwise, radians.
        zoom_N: pixels of the canvas per pixel of the image.

    Example:
        >>> corner = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> one = torch.ones(1)
        >>> placed(corner, torch.tensor([[1.0, 0.0]]), 0 * one, one).round().nonzero().tolist()
        [[0, 8, 7]]
        >>> placed(corner, torch.tensor([[1.0, 0.0]]), math.pi / 2 * one, one).round().nonzero().tolist()
        [[0, 8, 8]]
    """
    n, size = images_NGG.shape[:2]
    cos, sin = turn_N.cos() / zoom_N, turn_N.sin() / zoom_N
    # torch counts x first, and from -1 to 1 across either
    inverse_N22 = torch.stack([cos, sin, -sin, cos], dim=1).view(n, 2, 2)
    from_N21 = -inverse_N22 @ offset_N2.flip(1).unsqueeze(2) * 2 / size
    theta_N23 = torch.cat([inverse_N22 * CANVAS / size, from_N21], dim=2)
    grid = functional.affine_grid(theta_N23, [n, 1, CANVAS, CANVAS], align_corners=False)
    return functional.grid_sample(images_NGG.unsqueeze(1), grid, align_corners=False).squeeze(1)
