"""Constraints between choices: resolve `auto` and null, drop what has no effect, refuse what cannot work.

A rule reads and changes a composed config, group -> {"name": ..., parameter: value}. It refuses with a sentence that
says what to type instead, and comes after those whose answers it needs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from snn_exp.config import footprint, own_files, schemas, splits
from snn_exp.errors import UserError
from snn_exp.registry import Option, Scalar, shown

RUN_ID = re.compile("[0-9a-f]{10}")

# Parameters that every option of a group has, so that they go with `auto`.
SHARED = {"encoding": ("num_steps",)}


def _option(c: dict[str, Any], group: str) -> Option:
    return schemas.load()[group][c[group]["name"]]


def _trait(c: dict[str, Any], group: str, trait: str) -> Any:
    return _option(c, group).traits[trait]


def _defaults(group: str, name: str) -> dict[str, Scalar]:
    option = schemas.load()[group][name]
    return {"name": name} | {p.name: p.default for p in option.parameters}


def answer_auto(c: dict[str, Any]) -> None:
    """Replace `auto` by its answer; this comes before values are checked, since `auto` is not an allowed value."""
    for group in ("neuron", "dataset"):
        if not isinstance(c[group], dict) or c[group].get("name") not in schemas.load()[group]:
            return  # the check that follows says so
    neuron = _option(c, "neuron").traits
    answers = {
        "encoding": "frames" if _trait(c, "dataset", "has_time") else "direct",
        "surrogate": neuron["default_surrogate"],
        "synapse": neuron["default_synapse"],
        "weight_quant": "bnn" if neuron["emits"] == "signs" else "none",
    }
    for group, answer in answers.items():
        if isinstance(c[group], dict) and c[group].get("name") == "auto":
            shared = {key: value for key, value in c[group].items() if key in SHARED.get(group, ())}
            _refuse_values_of_auto(c, group, answer, SHARED.get(group, ()))
            c[group] = _defaults(group, answer) | shared


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


def _refuse_augmentation_of_other_data(c: dict[str, Any]) -> None:
    augment, dataset = c["augment"], c["dataset"]["name"]
    name, is_own = augment["name"], augment == own_augment(c["dataset"])
    if _trait(c, "augment", "reads_images_only") and _trait(c, "dataset", "has_time") and not is_own:
        raise UserError(
            f"augment={name} changes images, and the samples of dataset={dataset} have time, in which a change may be "
            f"the class; leave augment out, or type augment=shift or augment=none"
        )
    channels, shape = _trait(c, "augment", "channels"), _sample_shape(c)
    if channels and shape is not None and shape[0] not in channels:
        raise UserError(
            f"augment={name} reads images of {' or '.join(map(str, channels))} channels, and those of "
            f"dataset={dataset} have {shape[0]}; leave augment out, or type augment=shift"
        )


def _agree_on_shift_and_flip(c: dict[str, Any]) -> None:
    """Write what an augmentation says of shift and flip into the data set's own fields, so that one run has one id."""
    augment, dataset = c["augment"], c["dataset"]
    name, own, most = augment["name"], dataset.get("max_shift", 0), _sample_shape(c)
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
    if not _trait(c, "augment", "takes_its_own"):
        return
    defaults = _defaults("dataset", dataset["name"])
    for key, value in (("max_shift", augment.get("max_shift", 0)), ("flip", name == "shift_flip")):
        if key in dataset and dataset[key] != value:
            if dataset[key] != defaults[key]:
                raise UserError(
                    f"dataset.{key}={shown(dataset[key])} and augment={name} say two things of the augmentation; leave "
                    f"dataset.{key} out, or type augment=auto, which takes it from there"
                )
            dataset[key] = value


