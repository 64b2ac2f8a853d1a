"""Constraints between choices, in the order in which they are applied: what cannot work together is refused.

A rule reads and changes a composed config, group -> {"name": ..., parameter: value}. It refuses with a sentence that
says what to type instead, and comes after those whose answers it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from snn_exp.config.resolving import (
    agree_on_shift_and_flip,
    answer_content,
    drop_patience_that_outlasts_training,
    drop_what_has_no_effect,
    own_augment,
    resolve_num_steps,
)
from snn_exp.config.schemas import defaults_of, trait_of
from snn_exp.config.sizes import (
    refuse_a_variance_of_one_value,
    refuse_groups_that_do_not_divide,
    refuse_parts_without_every_class,
    refuse_shares_without_a_sample,
    refuse_shifts_beyond_the_image,
    refuse_steps_that_the_data_cannot_have,
    refuse_what_no_machine_holds,
    sample_shape,
)
from snn_exp.errors import UserError
from snn_exp.registry import shown

RUN_ID = re.compile("[0-9a-f]{10}")


def _refuse_augmentation_of_other_data(c: dict[str, Any]) -> None:
    augment, dataset = c["augment"], c["dataset"]["name"]
    name, is_own = augment["name"], augment == own_augment(c["dataset"])
    if trait_of(c, "augment", "reads_images_only") and trait_of(c, "dataset", "has_time") and not is_own:
        raise UserError(
            f"augment={name} changes images, and the samples of dataset={dataset} have time, in which a change may be "
            f"the class; leave augment out, or type augment=shift or augment=none"
        )
    channels, shape = trait_of(c, "augment", "channels"), sample_shape(c)
    if channels and shape is not None and shape[0] not in channels:
        raise UserError(
            f"augment={name} reads images of {' or '.join(map(str, channels))} channels, and those of "
            f"dataset={dataset} have {shape[0]}; leave augment out, or type augment=shift"
        )


def _refuse_augmentation_of_series(c: dict[str, Any]) -> None:
    if trait_of(c, "dataset", "is_series") and (name := c["augment"]["name"]) != "none":
        raise UserError(
            f"augment={name} moves or changes pixels, and the samples of dataset={c['dataset']['name']} are series, "
            f"which have none; leave augment out, or type augment=none"
        )


def _refuse_an_encoding_of_other_data(c: dict[str, Any]) -> None:
    dataset, encoding = c["dataset"]["name"], c["encoding"]["name"]
    if trait_of(c, "dataset", "has_time") and not trait_of(c, "encoding", "has_time"):
        raise UserError(
            f"encoding={encoding} makes steps out of images, and the samples of dataset={dataset} have time already; "
            f"leave encoding out, or type encoding=frames"
        )
    if trait_of(c, "encoding", "has_time") and not trait_of(c, "dataset", "has_time"):
        raise UserError(
            f"encoding={encoding} reads samples with time, and dataset={dataset} has images; leave encoding out, or "
            f"choose data with time such as dataset=digits_dvs"
        )


def _refuse_depths(c: dict[str, Any]) -> None:
    step, offset = trait_of(c, "network", "layers_step"), trait_of(c, "network", "layers_offset")
    num_layers, network = c["depth"]["num_layers"], c["network"]["name"]
    n = max(1, round((num_layers - offset) / step))
    if num_layers != offset + n * step:
        form = f"{step}n + {offset}" if step > 1 else f"at least {offset + 1}"
        raise UserError(
            f"depth={num_layers} is not a depth of network={network}, which has {form} layers; the nearest "
            f"is {offset + n * step}: type depth=d{offset + n * step}"
        )


def _refuse_psp_of_signs(c: dict[str, Any]) -> None:
    if c["norm"]["name"] == "psp" and trait_of(c, "neuron", "emits") == "signs":
        raise UserError(
            f"norm=psp does nothing with neuron={c['neuron']['name']}: the second moment of -1 and +1 is 1; "
            f"type norm=bn"
        )


def _refuse_idle_inits(c: dict[str, Any]) -> None:
    """Refuse an initialisation whose work another part undoes or has done before."""
    init, norm, neuron = c["init"]["name"], c["norm"]["name"], c["neuron"]["name"]
    emits = trait_of(c, "neuron", "emits")
    if init == "psp" and "psp" in trait_of(c, "norm", "placements"):
        raise UserError(
            f"init=psp divides the weights by the moments that norm={norm} divides by, so at the first step the "
            f"network is the same with it and without; type norm=none with init=psp, or leave init out"
        )
    if init == "psp" and emits == "signs":
        raise UserError(
            f"init=psp does nothing with neuron={neuron}: the second moment of -1 and +1 is 1; leave init out, or type "
            f"init=lsuv"
        )
    if not trait_of(c, "init", "sets_weights"):
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
    if trait_of(c, "init", "for_spikes"):
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
    emits, neuron, residual = trait_of(c, "neuron", "emits"), c["neuron"]["name"], c["residual"]["name"]
    if trait_of(c, "residual", "needs_spikes") and emits != "spikes":
        raise UserError(
            f"residual={residual} combines spikes and neuron={neuron} emits {_EMITTED[emits]}; type residual=bireal, "
            f"or a neuron that spikes such as neuron=lif"
        )


def _refuse_placements(c: dict[str, Any]) -> None:
    norm, neuron = c["norm"]["name"], c["neuron"]["name"]
    placements, emits = trait_of(c, "norm", "placements"), trait_of(c, "neuron", "emits")
    if "membrane" in placements and not trait_of(c, "neuron", "has_membrane"):
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
    optim, defaults = c["optim"], defaults_of("optim", c["optim"]["name"])
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
    optim, defaults = c["optim"], defaults_of("optim", c["optim"]["name"])
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
        if teacher is None and c["optim"][key] != defaults_of("optim", c["optim"]["name"])[key]:
            raise UserError(f"optim.{key} does nothing without a teacher; type teacher=RUN_ID as well, or leave it out")


def _refuse_predictions_without_a_test(c: dict[str, Any]) -> None:
    if c["trainer"]["keep_predictions"] and not c["trainer"]["test"]:
        raise UserError(
            "trainer.keep_predictions=true stores predictions of the test set, and trainer.test=false does not "
            "read it; leave one of them out"
        )


def _refuse_peeking_where_it_cannot_be(c: dict[str, Any]) -> None:
    trainer = c["trainer"]
    if not trainer["peek"]:
        return
    if not trainer["test"]:
        raise UserError(
            "trainer.peek=true reads the test set after every epoch, and trainer.test=false never does; leave one of "
            "them out"
        )
    for key, value in (("devices", trainer["devices"] > 1), ("vectorized_seeds", trainer["vectorized_seeds"])):
        if value:
            raise UserError(
                f"trainer.peek=true is for a run that trains alone, and trainer.{key} says otherwise; leave one of "
                f"them out"
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
        f"trainer.kernels={trainer['kernels']}": trainer["kernels"] in ("fused", "events"),
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


def _refuse_precisions_of_other_devices(c: dict[str, Any]) -> None:
    if c["trainer"]["precision"] == "16-mixed" and c["trainer"]["accelerator"] == "cpu":
        raise UserError(
            "trainer.precision=16-mixed needs a GPU, and trainer.accelerator is cpu; leave one of them out, or type "
            "trainer.precision=bf16-mixed"
        )


# over values that were checked one by one
RULES: tuple[Callable[[dict[str, Any]], None], ...] = (
    answer_content,
    _refuse_augmentation_of_series,
    agree_on_shift_and_flip,
    _refuse_augmentation_of_other_data,
    _refuse_an_encoding_of_other_data,
    resolve_num_steps,
    refuse_steps_that_the_data_cannot_have,
    drop_what_has_no_effect,
    drop_patience_that_outlasts_training,
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
    _refuse_peeking_where_it_cannot_be,
    _refuse_idle_devices,
    _refuse_seeds_that_cannot_be_vectorized,
    _refuse_what_cannot_be_compiled,
    refuse_groups_that_do_not_divide,
    refuse_a_variance_of_one_value,
    refuse_parts_without_every_class,
    refuse_shifts_beyond_the_image,
    refuse_what_no_machine_holds,
    refuse_shares_without_a_sample,
    _refuse_precisions_of_other_devices,
)
