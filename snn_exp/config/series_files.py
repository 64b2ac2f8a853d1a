"""Files of time series, in the .ts format of the UCR and UEA archives: what they are, before a value is read. No torch.

A file has a head of lines `@key value`, then after `@data` one line per series: its dimensions, each of values between
commas, then its class, with colons between them. `NAME_TRAIN.ts` and `NAME_TEST.ts` are one data set.

Shapes: N series, C dimensions, L points.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from snn_exp.errors import UserError
from snn_exp.files import MIB, Unreadable, printable, read_bytes

MOST = 512 * MIB  # of a file
MOST_POINTS = 100_000  # of a series
MOST_SERIES = 5_000_000
MOST_VALUES = 2**30  # of a file, once all series are as long as the longest
MOST_STEPS = 10_000  # as many as an encoding may have
TRAIN_END, TEST_END = "_TRAIN.ts", "_TEST.ts"


@dataclasses.dataclass(frozen=True)
class SeriesFile:
    """A .ts file, whose form is checked and whose values are still words.

    Args:
        path: the file.
        classes: as its head lists them.
        series: the dimensions of each series, each as it is written.
        labels: the class of each series, its position in `classes`.
        lines: number of the line of each series.
        lengths: L of each series.
    """

    path: Path
    classes: tuple[str, ...]
    series: tuple[tuple[str, ...], ...]
    labels: tuple[int, ...]
    lines: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def num_dimensions(self) -> int:
        """Return C."""
        return len(self.series[0])

    @property
    def counts(self) -> list[int]:
        """Return the number of series per class."""
        return [self.labels.count(label) for label in range(len(self.classes))]


@dataclasses.dataclass(frozen=True)
class SeriesFiles:
    """The training and the test file of a data set.

    Args:
        train: of the training set.
        test: of the test set.
        content: 16 hex digits of what both hold.
    """

    train: SeriesFile
    test: SeriesFile
    content: str

    @property
    def length(self) -> int:
        """Return the points of the longest series of both."""
        return max(*self.train.lengths, *self.test.lengths)


def both(path: str) -> SeriesFiles:
    """Read the pair of files that a path names, once for as long as they stay the same.

    Args:
        path: NAME_TRAIN.ts; NAME_TEST.ts lies beside it.

    Raises:
        UserError: one of them is missing, is not a .ts file of classes, or says other things than it holds.
    """
    paths = _paths(path)
    return _both(paths, _known(paths))


def signature_of(path: str) -> str:
    """Hash places, sizes and times of the pair of files that a path names.

    Raises:
        UserError: one of them is missing.
    """
    paths = _paths(path)
    return hashlib.sha256(repr((list(map(os.path.realpath, paths)), _known(paths))).encode()).hexdigest()


def steps(length: int, num_steps: int) -> int:
    """Return the points that each of T steps shows of series of L points, ceil(L / T).

    Raises:
        UserError: steps at the end would have none.

    Example:
        >>> steps(24, 24), steps(24, 1), steps(150, 4)
        (1, 24, 38)
    """
    width = -(-length // num_steps)
    used = -(-length // width)
    if used != num_steps:
        raise UserError(
            f"encoding.num_steps={num_steps} leaves nothing for the last {num_steps - used} steps, since a series has "
            f"{length} points and each step {width}; type encoding.num_steps={used}, or leave it out for one point per "
            f"step"
        )
    return width


def default_steps(length: int) -> int:
    """Return T of series of L points: one point per step.

    Raises:
        UserError: those are more steps than there may be.
    """
    if length > MOST_STEPS:
        raise UserError(
            f"series of {length:,} points are more than {MOST_STEPS:,} steps, the limit; type encoding.num_steps=100, "
            f"say, each of which shows {-(-length // 100):,} points"
        )
    return length


def _known(paths: tuple[Path, Path]) -> tuple[tuple[int, ...], ...]:
    found = []
    for path in paths:
        try:
            known = path.stat()
        except FileNotFoundError:
            raise UserError(
                f"{printable(str(path), 300)} does not exist; dataset=series reads NAME{TRAIN_END} and NAME{TEST_END} "
                f"in one folder, so type dataset.path=... with the first of two that exist"
            ) from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "null character"
            raise UserError(
                f"dataset.path={printable(str(path), 300)} cannot be read ({reason}); type another dataset.path=..."
            ) from None
        found.append((known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns))
    return tuple(found)


def _paths(path: str) -> tuple[Path, Path]:
    if not path:
        raise UserError(
            f"dataset=series reads a file NAME{TRAIN_END} and its NAME{TEST_END}, and dataset.path is not given; type "
            f"dataset.path=NAME{TRAIN_END}"
        )
    if not path.endswith(TRAIN_END):
        nearest = f"{path.removesuffix(TEST_END)}{TRAIN_END}" if path.endswith(TEST_END) else f"NAME{TRAIN_END}"
        raise UserError(
            f"dataset.path={printable(path, 300)} does not end in {TRAIN_END}, and dataset=series reads a file "
            f"NAME{TRAIN_END} and its NAME{TEST_END}; type dataset.path={printable(nearest, 300)}"
        )
    train = Path(path).expanduser()
    return train, train.with_name(f"{train.name.removesuffix(TRAIN_END)}{TEST_END}")


@functools.lru_cache(maxsize=4)
def _both(paths: tuple[Path, Path], known: tuple[tuple[int, ...], ...]) -> SeriesFiles:
    contents = [read_bytes(path, MOST) for path in paths]
    return pair(
        *(parsed(path, content) for path, content in zip(paths, contents, strict=True)), content=hashed(contents)
    )


def hashed(contents: list[bytes]) -> str:
    """Hash the contents of files to 16 hex digits."""
    inner = "".join(hashlib.sha256(content).hexdigest() for content in contents)
    return hashlib.sha256(inner.encode()).hexdigest()[:16]


def pair(train: SeriesFile, test: SeriesFile, *, content: str) -> SeriesFiles:
    """Check that two files are of one data set.

    Raises:
        UserError: they differ in classes or dimensions, or a class has no training series.
    """
    for label, line in zip(test.labels, test.lines, strict=True):
        if (name := test.classes[label]) not in train.classes:
            raise UserError(
                f"{test.path}, line {line}: class {printable(name)} is none of {train.path.name}, which has "
                f"{_some(train.classes)}; both files need the same classes, so correct the line or remove it"
            )
    if test.num_dimensions != train.num_dimensions:
        raise UserError(
            f"{test.path} has series of {test.num_dimensions} dimensions, and {train.path.name} of "
            f"{train.num_dimensions}; both files need the same, so give two of one data set"
        )
    labels = tuple(train.classes.index(test.classes[label]) for label in test.labels)
    found = SeriesFiles(train, dataclasses.replace(test, classes=train.classes, labels=labels), content)
    for file in (train, test):
        if (num_values := len(file.series) * found.length * file.num_dimensions) > MOST_VALUES:
            raise Unreadable(
                file.path, f"would be {num_values:,} values once its {len(file.series):,} series are filled up to the "
                f"longest, {found.length:,} points, and {MOST_VALUES:,} are the limit; shorten the longest",
            )  # fmt: skip
    return found


# one file ---------------------------------------------------------------------------------------------------


def parsed(path: Path, content: bytes) -> SeriesFile:
    """Read the form of a .ts file.

    Raises:
        UserError: it is not one, or its head says other things than its lines.
    """
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise Unreadable(path, f"is not UTF-8 text (byte {error.start})") from None
    head, classes, first = _head(path, lines)
    position = {name: label for label, name in enumerate(classes)}
    series, labels, numbers, lengths = [], [], [], []
    for number, line in enumerate(lines[first:], first + 1):
        if not (line := line.strip()) or line[0] in "#%":
            continue
        *dimensions, label = line.split(":")
        where = f"line {number}"
        if not dimensions:
            raise Unreadable(
                path, f"is damaged: {where} has no class behind a colon ({printable(line, 40)}); end it with :CLASS"
            )
        if (label := label.strip()) not in position:
            raise Unreadable(
                path,
                f"has class {printable(label, 40)} on {where}, which its @classLabel does not list: {_some(classes)}; "
                f"add it there, or correct the line",
            )
        points = [dimension.count(",") + 1 for dimension in dimensions]
        if max(points) > MOST_POINTS:
            raise Unreadable(
                path,
                f"has a series of {max(points):,} points on {where}, and {MOST_POINTS:,} are the limit; shorten it",
            )
        if len(set(points)) > 1:
            other = next(d for d, count in enumerate(points) if count != points[0])
            raise Unreadable(
                path,
                f"is damaged: on {where} dimension 1 has {points[0]} points and dimension {other + 1} has "
                f"{points[other]}; all dimensions of a series need as many",
            )
        series.append(tuple(dimensions))
        labels.append(position[label])
        numbers.append(number)
        lengths.append(points[0])
    if not series:
        raise Unreadable(path, "holds no series behind @data; take the whole file")
    if len(series) > MOST_SERIES:
        raise Unreadable(path, f"holds more than {MOST_SERIES:,} series, the limit")
    _compare(path, head, series, numbers, lengths)
    return SeriesFile(path, classes, tuple(series), tuple(labels), tuple(numbers), tuple(lengths))


def _head(path: Path, lines: list[str]) -> tuple[dict[str, str], tuple[str, ...], int]:
    """Return what the head says, the classes, and the position of the first line behind it."""
    head: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not (line := line.strip()) or line[0] in "#%":
            continue
        key, *values = line.split(None, 1)
        if not key.startswith("@"):
            raise Unreadable(
                path, f"is not a .ts file: line {number} comes before @data and is no @key ({printable(line, 40)}); "
                f"give a file of the UCR or UEA archive in that format",
            )  # fmt: skip
        key = key[1:].lower()
        if key == "data":
            return head, _classes(path, head), number
        head[key] = "".join(values)
    raise Unreadable(path, "is not a .ts file, or is cut short: it has no line @data; take the whole file")


def _classes(path: Path, head: Mapping[str, str]) -> tuple[str, ...]:
    if head.get("timestamps", "false").lower() == "true":
        raise Unreadable(path, "has @timeStamps true, and steps of equal length are read; leave the times out")
    says, *classes = head.get("classlabel", "false").split() or ["false"]
    if says.lower() != "true" or len(classes) < 2:
        raise Unreadable(
            path, f"has no classes to learn: its head must say @classLabel true and list two or more, and says "
            f"{printable(head.get('classlabel', 'nothing'), 60)}; give a data set of classes",
        )  # fmt: skip
    if len(set(classes)) < len(classes):
        raise Unreadable(path, f"lists a class twice in @classLabel: {_some(classes)}; list each once")
    return tuple(classes)


def _compare(
    path: Path, head: Mapping[str, str], series: list[tuple[str, ...]], numbers: list[int], lengths: list[int]
) -> None:
    """Compare the series with what the head says.

    Raises:
        UserError: they differ.
    """
    wanted = len(series[0])
    for key in ("univariate", "dimensions", "dimension"):
        said = head.get(key, "").lower()
        if not said or (key == "univariate" and said != "true"):
            continue
        if wanted != (1 if key == "univariate" else _count(path, key, said)):
            raise Unreadable(
                path, f"says @{key} {printable(said)}, and line {numbers[0]} has {wanted} dimension"
                f"{'s' if wanted > 1 else ''}; correct its head",
            )  # fmt: skip
    for dimensions, number in zip(series, numbers, strict=True):
        if len(dimensions) != wanted:
            raise Unreadable(
                path, f"is damaged: line {number} has {len(dimensions)} dimensions and line {numbers[0]} has {wanted}; "
                f"all series need as many",
            )  # fmt: skip
    is_equal = head.get("equallength", "").lower() == "true"
    length = _count(path, "seriesLength", head["serieslength"]) if is_equal and "serieslength" in head else lengths[0]
    for points, number in zip(lengths, numbers, strict=True):
        if is_equal and points != length:
            raise Unreadable(
                path, f"says @equalLength true and @seriesLength {length}, and line {number} has {points} points; "
                f"write @equalLength false, or take the whole file",
            )  # fmt: skip


def _count(path: Path, key: str, said: str) -> int:
    if not (said.isascii() and said.isdigit() and len(said) < 10 and int(said)):
        raise Unreadable(path, f"says @{key} {printable(said, 40)}, which is no number of any; correct its head")
    return int(said)


def _some(names: tuple[str, ...] | list[str]) -> str:
    shown = [printable(name, 40) for name in names]
    return ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "")