def _answer_content(c: dict[str, Any]) -> None:
    """Fill in the content of files of one's own, and check that they can be split; a stored config has it already."""
    dataset = c["dataset"]
    if not _trait(c, "dataset", "own") or dataset["content"] is not None:
        return
    dataset["content"] = own_files.content_of(dataset["name"], dataset["path"])
    if dataset["name"] == "images":
        listed = own_files.listing(dataset["path"])
        parts = {picture.part for picture in listed.pictures}
        splits.own_training_counts(
            listed.counts("", "train"), dataset, has_val="val" in parts, has_test="test" in parts, names=listed.classes
        )


def _refuse_an_encoding_of_other_data(c: dict[str, Any]) -> None:
    dataset, encoding = c["dataset"]["name"], c["encoding"]["name"]
    if _trait(c, "dataset", "has_time") and not _trait(c, "encoding", "has_time"):
        raise UserError(
            f"encoding={encoding} makes steps out of images, and the samples of dataset={dataset} have time already; "
            f"leave encoding out, or type encoding=frames"
        )
    if _trait(c, "encoding", "has_time") and not _trait(c, "dataset", "has_time"):
        raise UserError(
            f"encoding={encoding} reads samples with time, and dataset={dataset} has images; leave encoding out, or "
            f"choose data with time such as dataset=digits_dvs"
        )


def _resolve_num_steps(c: dict[str, Any]) -> None:
    single_step, neuron = _trait(c, "neuron", "single_step"), c["neuron"]["name"]
    num_steps = c["encoding"]["num_steps"]
    if num_steps is None:
        c["encoding"]["num_steps"] = _trait(c, "neuron", "default_num_steps")
    elif single_step and num_steps != 1:
        raise UserError(
            f"encoding.num_steps={num_steps} cannot be combined with neuron={neuron}, which has a single step; "
            f"leave encoding.num_steps out, or choose a neuron with time such as neuron=lif"
        )
    least = _trait(c, "encoding", "min_steps")
    if c["encoding"]["num_steps"] < least:
        raise UserError(
            f"encoding={c['encoding']['name']} needs at least {least} steps and has "
            f"{c['encoding']['num_steps']}; type encoding.num_steps=4 with a neuron that has time, "
            f"or encoding=direct"
        )


def _drop_what_has_no_effect(c: dict[str, Any]) -> None:
    if _trait(c, "neuron", "default_surrogate") == "none":
        c["surrogate"] = _defaults("surrogate", "none")
    elif c["surrogate"]["name"] == "none":
        raise UserError(
            f"surrogate=none gives neuron={c['neuron']['name']} no gradient; leave it out, or type "
            f"surrogate={_trait(c, 'neuron', 'default_surrogate')}"
        )
    if c["synapse"]["name"] == "exponential" and c["encoding"]["num_steps"] == 1:
        c["synapse"] = _defaults("synapse", "identity")
    if not _trait(c, "network", "has_blocks"):
        c["residual"] = _defaults("residual", "none")
    real_stream = _trait(c, "residual", "stream") == "real"
    if "readout" in c["network"] and (c["network"]["readout"] is None or not real_stream):
        c["network"]["readout"] = _trait(c, "residual", "default_readout")


def _drop_patience_that_outlasts_training(c: dict[str, Any]) -> None:
    """Drop a patience that cannot end a run before its last epoch: the first epoch is always the best so far."""
    trainer = c["trainer"]
    if trainer["patience"] is not None and trainer["patience"] > trainer["max_epochs"] - 2:
        trainer["patience"] = None


def _refuse_depths(c: dict[str, Any]) -> None:
    step, offset = _trait(c, "network", "layers_step"), _trait(c, "network", "layers_offset")
    num_layers, network = c["depth"]["num_layers"], c["network"]["name"]
    n = max(1, round((num_layers - offset) / step))
    if num_layers != offset + n * step:
        form = f"{step}n + {offset}" if step > 1 else f"at least {offset + 1}"
        raise UserError(
            f"depth={num_layers} is not a depth of network={network}, which has {form} layers; the nearest "
            f"is {offset + n * step}: type depth=d{offset + n * step}"
        )


