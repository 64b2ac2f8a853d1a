"""Fashion-MNIST before the simulated event camera, moved in an order that is half of the label.

Shapes: N samples, T steps, S sensor pixels per side, G image pixels per side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Unit
from torch import Tensor

from snn_exp.data.base import DATASETS, OfficialTest
from snn_exp.data.event_camera import Arrays, Floats, across_and_down, cached, counted, film
from snn_exp.data.events import EventDataset, permutations
from snn_exp.data.split import Indices, Split
from snn_exp.data.torchvision import FashionMNIST, read_fashion
from snn_exp.registry import Below, NonNegative, PartConfig, Positive

POSITIONS = 8  # of each of the four ways: right, back, down, back
CHUNK = 1000  # samples that are filmed at a time
NUM_GARMENTS = 10


@DATASETS.register("fashion_dvs")
class FashionDVS(EventDataset, OfficialTest):
    """Fashion-MNIST before a simulated event camera, moved across and back, then down and back, or the other way round.

    Definition:
        class k + 10 o of 20: garment k, and order o, 0 for across before down, 1 for down before across; every other
        picture of a garment in the official order has o = 1. Both strokes start and end at the centre, and a step lies
        within one stroke, so a picture gives the same frames in both orders, only at other steps: whoever sees them
        shuffled, or all at once (T = 1), may know the garment and has to guess the order. T divides 32. Official test
        set of 10,000; validation a stratified part of the training set, redrawn by the seed. Only samples that are
        asked for are filmed, and kept beside the data

    Args:
        amplitude: of the strokes; the picture fills what remains between them.
        threshold: change of the log intensity that makes an event.
        darkness: intensity of black, where white is 1 more.

    Raises:
        UserError: the files of Fashion-MNIST are not there and cannot be fetched, or are damaged; a number of steps
            that does not divide 32; strokes that leave no room for the picture.

    Source: Xiao et al. 2017; camera of ESIM, Rebecq et al. 2018; the motion, size, amplitude, threshold and darkness
        are our choice: an order that only memory can tell, on frames small enough for a CPU.

    Example:
        >>> FashionDVS.has_time, FashionDVS.num_classes
        (True, 20)
    """

    defaults = {"size": 20, "max_shift": 1}
    num_classes = 2 * NUM_GARMENTS
    class_counts = (3000,) * (2 * NUM_GARMENTS)
    steps_divide = 4 * POSITIONS
    checks = FashionMNIST.checks
    system_folder = FashionMNIST.system_folder
    package = FashionMNIST.package
    licence = FashionMNIST.licence
    download_mib = FashionMNIST.download_mib
    constraints = (
        Below(
            "2 amplitude",
            "size",
            "{amplitude} leaves no room for the picture in {size}; the amplitude must be below half the size",
        ),
    )

    def __init__(
        self,
        root: Path,
        seed: int,
        num_steps: int = 1,
        *,
        amplitude: Annotated[NonNegative, Unit("pixels")] = 2.0,
        threshold: Positive = 0.3,
        darkness: Positive = 0.1,
        **parent: Any,
    ) -> None:
        self.amplitude = amplitude
        self.threshold = threshold
        self.darkness = darkness
        super().__init__(root, seed, num_steps, **parent)

    @classmethod
    def is_present(cls, root: Path) -> bool:
        return FashionMNIST.is_present(root)

    @classmethod
    def prepare(cls, root: Path) -> None:
        FashionMNIST.prepare(root)

    @classmethod
    def prepare_for(cls, config: PartConfig, root: Path, seed: int) -> None:
        cls.prepare(root)

    def _read(self, *, train: bool) -> Split:
        images, garments, names = read_fashion(self.root, train=train)
        orders = orders_of(garments)
        self.class_names = tuple(f"{name}, {first} first" for first in ("across", "down") for name in names)

        def see(indices: Indices) -> Tensor:
            return torch.from_numpy(self._filmed(images, orders, indices, train=train))

        labels = torch.from_numpy(garments + NUM_GARMENTS * orders)
        shape = (self.num_steps, 2, self.size, self.size)
        return SeenLater(see, np.arange(len(labels)), labels, shape)

    def _read_whole(self, *, train: bool) -> Split:
        return self._read(train=train)  # the files have been compared with the published ones

    def _filmed(
        self, images: npt.NDArray[np.uint8], orders: Indices, indices: Indices, *, train: bool
    ) -> npt.NDArray[np.int16]:
        """Return the frames [N, T, 2, S, S] of some pictures."""
        key = {name: getattr(self, name) for name in ("version", "size", "amplitude", "threshold", "darkness")}
        key |= {"num_steps": self.num_steps, "train": train, "images": hashlib.sha256(indices.tobytes()).hexdigest()}

        def make() -> Arrays:
            return {"counts": np.concatenate([self._see(images[i] / 255.0, orders[i]) for i in _chunks(indices)])}

        shape = (len(indices), self.num_steps, 2, self.size, self.size)

        def fits(arrays: Arrays) -> bool:
            counts = arrays.get("counts")
            return counts is not None and (counts.shape, counts.dtype) == (shape, np.dtype(np.int16))

        counts_NT2SS = cached(self.root / "cached", "fashion_dvs", key, make, fits)["counts"]
        if self.frames == "binary":
            counts_NT2SS = (counts_NT2SS > 0).astype(np.int16)
        if self.shuffle_time:
            order_NT = permutations(len(images), self.num_steps)[indices]
            counts_NT2SS = np.take_along_axis(counts_NT2SS, order_NT[:, :, None, None, None], axis=1)
        return counts_NT2SS

    def _see(self, images_NGG: Floats, orders_N: Indices) -> npt.NDArray[np.int16]:
        """Film pictures, each in its order."""
        across, down = across_and_down(self.amplitude, POSITIONS)
        counts_NT2SS = np.empty((len(images_NGG), self.num_steps, 2, self.size, self.size), dtype=np.int16)
        for order, path in enumerate((np.concatenate([across, down[1:]]), np.concatenate([down, across[1:]]))):
            chosen = orders_N == order
            if chosen.any():
                pictures = film(images_NGG[chosen], self.size, self.amplitude, self.darkness, path)
                counts_NT2SS[chosen] = counted(pictures, self.threshold, self.steps_divide // self.num_steps)
        return counts_NT2SS


def orders_of(garments_N: Indices) -> Indices:
    """Return the order of each picture: 0 and 1 by turns within each garment.

    Example:
        >>> orders_of(np.array([3, 3, 7, 3, 7])).tolist()
        [0, 1, 0, 0, 1]
    """
    orders = np.zeros_like(garments_N)
    for garment in np.unique(garments_N):
        of_garment = np.flatnonzero(garments_N == garment)
        orders[of_garment] = np.arange(len(of_garment)) % 2
    return orders


def _chunks(indices: Indices) -> Iterator[Indices]:
    for start in range(0, len(indices), CHUNK):
        yield indices[start : start + CHUNK]


class SeenLater(Split):
    """Samples that are made when they are first asked for, so that those which no part keeps never are.

    Args:
        see: makes the samples of some indices.
        indices: of the samples, for `see`.
        labels: [N], int64.
        sample_shape: of one sample.
    """

    def __init__(
        self, see: Callable[[Indices], Tensor], indices: Indices, labels: Tensor, sample_shape: tuple[int, ...]
    ) -> None:
        self.labels = labels
        self._see = see
        self._indices = indices
        self._sample_shape = sample_shape

    @cached_property
    def _samples(self) -> Tensor:  # type: ignore[override]
        return self._see(self._indices)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Return (T, 2, S, S)."""
        return self._sample_shape

    def at(self, indices: Indices) -> Split:
        """Return some of the samples; none is made yet."""
        chosen = torch.from_numpy(indices)
        return SeenLater(self._see, self._indices[indices], self.labels[chosen], self._sample_shape)
