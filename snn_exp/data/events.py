"""Data sets with time: events of real cameras and of a simulated one, counted in T frames.

Shapes: N samples, T steps, H W space; a frame has two channels, OFF and ON.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Unit

from snn_exp.data.base import DATASETS, Dataset, Mirrored, OfficialTest, StratifiedTest
from snn_exp.data.digits import DIGITS_COUNTS, read_digits
from snn_exp.data.event_camera import (
    POSITIONS_A_SACCADE,
    SACCADE_US,
    Arrays,
    Events,
    are_events,
    binned,
    cached,
    film,
    sense,
)
from snn_exp.data.fetched import MNIST_COUNTS, Fetched, in_words
from snn_exp.data.split import Split
from snn_exp.errors import UserError
from snn_exp.registry import Below, Count, Limit, NonNegative, Positive

SHUFFLE_SEED = 2_059  # of the shuffled-time control; any number will do, and this one must stay
Pixels = Annotated[Count, Unit("pixels"), Limit(1024, "no event camera here has as many")]


class EventDataset(Dataset):
    """A data set whose samples are counts of events, in T frames.

    Args:
        size: pixels per side of a frame.
        frames: counts, or binary (1 where there was an event).
        shuffle_time: the control: each sample's frames in a fixed random order, so that order says nothing.
    """

    has_time = True
    image_shape = (2, 0, 0)
    pixel_mean = 0.0  # counts are read as they are
    pixel_std = 1.0

    def __init__(
        self,
        root: Path,
        seed: int,
        num_steps: int = 1,
        *,
        size: Pixels = 34,
        frames: Literal["counts", "binary"] = "counts",
        shuffle_time: bool = False,
        **parent: Any,
    ) -> None:
        self.size = size
        self.frames = frames
        self.shuffle_time = shuffle_time
        super().__init__(root, seed, num_steps, **parent)

    def _expected_shape(self) -> tuple[int, int, int]:
        return (2, self.size, self.size)

    def _as_split(self, counts_NT2HW: npt.NDArray[np.int16], labels: npt.NDArray[np.int64]) -> Split:
        """Convert the frames to the requested form."""
        if self.frames == "binary":
            counts_NT2HW = (counts_NT2HW > 0).astype(np.int16)
        if self.shuffle_time:
            counts_NT2HW = np.take_along_axis(
                counts_NT2HW, permutations(len(labels), self.num_steps)[:, :, None, None, None], axis=1
            )
        return Split(torch.from_numpy(counts_NT2HW), torch.from_numpy(labels))


def permutations(num_samples: int, num_steps: int) -> npt.NDArray[np.int64]:
    """Draw [N, T], a permutation of the steps for each sample, independent of the number of samples.

    Example:
        >>> bool((permutations(5, 4)[:3] == permutations(3, 4)).all())
        True
    """
    return np.random.default_rng(SHUFFLE_SEED).random((num_samples, num_steps)).argsort(axis=1)


@DATASETS.register("digits_dvs")
class DigitsDVS(EventDataset, StratifiedTest):
    """The 1,797 digits as a simulated event camera sees them on three saccades; no download.

    Definition:
        the digit moves around a triangle as in N-MNIST; a pixel sends an event whenever its log intensity
        has moved by the threshold; the parts are those of dataset=digits, sample by sample

    Args:
        amplitude: of the saccades; the digit fills what remains between them.
        threshold: change of the log intensity that makes an event.
        darkness: intensity of black, where white is 1 more.

    Raises:
        UserError: a parameter out of its range; saccades that leave no room for the digit.

    Source: the digits of scikit-learn; saccades of N-MNIST, Orchard et al. 2015; camera of ESIM, Rebecq et al.
        2018; size, amplitude, threshold and darkness are our choice: small enough for a CPU.

    Example:
        >>> import tempfile
        >>> DigitsDVS(Path(tempfile.mkdtemp()), seed=0, num_steps=4).sample_shape
        (4, 2, 10, 10)
    """

    defaults = {"size": 10, "max_shift": 1}
    embedded = True
    licence = "CC BY 4.0"
    class_counts = DIGITS_COUNTS
    constraints = (
        Below(
            "2 amplitude",
            "size",
            "{amplitude} leaves no room for the digit in {size}; the amplitude must be below half the size",
        ),
    )

    def __init__(
        self,
        root: Path,
        seed: int,
        num_steps: int = 1,
        *,
        amplitude: Annotated[NonNegative, Unit("pixels")] = 1.0,
        threshold: Positive = 0.3,
        darkness: Positive = 0.1,
        **parent: Any,
    ) -> None:
        self.amplitude = amplitude
        self.threshold = threshold
        self.darkness = darkness
        super().__init__(root, seed, num_steps, **parent)

    def _read(self, *, train: bool) -> Split:
        images_NHW, labels = read_digits()
        key = {name: getattr(self, name) for name in ("version", "size", "amplitude", "threshold", "darkness")}

        def see() -> Arrays:
            pictures = film(images_NHW, self.size, self.amplitude, self.darkness)
            return vars(sense(pictures, self.threshold, SACCADE_US // POSITIONS_A_SACCADE))

        def fits(arrays: Arrays) -> bool:
            return are_events(arrays, len(labels), self.size)

        events = Events(**cached(self.root / "cached", "digits_dvs", key, see, fits))
        return self._as_split(binned(events, self.num_steps, self.size, self.size), labels)


class TonicDataset(EventDataset, Fetched):
    """A data set of recordings that tonic's class of the same name fetches and reads.

    A recording is binned from its first event to its last. The frames are kept beside the data.
    """

    sensor_size: ClassVar[int] = 128

    @classmethod
    def prepare(cls, root: Path) -> None:
        cls._tonic()
        super().prepare(root)

    @classmethod
    def _tonic(cls) -> Any:
        try:
            import aedat  # noqa: F401  tonic imports it late, in the midst of reading
            from tonic import datasets
        except ImportError:
            raise UserError(
                f"the data set {cls.__name__} is read by the library tonic, which is not installed; type "
                f"pip install 'snn-exp[events]'"
            ) from None
        return datasets

    @classmethod
    def _open(cls, root: Path, *, train: bool, download: bool) -> Any:
        real = getattr(cls._tonic(), cls.__name__)
        changes: dict[str, Any] = {"_is_file_present": lambda self: True}  # unpacked files need no archive
        if not download:
            changes["download"] = _refuse
        reader = type(cls.__name__, (real,), changes)
        return reader(str(root), **({"train": train} if issubclass(cls, OfficialTest) else {}))

    def _read(self, *, train: bool) -> Split:
        self.prepare(self.root)
        reader = self._open(self.root, train=train, download=False)
        # by name: the order in which a file system lists them is not the same everywhere
        recordings = sorted(zip(map(Path, reader.data), reader.targets, range(len(reader)), strict=True))
        if not recordings:
            raise UserError(f"{self._source(train=train)} holds no recording; place {self.files} there")
        listing = hashlib.sha256()
        for path, _, _ in recordings:
            listing.update(f"{path.relative_to(self.root)} {path.stat().st_size}\n".encode())
        key = {
            "version": self.version,
            "num_steps": self.num_steps,
            "size": self.size,
            "files": listing.hexdigest(),
        }

        def count() -> Arrays:
            return {"counts": np.concatenate([self._frames(reader, path, i) for path, _, i in recordings])}

        shape = (len(recordings), self.num_steps, 2, self.size, self.size)

        def fits(arrays: Arrays) -> bool:
            counts = arrays.get("counts")
            return counts is not None and (counts.shape, counts.dtype) == (shape, np.dtype(np.int16))

        counts = cached(self.root / "cached", type(self).__name__, key, count, fits)["counts"]
        return self._as_split(counts, np.array([label for _, label, _ in recordings], dtype=np.int64))

    def _frames(self, reader: Any, path: Path, index: int) -> npt.NDArray[np.int16]:
        """Bin one recording to frames [1, T, 2, H, W]."""
        try:
            events, _ = reader[index]
            t, x, y, p = (events[name].astype(np.int64) for name in "txyp")
            t -= t.min() if len(t) else 0
            stream = Events(t, x, y, p, np.array([0, len(t)]), np.array([t.max(initial=0) + 1]))
            return binned(stream, self.num_steps, self.size, self.sensor_size)
        except Exception as error:  # a damaged file, which each reader reports in its own way
            raise UserError(
                f"the data set {type(self).__name__} is damaged: {path.resolve()} cannot be read ({in_words(error)}); "
                f"place that file there again, or set SNN_EXP_DATA to a folder with {self.files}"
            ) from None


def _refuse(self: object) -> None:
    raise FileNotFoundError("not all files are there")


@DATASETS.register("nmnist")
class NMNIST(TonicDataset, OfficialTest):
    """70,000 handwritten digits that an event camera saw on three saccades, 34 x 34 pixels.

    Definition:
        official test set of 10,000; validation a stratified part of the training set, redrawn by the seed

    Args:
        max_shift: largest random shift of a training sample, pixels; the same at all steps.

    Raises:
        UserError: tonic is not installed; the files are not there and cannot be fetched, or are damaged.

    Source: Orchard et al. 2015; tonic.datasets.NMNIST.

    Example:
        >>> NMNIST.has_time, NMNIST.sensor_size
        (True, 34)
    """

    defaults = {"size": 34, "max_shift": 2}
    sensor_size = 34
    class_counts = MNIST_COUNTS
    files = "NMNIST/Train/ and NMNIST/Test/ with one folder of .bin files per digit, 0 to 9"
    checks = {"NMNIST/Train": "files:60000:.bin", "NMNIST/Test": "files:10000:.bin"}
    licence = "CC BY-SA 4.0"
    download_mib = 1180


@DATASETS.register("dvs_gesture")
class DVSGesture(TonicDataset, OfficialTest):
    """1,341 recordings of eleven gestures of hands and arms, 128 x 128 pixels; scaled down.

    Definition:
        official test set: persons who are not in the training set; validation a stratified part of the
        training set, redrawn by the seed, of the same persons as training

    Args:
        max_shift: largest random shift of a training sample, pixels; the same at all steps.

    Raises:
        UserError: tonic is not installed; the files are not there and cannot be fetched, or are damaged.

    Source: Amir et al. 2017, cut into samples as in tonic.datasets.DVSGesture.

    Example:
        >>> DVSGesture.num_classes
        11
    """

    defaults = {"size": 32, "max_shift": 2}
    num_classes = 11
    files = (
        "DVSGesture/ibmGestureTrain/ and DVSGesture/ibmGestureTest/ with one folder of .npy files per person and light"
    )
    checks = {
        "DVSGesture/ibmGestureTrain": "files:1077:.npy",
        "DVSGesture/ibmGestureTest": "files:264:.npy",
    }
    licence = "CC BY 4.0"


@DATASETS.register("cifar10_dvs")
class CIFAR10DVS(TonicDataset, StratifiedTest, Mirrored):
    """10,000 pictures of CIFAR-10 that an event camera saw moving, 128 x 128 pixels; scaled down.

    Definition:
        stratified 60 / 15 / 25, since there is no official test set: the test part is fixed by split_seed,
        training and validation are redrawn from the rest by the run's seed

    Args:
        max_shift: largest random shift of a training sample, pixels; the same at all steps.
        flip: mirror every other training sample.

    Raises:
        UserError: tonic is not installed; the files are not there and cannot be fetched, or are damaged.

    Source: Li et al. 2017; tonic.datasets.CIFAR10DVS.

    Example:
        >>> CIFAR10DVS.has_time, CIFAR10DVS.sensor_size
        (True, 128)
    """

    defaults = {"size": 48, "max_shift": 4}
    class_counts = (1000,) * 10
    files = "CIFAR10DVS/ with one folder of .aedat4 files per class, airplane to truck"
    checks = {"CIFAR10DVS": "files:10000:.aedat4"}
    licence = "CC BY 4.0"