def _refuse_psp_of_signs(c: dict[str, Any]) -> None:
    if c["norm"]["name"] == "psp" and _trait(c, "neuron", "emits") == "signs":
        raise UserError(
            f"norm=psp does nothing with neuron={c['neuron']['name']}: the second moment of -1 and +1 is 1; "
            f"type norm=bn"
        )


def _refuse_idle_inits(c: dict[str, Any]) -> None:
    """Refuse an initialisation whose work another part undoes or has done before."""
    init, norm, neuron = c["init"]["name"], c["norm"]["name"], c["neuron"]["name"]
    emits = _trait(c, "neuron", "emits")
    if init == "psp" and "psp" in _trait(c, "norm", "placements"):
        raise UserError(
            f"init=psp divides the weights by the moments that norm={norm} divides by, so at the first step the "
            f"network is the same with it and without; type norm=none with init=psp, or leave init out"
        )
    if init == "psp" and emits == "signs":
        raise UserError(
            f"init=psp does nothing with neuron={neuron}: the second moment of -1 and +1 is 1; leave init out, or type "
            f"init=lsuv"
        )
    if not _trait(c, "init", "sets_weights"):
        return
    if (source := c.get("init_from")) is not None:
        raise UserError(
            f"init={init} sets the weights of an untrained network, and init_from={shown(source)} replaces them; leave "
            f"one of the two out"
        )
    for group, is_so in (("weight_norm", c["weight_norm"]["name"] != "none"),
                         ("weight_quant", c["weight_quant"]["name"] in ("bnn", "xnor"))):  # fmt: skip
        if is_so:
            raise UserError(
                f"init={init} sets the size of the weights, and {group}={c[group]['name']} sets it again; type "
                f"{group}=none, or leave init out"
            )
    if _trait(c, "init", "for_spikes"):
        if emits != "spikes":
            raise UserError(
                f"init={init} is for spikes, 0 and 1, and neuron={neuron} emits {_EMITTED[emits]}; type init=psp, "
                f"which measures, or leave init out"
            )
        if (v_threshold := float(c["neuron"].get("v_threshold") or 1.0)) > 5:
            raise UserError(
                f"init={init} divides by the share of a standard normal membrane above neuron.v_threshold="
                f"{v_threshold:g}, which is below one in a million; type neuron.v_threshold=1, or init=psp"
            )


_EMITTED = {
    "signs": "-1 and +1",
    "ternary": "-1, 0 and 1",
    "levels": "levels, whole multiples of a unit",
    "real": "real values",
}


def _refuse_blocks_without_spikes(c: dict[str, Any]) -> None:
    emits, neuron, residual = _trait(c, "neuron", "emits"), c["neuron"]["name"], c["residual"]["name"]
    if _trait(c, "residual", "needs_spikes") and emits != "spikes":
        raise UserError(
            f"residual={residual} combines spikes and neuron={neuron} emits {_EMITTED[emits]}; type residual=bireal, "
            f"or a neuron that spikes such as neuron=lif"
        )


def _refuse_placements(c: dict[str, Any]) -> None:
    norm, neuron = c["norm"]["name"], c["neuron"]["name"]
    placements, emits = _trait(c, "norm", "placements"), _trait(c, "neuron", "emits")
    if "membrane" in placements and not _trait(c, "neuron", "has_membrane"):
        raise UserError(
            f"norm={norm} normalizes the membrane potential, and neuron={neuron} has none that persists between steps; "
            f"type norm=bn, or choose a neuron with a membrane such as neuron=lif"
        )
    if "spike" in placements and emits != "spikes":
        raise UserError(
            f"norm={norm} counts spikes and neuron={neuron} emits {_EMITTED[emits]}; type "
            f"norm=bn, or choose a neuron that spikes such as neuron=lif"
        )


