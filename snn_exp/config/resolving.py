"""Resolve what choices leave open: `auto`, null, and parts without effect.

Each function changes a composed config, group -> {"name": ..., parameter: value}, and refuses with a sentence what its
answer contradicts. constraints.py has their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snn_exp.config import own_files, schemas, series_files, splits
from snn_exp.config.schemas import defaults_of, option_of, trait_of
from snn_exp.config.sizes import sample_shape, series_length
from snn_exp.errors import UserError
from snn_exp.registry import Scalar, shown

# Parameters that every option of a group has, so that they go with `auto`.
SHARED = {"encoding": ("num_steps",)}


def answer_auto(c: dict[str, Any]) -> None:
    """Replace `auto` by its answer; this comes before values are checked, since `auto` is not an allowed value."""
    for group in ("neuron", "dataset"):
        if not isinstance(c[group], dict) or c[group].get("name") not in schemas.load()[group]:
            return  # the check that follows says so
    neuron = option_of(c, "neuron").traits
    answers = {
        "encoding": "frames" if trait_of(c, "dataset", "has_time") else "direct",
        "surrogate": neuron["default_surrogate"],
        "synapse": neuron["default_synapse"],
        "weight_quant": "bnn" if neuron["emits"] == "signs" else "none",
    }
    for group, answer in answers.items():
        if isinstance(c[group], dict) and c[group].get("name") == "auto":
            shared = {key: value for key, value in c[group].items() if key in SHARED.get(group, ())}
            _refuse_values_of_auto(c, group, answer, SHARED.get(group, ()))
            c[group] = defaults_of(group, answer) | shared


def _refuse_values_of_auto(c: dict[str, Any], group: str, answer: Any, shared: Sequence[str] = ()) -> None:
    extra = [key for key in c[group] if key != "name" and key not in shared]
    if extra:
        raise UserError(
            f"{group}.{extra[0]} cannot be combined with {group}=auto, which is {answer} here; "
            f"type {group}={answer} {group}.{extra[0]}=..."
        )


def own_augment(dataset: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the group `augment` that the fields of a data set ask for, and that is left out of run ids.

    Example:
        >>> own_augment({"name": "digits", "max_shift": 1})
        {'name': 'shift', 'max_shift': 1}
    """
    max_shift, flip = dataset.get("max_shift", 0), dataset.get("flip", False)
    if flip:
        return {"name": "shift_flip", "max_shift": max_shift}
    return {"name": "shift", "max_shift": max_shift} if max_shift else {"name": "none"}


def answer_auto_augment(c: dict[str, Any]) -> None:
    """Replace augment=auto by what the data set's own fields ask for; these have been checked before."""
    if isinstance(c["augment"], dict) and c["augment"].get("name") == "auto":
        answer = own_augment(c["dataset"])
        _refuse_values_of_auto(c, "augment", answer["name"])
        c["augment"] = answer


def agree_on_shift_and_flip(c: dict[str, Any]) -> None:
    """Write what an augmentation says of shift and flip into the data set's own fields, so that one run has one id."""
    augment, dataset = c["augment"], c["dataset"]
    name, own, most = augment["name"], dataset.get("max_shift", 0), sample_shape(c)
    if "max_shift" in augment:
        if augment["max_shift"] is None:
            augment["max_shift"] = own
        shift = augment["max_shift"]
        if name == "shift" and not shift:
            raise UserError(
                f"augment=shift has nothing to shift by: dataset.max_shift={own}; type augment.max_shift=1, or "
                f"augment=none"
            )
        if shift != own and most is not None and shift >= max(1, min(most[1:])):
            raise UserError(
                f"augment.max_shift={shift} shifts an image of {most[1]} x {most[2]} pixels out of view; type "
                f"augment.max_shift={max(1, min(most[1:]) // 4)}, or at most {min(most[1:]) - 1}"
            )
    if not trait_of(c, "augment", "takes_its_own"):
        return
    defaults = defaults_of("dataset", dataset["name"])
    for key, value in (("max_shift", augment.get("max_shift", 0)), ("flip", name == "shift_flip")):
        if key in dataset and dataset[key] != value:
            if dataset[key] != defaults[key]:
                raise UserError(
                    f"dataset.{key}={shown(dataset[key])} and augment={name} say two things of the augmentation; leave "
                    f"dataset.{key} out, or type augment=auto, which takes it from there"
                )
            dataset[key] = value


