"""Constraints on sizes: of images, channels, batches, parts of the data, and memory.

They read a composed config, group -> {"name": ..., parameter: value}; constraints.py has their order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from snn_exp.config import footprint, series_files, splits
from snn_exp.config.schemas import trait_of
from snn_exp.errors import UserError


def refuse_groups_that_do_not_divide(c: dict[str, Any]) -> None:
    """Refuse groups of a norm that do not divide the channels."""
    parameter, width = trait_of(c, "norm", "divides_channels"), c["network"].get("width")
    if not parameter or width is None:
        return
    groups = c["norm"][parameter]
    if width % groups:
        nearest = max(n for n in range(1, min(width, groups) + 1) if width % n == 0)
        raise UserError(
            f"norm.{parameter}={groups} does not divide the {width} channels of network.width={width}; type "
            f"norm.{parameter}={nearest}, or network.width={groups * max(1, round(width / groups))}"
        )


def refuse_a_variance_of_one_value(c: dict[str, Any]) -> None:
    """Refuse a norm over a single value: it would give a constant, or an error of torch."""
    axes, shape, num_stages = (
        trait_of(c, "norm", "variance_over"),
        sample_shape(c),
        trait_of(c, "network", "num_stages"),
    )
    if not axes or shape is None or num_stages is None:
        return
    norm, width = c["norm"]["name"], c["network"]["width"]
    steps, batch_size = c["encoding"]["num_steps"], c["optim"]["batch_size"]
    for channels, h, w in footprint.maps(shape, width, num_stages):
        groups = c["norm"].get("num_groups", 1)
        sizes = {"T": steps, "B": batch_size, "C": channels, "C/num_groups": channels // groups, "H": h, "W": w}
        if math.prod(sizes[axis] for axis in axes.split(",")) < 2:
            given = [f"network={c['network']['name']}"]
            given += [f"encoding.num_steps={steps}"] if "T" in axes.split(",") else []
            given += [f"optim.batch_size={batch_size}"] if "B" in axes else []
            given += [f"network.width={width}"] if "C" in axes else []
            given += [f"norm.num_groups={groups}"] if groups > 1 else []
            mend = "optim.batch_size=2 or more" if "B" in axes else "a larger network.width or fewer groups"
            raise UserError(
                f"norm={norm} takes the variance over {axes}, and with {', '.join(given)} that is a single value, "
                f"which has none; type {mend}, or norm=none"
            )


def sample_shape(c: dict[str, Any]) -> tuple[int, int, int] | None:
    """Return (C, H, W) of one sample at one step; None where only the files know it."""
    shape = footprint.sample_shape(c["dataset"], trait_of(c, "dataset", "image_shape"))
    if shape is None or not trait_of(c, "dataset", "is_series"):
        return shape
    return shape[0], shape[1], -(-shape[2] // (c["encoding"]["num_steps"] or 1))


def series_length(c: dict[str, Any]) -> int | None:
    """Return the points of a series; None of other data, and where files are not asked, since the steps are known."""
    if not trait_of(c, "dataset", "is_series"):
        return None
    if shape := trait_of(c, "dataset", "image_shape"):
        return int(shape[2])
    return series_files.both(c["dataset"]["path"]).length if c["encoding"]["num_steps"] is None else None


def refuse_steps_that_the_data_cannot_have(c: dict[str, Any]) -> None:
    """Refuse steps that would be empty, or would cut a motion where it must not be cut."""
    num_steps, dividend = c["encoding"]["num_steps"], trait_of(c, "dataset", "steps_divide")
    if (length := series_length(c)) is not None:
        series_files.steps(length, num_steps)
    if dividend and dividend % num_steps:
        nearest = min((n for n in range(1, dividend + 1) if dividend % n == 0), key=lambda n: abs(n - num_steps))
        raise UserError(
            f"encoding.num_steps={num_steps} cuts the strokes of dataset={c['dataset']['name']} in unequal parts, so "
            f"that single frames would tell their order; type encoding.num_steps={nearest}, or another divisor of "
            f"{dividend}"
        )


def training_counts(c: dict[str, Any]) -> list[int] | None:
    """Return the number of training samples per class; None where only the files know it."""
    class_counts = trait_of(c, "dataset", "class_counts")
    return None if class_counts is None else splits.training_counts(class_counts, c["dataset"])


def refuse_parts_without_every_class(c: dict[str, Any]) -> None:
    """Refuse a split of which a part would lack a class."""
    training_counts(c)


def refuse_shares_without_a_sample(c: dict[str, Any]) -> None:
    """Refuse more devices than the smallest batch has samples."""
    counts, batch_size, devices = training_counts(c), c["optim"]["batch_size"], c["trainer"]["devices"]
    if counts is not None and (smallest := splits.smallest_batch(sum(counts), batch_size)) < devices:
        raise UserError(
            f"the last batch of an epoch has {smallest} of the {sum(counts)} training samples and "
            f"trainer.devices={devices} share it; type trainer.devices={smallest} or fewer, or another optim.batch_size"
        )


def refuse_shifts_beyond_the_image(c: dict[str, Any]) -> None:
    """Refuse a shift that moves an image out of view."""
    shape, shift = sample_shape(c), c["dataset"].get("max_shift", 0)
    if shape is not None and shift >= max(1, min(shape[1:])):
        raise UserError(
            f"dataset.max_shift={shift} shifts an image of {shape[1]} x {shape[2]} pixels out of view; type "
            f"dataset.max_shift={min(shape[1:]) // 4}, or at most {min(shape[1:]) - 1}"
        )


def refuse_what_no_machine_holds(c: dict[str, Any]) -> None:
    """Refuse a training step beyond the memory of any machine."""
    needed = least_memory(c)
    if needed is not None and needed.total > footprint.LIMIT:
        raise UserError(
            f"a training step would take at least {footprint.in_gib(needed.total)} of memory ({needed}), and "
            f"{footprint.in_gib(footprint.LIMIT)} are the limit; type a smaller network.width, depth, "
            f"encoding.num_steps or optim.batch_size"
        )


def num_train(c: Mapping[str, Any]) -> int | None:
    """Return the number of training samples; None where only the files know it."""
    counts = training_counts(dict(c))
    return None if counts is None else sum(counts)


def least_memory(c: Mapping[str, Any]) -> footprint.Footprint | None:
    """Return the least memory of a training step; None where the data or the network do not state their shapes."""
    plain = dict(c)
    shape, num_stages = sample_shape(plain), trait_of(plain, "network", "num_stages")
    if shape is None or num_stages is None:
        return None
    known = num_train(c)
    return footprint.least(c, shape, num_stages, c["optim"]["batch_size"] if known is None else known)