def _refuse_outlasted_steps(c: dict[str, Any]) -> None:
    if c["synapse"].get("sampling") == "slayer":
        delay, num_steps = c["depth"]["num_layers"] - 1, c["encoding"]["num_steps"]
        if delay >= num_steps:
            raise UserError(
                f"synapse.sampling=slayer delays the longest path by {delay} steps and encoding.num_steps is "
                f"{num_steps}, so it carries nothing; type encoding.num_steps={delay + 1} or more, or "
                f"synapse.sampling=immediate"
            )


def _refuse_idle_width_schedules(c: dict[str, Any]) -> None:
    schedule, end = c["optim"]["width_schedule"], c["optim"]["width_end"]
    if schedule == "constant" and end != 1:
        raise UserError(
            f"optim.width_end={end:g} is the end of a schedule and optim.width_schedule is constant; type "
            f"optim.width_schedule=linear or cosine, or leave optim.width_end out"
        )
    if schedule != "constant" and end == 1:
        raise UserError(
            f"optim.width_schedule={schedule} ends where it starts; type optim.width_end=0.5, say, or leave it out"
        )
    if schedule != "constant" and c["surrogate"]["name"] == "none":
        raise UserError(
            f"optim.width_schedule={schedule} is of a surrogate's width and neuron={c['neuron']['name']} has no "
            f"surrogate; leave it out, or choose a neuron that spikes such as neuron=s2nn"
        )


def _refuse_idle_losses(c: dict[str, Any]) -> None:
    optim, defaults = c["optim"], _defaults("optim", c["optim"]["name"])
    if optim["loss"] == "tet" and c["encoding"]["num_steps"] == 1:
        raise UserError(
            f"optim.loss=tet takes the cross-entropy of every step, and with neuron={c['neuron']['name']} there is one "
            f"(encoding.num_steps=1); type optim.loss=ce, or a neuron with time such as neuron=lif"
        )
    for key in ("tet_weight", "tet_target"):
        if optim["loss"] != "tet" and optim[key] != defaults[key]:
            raise UserError(
                f"optim.{key}={optim[key]:g} does nothing with optim.loss={optim['loss']}; type optim.loss=tet as "
                f"well, or leave it out"
            )


def _refuse_what_the_schedule_overrides(c: dict[str, Any]) -> None:
    """Refuse settings of other schedules: torch's OneCycleLR moves the momentum too, whatever it was set to."""
    optim, defaults = c["optim"], _defaults("optim", c["optim"]["name"])
    schedule = optim["schedule"]
    for key in ("beta1", "momentum"):
        if schedule == "onecycle" and key in optim and optim[key] != defaults[key]:
            raise UserError(
                f"optim.{key}={optim[key]:g} does nothing with optim.schedule=onecycle, which moves it from 0.95 to "
                f"0.85 and back; type optim.schedule=cosine as well, or leave it out"
            )
    if schedule != "cosine" and optim["warmup"] != defaults["warmup"]:
        raise UserError(
            f"optim.warmup={optim['warmup']:g} does nothing with optim.schedule={schedule}; type optim.schedule=cosine "
            f"as well, or leave it out"
        )


def _refuse_unreadable_teachers(c: dict[str, Any]) -> None:
    for key, example in (("teacher", "method=relu_bn depth=d20"), ("init_from", "neuron=lif encoding.num_steps=4")):
        run = c.get(key)
        if run is not None and not (isinstance(run, str) and ("=" in run or RUN_ID.fullmatch(run))):
            raise UserError(
                f"{key}={run} is neither a run id, which has 10 hex digits, nor overrides; type {key}=0123456789, or "
                f"{key}='{example}'"
            )
    teacher = c.get("teacher")
    for key in ("teacher_weight", "teacher_temperature"):
        if teacher is None and c["optim"][key] != _defaults("optim", c["optim"]["name"])[key]:
            raise UserError(f"optim.{key} does nothing without a teacher; type teacher=RUN_ID as well, or leave it out")


def _refuse_predictions_without_a_test(c: dict[str, Any]) -> None:
    if c["trainer"]["keep_predictions"] and not c["trainer"]["test"]:
        raise UserError(
            "trainer.keep_predictions=true stores predictions of the test set, and trainer.test=false does not "
            "read it; leave one of them out"
        )


