"""Compute the sizes of a data set's splits from the fractions, before a file is read. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from snn_exp.errors import UserError
from snn_exp.files import printable

TRAINING, VALIDATION, TEST = "training", "validation", "test"


def num_test(num_samples: int, test_fraction: float) -> int:
    """Return the size of a stratified test part."""
    return round(test_fraction * num_samples + 0.5)


def num_val(num_samples: int, val_fraction: float) -> int:
    """Return the size of the validation part beside a stratified test part."""
    return int(val_fraction * num_samples)


def num_val_of_official(num_samples: int, val_fraction: float) -> int:
    """Return the size of the validation part of an official training set."""
    return max(1, round(val_fraction * num_samples))


def training_counts(class_counts: Sequence[int], config: Mapping[str, object]) -> list[int]:
    """Return the number of training samples per class for a data set's config, as its constructor draws them.

    Args:
        class_counts: samples of each class before the data set is split.
        config: the resolved group `dataset`.

    Raises:
        UserError: a part would be too small to hold every class.

    Example:
        >>> sum(training_counts([178, 182, 177, 183, 181, 182, 181, 179, 174, 180],
        ...                     {"name": "digits", "val_fraction": 0.15, "test_fraction": 0.25}))
        1078
    """
    counts, total = list(class_counts), sum(class_counts)
    if "test_fraction" in config:
        counts = without(counts, num_test(total, _number(config["test_fraction"])), TEST)
        counts = without(counts, num_val(total, _number(config["val_fraction"])), VALIDATION)
    elif "val_fraction" in config:
        counts = without(counts, num_val_of_official(total, _number(config["val_fraction"])), VALIDATION)
    return _kept(counts, config)


def own_training_counts(
    class_counts: Sequence[int], config: Mapping[str, object], *, has_val: bool, has_test: bool, names: Sequence[str]
) -> list[int]:
    """Return the number of training samples per class of files of one's own.

    Args:
        class_counts: samples of each class that are not in a part for validation or test.
        config: the resolved group `dataset`.
        has_val: validation samples are given.
        has_test: test samples are given.
        names: of the classes.

    Raises:
        UserError: a part would be too small to hold every class.
    """
    counts, sizes = list(class_counts), drawn_sizes(sum(class_counts), config, has_val=has_val, has_test=has_test)
    for part, size in sizes.items():
        counts = without(counts, size, part, names)
    return _kept(counts, config, names)


def drawn_sizes(total: int, config: Mapping[str, object], *, has_val: bool, has_test: bool) -> dict[str, int]:
    """Return the sizes of the parts that are drawn from samples, in the order in which they are drawn.

    Example:
        >>> drawn_sizes(100, {"val_fraction": 0.15, "test_fraction": 0.25}, has_val=False, has_test=False)
        {'test': 26, 'validation': 15}
    """
    sizes = {} if has_test else {TEST: num_test(total, _number(config["test_fraction"]))}
    if not has_val:
        val_size = num_val_of_official if has_test else num_val
        sizes[VALIDATION] = val_size(total, _number(config["val_fraction"]))
    return sizes


def _kept(counts: list[int], config: Mapping[str, object], names: Sequence[str] = ()) -> list[int]:
    if config.get("num_train") is not None:
        num_train = int(_number(config["num_train"]))
        require_num_train(num_train, sum(counts), len(counts))
        require_every_class(counts, num_train, TRAINING, names)
        counts = proportional(counts, num_train)
    if "copies" in config:
        counts = [int(_number(config["copies"])) * count for count in counts]
    return counts


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value


def without(class_counts: Sequence[int], size: int, part: str, names: Sequence[str] = ()) -> list[int]:
    """Return the number of samples left per class once a part of a given size is drawn in proportion.

    Raises:
        UserError: as `require_every_class`.
    """
    require_every_class(class_counts, size, part, names)
    return proportional(class_counts, sum(class_counts) - size)


def proportional(class_counts: Sequence[int], size: int) -> list[int]:
    """Return the number of samples per class in a stratified draw: rounded down, then by the largest remainders.

    Example:
        >>> proportional([5, 3, 2], 5)
        [3, 1, 1]
    """
    total = sum(class_counts)
    shares = [count * size / total for count in class_counts]
    drawn = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda k: drawn[k] - shares[k])
    for k in by_remainder[: size - sum(drawn)]:
        drawn[k] += 1
    return drawn


def named(label: int, names: Sequence[str]) -> str:
    """Return a class by its number, and its name if it has one.

    Example:
        >>> named(1, ()), named(1, ("cat", "dog"))
        ('class 1', 'class 1 (dog)')
    """
    return f"class {label} ({printable(names[label])})" if names else f"class {label}"


def require_every_class(class_counts: Sequence[int], size: int, part: str, names: Sequence[str] = ()) -> None:
    """Check that samples can be split in two with every class in both.

    Args:
        class_counts: samples of each class.
        size: of the part that is held out.
        part: its name; its fraction is called so as well.
        names: of the classes, if they have some.

    Raises:
        UserError: they cannot.
    """
    total, num_classes = sum(class_counts), len(class_counts)
    key = {VALIDATION: "dataset.val_fraction", TEST: "dataset.test_fraction", TRAINING: "dataset.num_train"}[part]
    sizes = f"{total} samples cannot be split into {total - size} and {size} for {part} with every class in both"
    if total < 2 * num_classes:
        raise UserError(
            f"{sizes}: {num_classes} classes need {2 * num_classes} samples at least; make room for them with a "
            f"smaller dataset.test_fraction, if there is one, or take more data"
        )
    if size < num_classes:
        raise UserError(f"{sizes}: each of the {num_classes} classes needs one; type a larger {key}")
    if total - size < num_classes:
        raise UserError(f"{sizes}: each of the {num_classes} classes needs one; type a smaller {key}")
    fewest = min(range(num_classes), key=lambda k: class_counts[k])
    if class_counts[fewest] < 2:
        raise UserError(
            f"{sizes}: {named(fewest, names)} has {class_counts[fewest]} of them and needs at least 2, one for each "
            f"part; add samples of that class, or leave the class out of the data"
        )


def require_num_train(num_train: int, available: int, num_classes: int) -> None:
    """Check that this many training samples can be drawn from those available.

    Raises:
        UserError: there are too few: the samples left out must have every class, too.
    """
    most = available - num_classes
    if num_train > most:
        raise UserError(
            f"dataset.num_train={num_train} is more than {most}, the most that can be drawn from {available} training "
            f"samples; type dataset.num_train={most}, or dataset.num_train=null for all of them"
        )


def num_left_out(num_samples: int, batch_size: int) -> int:
    """Return the number of samples that an epoch leaves out: a last batch of one, since no batch norm can use it."""
    return int(num_samples > 1 and batch_size > 1 and num_samples % batch_size == 1)


def smallest_batch(num_samples: int, batch_size: int) -> int:
    """Return the size of the last batch of an epoch of training.

    Example:
        >>> smallest_batch(10, 4), smallest_batch(9, 4), smallest_batch(3, 1)
        (2, 4, 1)
    """
    return (num_samples - num_left_out(num_samples, batch_size) - 1) % batch_size + 1