def answer_content(c: dict[str, Any]) -> None:
    """Fill in the content of files of one's own, and check that they can be split; a stored config has it already."""
    dataset = c["dataset"]
    if not trait_of(c, "dataset", "own") or dataset["content"] is not None:
        return
    dataset["content"] = own_files.content_of(dataset["name"], dataset["path"])
    if dataset["name"] == "series":
        files = series_files.both(dataset["path"])
        counts, names = files.train.counts, files.train.classes
        splits.own_training_counts(counts, dataset, has_val=False, has_test=True, names=names)
        if (num_steps := c["encoding"]["num_steps"]) is not None:
            series_files.steps(files.length, num_steps)
    if dataset["name"] == "images":
        listed = own_files.listing(dataset["path"])
        parts = {picture.part for picture in listed.pictures}
        splits.own_training_counts(
            listed.counts("", "train"), dataset, has_val="val" in parts, has_test="test" in parts, names=listed.classes
        )


def resolve_num_steps(c: dict[str, Any]) -> None:
    """Fill in the number of steps, and refuse one that the neuron or the encoding cannot have."""
    single_step, neuron = trait_of(c, "neuron", "single_step"), c["neuron"]["name"]
    num_steps = c["encoding"]["num_steps"]
    if num_steps is None:
        length = None if single_step else series_length(c)
        c["encoding"]["num_steps"] = (
            trait_of(c, "neuron", "default_num_steps") if length is None else series_files.default_steps(length)
        )
    elif single_step and num_steps != 1:
        raise UserError(
            f"encoding.num_steps={num_steps} cannot be combined with neuron={neuron}, which has a single step; "
            f"leave encoding.num_steps out, or choose a neuron with time such as neuron=lif"
        )
    least = trait_of(c, "encoding", "min_steps")
    if c["encoding"]["num_steps"] < least:
        raise UserError(
            f"encoding={c['encoding']['name']} needs at least {least} steps and has "
            f"{c['encoding']['num_steps']}; type encoding.num_steps=4 with a neuron that has time, "
            f"or encoding=direct"
        )


def drop_what_has_no_effect(c: dict[str, Any]) -> None:
    """Replace a part without effect by `none` or `identity`, and fill in the readout."""
    if trait_of(c, "neuron", "default_surrogate") == "none":
        c["surrogate"] = defaults_of("surrogate", "none")
    elif c["surrogate"]["name"] == "none":
        raise UserError(
            f"surrogate=none gives neuron={c['neuron']['name']} no gradient; leave it out, or type "
            f"surrogate={trait_of(c, 'neuron', 'default_surrogate')}"
        )
    if c["synapse"]["name"] == "exponential" and c["encoding"]["num_steps"] == 1:
        c["synapse"] = defaults_of("synapse", "identity")
    if not trait_of(c, "network", "has_blocks"):
        c["residual"] = defaults_of("residual", "none")
    real_stream = trait_of(c, "residual", "stream") == "real"
    if "readout" in c["network"] and (c["network"]["readout"] is None or not real_stream):
        c["network"]["readout"] = trait_of(c, "residual", "default_readout")


def drop_patience_that_outlasts_training(c: dict[str, Any]) -> None:
    """Drop a patience that cannot end a run before its last epoch: the first epoch is always the best so far."""
    trainer = c["trainer"]
    if trainer["patience"] is not None and trainer["patience"] > trainer["max_epochs"] - 2:
        trainer["patience"] = None