def _refuse_idle_devices(c: dict[str, Any]) -> None:
    devices, batch_size = c["trainer"]["devices"], c["optim"]["batch_size"]
    if c["trainer"]["strategy"] == "ddp" and devices == 1:
        raise UserError(
            "trainer.strategy=ddp shares every batch among devices and trainer.devices is 1; type trainer.devices=2, "
            "or leave trainer.strategy out"
        )
    if devices > batch_size:
        raise UserError(
            f"trainer.devices={devices} share every batch and optim.batch_size={batch_size} has no sample for some; "
            f"type trainer.devices={batch_size} or fewer, or a larger optim.batch_size"
        )


def _refuse_seeds_that_cannot_be_vectorized(c: dict[str, Any]) -> None:
    trainer, optim = c["trainer"], c["optim"]
    if not trainer["vectorized_seeds"]:
        return
    refused = {
        f"trainer.devices={trainer['devices']}": trainer["devices"] > 1,
        f"trainer.precision={trainer['precision']}": trainer["precision"] not in ("32-true", "64-true"),
        "trainer.checkpoint_activations=true": trainer["checkpoint_activations"],
        f"optim.loss={optim['loss']}": optim["loss"] != "ce",
        f"optim.rate_penalty={optim['rate_penalty']:g}": optim["rate_penalty"] > 0,
        f"optim.width_schedule={optim['width_schedule']}": optim["width_schedule"] != "constant",
    }
    _refuse_beside("trainer.vectorized_seeds=true, which trains the networks of several seeds as one", refused)


def _refuse_what_cannot_be_compiled(c: dict[str, Any]) -> None:
    trainer, optim = c["trainer"], c["optim"]
    if not trainer["compile"]:
        return
    refused = {
        "trainer.kernels=fused": trainer["kernels"] == "fused",
        "trainer.vectorized_seeds=true": trainer["vectorized_seeds"],
        "trainer.checkpoint_activations=true": trainer["checkpoint_activations"],
        f"trainer.devices={trainer['devices']}": trainer["devices"] > 1,
        f"optim.loss={optim['loss']}": optim["loss"] != "ce",
        f"optim.rate_penalty={optim['rate_penalty']:g}": optim["rate_penalty"] > 0,
        f"optim.width_schedule={optim['width_schedule']}": optim["width_schedule"] != "constant",
    }
    _refuse_beside("trainer.compile=true, which compiles the plain path of one process once", refused)


def _refuse_beside(asked: str, refused: Mapping[str, bool]) -> None:
    for what, is_so in refused.items():
        if is_so:
            raise UserError(f"{what} cannot be combined with {asked}; leave one of the two out")


def _refuse_groups_that_do_not_divide(c: dict[str, Any]) -> None:
    parameter, width = _trait(c, "norm", "divides_channels"), c["network"].get("width")
    if not parameter or width is None:
        return
    groups = c["norm"][parameter]
    if width % groups:
        nearest = max(n for n in range(1, min(width, groups) + 1) if width % n == 0)
        raise UserError(
            f"norm.{parameter}={groups} does not divide the {width} channels of network.width={width}; type "
            f"norm.{parameter}={nearest}, or network.width={groups * max(1, round(width / groups))}"
        )


def _refuse_a_variance_of_one_value(c: dict[str, Any]) -> None:
    """Refuse a norm over a single value: it would give a constant, or an error of torch."""
    axes, shape, num_stages = _trait(c, "norm", "variance_over"), _sample_shape(c), _trait(c, "network", "num_stages")
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


def _sample_shape(c: dict[str, Any]) -> tuple[int, int, int] | None:
    return footprint.sample_shape(c["dataset"], _trait(c, "dataset", "image_shape"))


def _training_counts(c: dict[str, Any]) -> list[int] | None:
    """Return the number of training samples per class; None where only the files know it."""
    class_counts = _trait(c, "dataset", "class_counts")
    return None if class_counts is None else splits.training_counts(class_counts, c["dataset"])


def _refuse_parts_without_every_class(c: dict[str, Any]) -> None:
    _training_counts(c)


def _refuse_shares_without_a_sample(c: dict[str, Any]) -> None:
    counts, batch_size, devices = _training_counts(c), c["optim"]["batch_size"], c["trainer"]["devices"]
    if counts is not None and (smallest := splits.smallest_batch(sum(counts), batch_size)) < devices:
        raise UserError(
            f"the last batch of an epoch has {smallest} of the {sum(counts)} training samples and "
            f"trainer.devices={devices} share it; type trainer.devices={smallest} or fewer, or another optim.batch_size"
        )


def _refuse_shifts_beyond_the_image(c: dict[str, Any]) -> None:
    shape, shift = _sample_shape(c), c["dataset"].get("max_shift", 0)
    if shape is not None and shift >= max(1, min(shape[1:])):
        raise UserError(
            f"dataset.max_shift={shift} shifts an image of {shape[1]} x {shape[2]} pixels out of view; type "
            f"dataset.max_shift={min(shape[1:]) // 4}, or at most {min(shape[1:]) - 1}"
        )


def _refuse_what_no_machine_holds(c: dict[str, Any]) -> None:
    needed = least_memory(c)
    if needed is not None and needed.total > footprint.LIMIT:
        raise UserError(
            f"a training step would take at least {footprint.in_gib(needed.total)} of memory ({needed}), and "
            f"{footprint.in_gib(footprint.LIMIT)} are the limit; type a smaller network.width, depth, "
            f"encoding.num_steps or optim.batch_size"
        )


def num_train(c: Mapping[str, Any]) -> int | None:
    """Return the number of training samples; None where only the files know it."""
    counts = _training_counts(dict(c))
    return None if counts is None else sum(counts)


def least_memory(c: Mapping[str, Any]) -> footprint.Footprint | None:
    """Return the least memory of a training step; None where the data or the network do not state their shapes."""
    plain = dict(c)
    shape, num_stages = _sample_shape(plain), _trait(plain, "network", "num_stages")
    if shape is None or num_stages is None:
        return None
    known = num_train(c)
    return footprint.least(c, shape, num_stages, c["optim"]["batch_size"] if known is None else known)


def _refuse_precisions_of_other_devices(c: dict[str, Any]) -> None:
    if c["trainer"]["precision"] == "16-mixed" and c["trainer"]["accelerator"] == "cpu":
        raise UserError(
            "trainer.precision=16-mixed needs a GPU, and trainer.accelerator is cpu; leave one of them out, or type "
            "trainer.precision=bf16-mixed"
        )


# over values that were checked one by one
RULES: tuple[Callable[[dict[str, Any]], None], ...] = (
    _answer_content,
    _agree_on_shift_and_flip,
    _refuse_augmentation_of_other_data,
    _refuse_an_encoding_of_other_data,
    _resolve_num_steps,
    _drop_what_has_no_effect,
    _drop_patience_that_outlasts_training,
    _refuse_depths,
    _refuse_psp_of_signs,
    _refuse_blocks_without_spikes,
    _refuse_placements,
    _refuse_idle_inits,
    _refuse_outlasted_steps,
    _refuse_idle_width_schedules,
    _refuse_idle_losses,
    _refuse_what_the_schedule_overrides,
    _refuse_unreadable_teachers,
    _refuse_predictions_without_a_test,
    _refuse_idle_devices,
    _refuse_seeds_that_cannot_be_vectorized,
    _refuse_what_cannot_be_compiled,
    _refuse_groups_that_do_not_divide,
    _refuse_a_variance_of_one_value,
    _refuse_parts_without_every_class,
    _refuse_shifts_beyond_the_image,
    _refuse_what_no_machine_holds,
    _refuse_shares_without_a_sample,
    _refuse_precisions_of_other_devices,
)
