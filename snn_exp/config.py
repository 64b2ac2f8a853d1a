"""One experiment as data: typed, resolved, validated, never mutated; and its identity.

A composed config (plain dicts) becomes an `ExperimentConfig`. What says `auto` or null is resolved,
what has no effect becomes `none`, what cannot work is refused in one sentence. No torch, no Hydra.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Unit

from snn_exp import menu
from snn_exp.errors import UserError, unknown
from snn_exp.registry import Count, Option, Parameter, PartConfig, Scalar, parameters_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """How deep the network is.

    Args:
        num_layers: weight layers of the longest path.
    """

    num_layers: Count = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long, how precisely and where a run trains.

    Args:
        max_epochs: passes over the training set.
        precision: of the computation, as in pytorch-lightning.
        accelerator: cpu, gpu or auto.
        devices: number of devices, GPUs or processes on a CPU; each takes its share of every batch.
        strategy: ddp (distributed data parallel), or auto, which is ddp for several devices.
        num_threads: threads of torch on a CPU, a process; one is fastest for small networks and repeats exactly.
        test: read the test set once training is done.
        progress: show a live bar or a line an epoch.
        checkpoint_activations: keep only what goes into each block or layer and compute the rest again in the
            backward pass: less memory, more time, the same result.
        kernels: what computes norms and neurons: the plain path (reference), one pass over the data (fused; C++ on
            a CPU, Triton on a GPU), or that where it can be and is known to pay (auto). Results differ by rounding.
        channels_last: maps lie position by position and not channel by channel, which is faster or slower by the
            machine and the shapes; results differ by rounding.
        compile: training batches go through torch.compile, which takes a while before the first and less for each
            one after, and computes on the plain path; results differ by rounding.
        vectorized_seeds: runs of a multirun that differ in their seed only train as one network of all, each a run
            like any other; results differ by rounding.
    """

    max_epochs: Count = 12
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["cpu", "gpu", "auto"] = "auto"
    devices: Count = 1
    strategy: Literal["auto", "ddp"] = "auto"
    num_threads: Count = 1
    test: bool = True
    progress: bool = True
    checkpoint_activations: bool = False
    kernels: Literal["auto", "reference", "fused"] = "auto"
    channels_last: bool = False
    compile: bool = False
    vectorized_seeds: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggerConfig:
    """What logs a run besides metrics.csv.

    Args:
        name: wandb or none.
        project: the W&B project.
        group: what W&B lists it under; the experiment, the study or the sweep if left out.
    """

    name: Literal["wandb", "none"] = "wandb"
    project: str = "snn_exp"
    group: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnergyConfig:
    """What an operation costs, when counts are printed as energy; `report.energy_pj` has the equation.

    Args:
        name: what the profile is called where its constants are printed.
        mac_pj: a multiplication and its addition.
        ac_pj: an addition.
        xnor_fj: a multiplication and its addition of two signs; binary accelerators report 10 to 35.
        weight_pj: reading a 32-bit weight; 0 here and in state_pj is compute only, without memory traffic.
        state_pj: reading or writing a 32-bit accumulator or state.
    """

    name: str = "h45_fp32"
    mac_pj: Annotated[float, Gt(0), Unit("pJ")] = 4.6
    ac_pj: Annotated[float, Gt(0), Unit("pJ")] = 0.9
    xnor_fj: Annotated[float, Gt(0), Unit("fJ")] = 20.0
    weight_pj: Annotated[float, Ge(0), Unit("pJ")] = 0.0
    state_pj: Annotated[float, Ge(0), Unit("pJ")] = 0.0


SETTINGS: dict[str, type] = {
    "depth": DepthConfig,
    "trainer": TrainerConfig,
    "logger": LoggerConfig,
    "energy": EnergyConfig,
}
GROUPS = (*list(menu.REGISTRIES)[:3], "depth", *list(menu.REGISTRIES)[3:], "trainer", "logger", "energy")

RUN_ID = re.compile("[0-9a-f]{10}")
KEYS = ("seed", "teacher", "experiment")  # beside the groups

# What decides nothing about a result: a name, where it is logged, how it is priced.
ASIDE = ("logger", "energy", "experiment")

# Part of how a run is done and not of what comes out; recorded as `execution`, left out of the identity.
EXECUTION = {
    "trainer": (
        "accelerator",
        "devices",
        "strategy",
        "num_threads",
        "test",
        "progress",
        "checkpoint_activations",
        "kernels",
        "channels_last",
        "compile",
        "vectorized_seeds",
    )
}

# What every option of a group has, and so goes with `auto`.
SHARED = {"encoding": ("num_steps",)}

# The value of a later field that reproduces the behaviour before it: with it, run ids stay as they were.
NEUTRAL: dict[str, Scalar] = {
    "optim.adamw.rate_penalty": 0.0,
    "optim.sgd.rate_penalty": 0.0,
    "residual.pre.stream_decay": 1.0,
    "residual.pre.activation": "none",
    "residual.bireal.activation": "none",
    "optim.adamw.width_schedule": "constant",
    "optim.adamw.width_end": 1.0,
    "optim.sgd.width_schedule": "constant",
    "optim.sgd.width_end": 1.0,
    "optim.adamw.teacher_weight": 0.5,
    "optim.adamw.teacher_temperature": 4.0,
    "optim.sgd.teacher_weight": 0.5,
    "optim.sgd.teacher_temperature": 4.0,
}


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides a run, resolved. The parts are {"name": ..., parameter: value}."""

    dataset: PartConfig
    encoding: PartConfig
    network: PartConfig
    depth: DepthConfig
    residual: PartConfig
    neuron: PartConfig
    surrogate: PartConfig
    synapse: PartConfig
    norm: PartConfig
    weight_norm: PartConfig
    weight_quant: PartConfig
    optim: PartConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    energy: EnergyConfig
    seed: int
    experiment: str | None = None
    teacher: str | None = None  # a run id; overrides until `compose` has answered them

    @property
    def num_steps(self) -> int:
        """T, resolved."""
        return int(self.encoding["num_steps"])  # type: ignore[arg-type]

    @property
    def run_id(self) -> str:
        """10 hex digits that name the run: the same wherever and whenever it is asked for."""
        canonical = json.dumps(identity(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]

    @property
    def label(self) -> str:
        """A run in a few words.

        Example:
            >>> from snn_exp.compose import compose
            >>> compose(["neuron=s2nn", "depth=d20", "seed=3"]).label
            's2nn+bn pre d20 digits seed=3'
        """
        return (
            f"{self.neuron['name']}+{self.norm['name']} {self.residual['name']} d{self.depth.num_layers} "
            f"{self.dataset['name']} seed={self.seed}"
        )

    def to_plain(self) -> dict[str, Any]:
        """Plain dicts, as stored in a run's manifest; `resolve` reads them back."""
        return {
            field.name: _plain(value) for field in dataclasses.fields(self) for value in [getattr(self, field.name)]
        }


def _plain(value: Any) -> Any:
    if isinstance(value, DepthConfig | TrainerConfig | LoggerConfig | EnergyConfig):
        return dataclasses.asdict(value)
    return dict(value) if isinstance(value, Mapping) else value


def identity(config: ExperimentConfig) -> dict[str, Any]:
    """What the run id is the hash of: all that decides the result, with the parts' versions."""
    plain = config.to_plain()
    for group in ASIDE:
        del plain[group]
    if plain["teacher"] is None:
        del plain["teacher"]
    for group, fields in EXECUTION.items():
        plain[group] = {key: value for key, value in plain[group].items() if key not in fields}
    for group, options in menu.load().items():
        name = plain[group]["name"]
        plain[group] = {
            key: value
            for key, value in plain[group].items()
            if f"{group}.{name}.{key}" not in NEUTRAL or NEUTRAL[f"{group}.{name}.{key}"] != value
        }
        plain[group]["version"] = options[name].version
    return plain


def execution(config: ExperimentConfig) -> dict[str, Any]:
    """How the run is done: recorded, not part of the identity."""
    plain = config.to_plain()
    return {group: {key: plain[group][key] for key in fields} for group, fields in EXECUTION.items()}


def resolve(composed: Mapping[str, Any]) -> ExperimentConfig:
    """A composed config, checked and with every `auto` and null answered.

    Args:
        composed: group -> {"name": ..., parameter: value}, and seed.

    Raises:
        UserError: an unknown group, key or name; a value out of its range; parts that don't fit together.

    Example:
        >>> from snn_exp.compose import compose
        >>> compose(["neuron=s2nn", "depth=d20"]).num_steps
        1
    """
    # what decides nothing may be missing, as it is from a config stored before there was such a group
    c: dict[str, Any] = {group: {} for group in ASIDE if group in SETTINGS}
    c |= {key: _plain(value) for key, value in composed.items()}
    for key in c:
        if key not in (*GROUPS, *KEYS):
            raise unknown("group or key", key, (*GROUPS, *KEYS), "{}=...")
    for rule in _RULES_BEFORE_CHECK:
        rule(c)
    for group in GROUPS:
        c[group] = _checked_group(group, c[group])
    seed = c["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"seed={seed} is not allowed: seed must be an int >= 0; the default is seed=0")
    for rule in _RULES:
        rule(c)
    settings = {group: cls(**c[group]) for group, cls in SETTINGS.items()}
    return ExperimentConfig(**{**c, **settings})


def _checked_group(group: str, given: Any) -> dict[str, Scalar]:
    """Known keys only, every value in its type and range, defaults filled in."""
    if not isinstance(given, Mapping):
        raise UserError(f"{group}={given} is not allowed: choose an option, such as {group}={_first(group)}")
    if group in SETTINGS:
        parameters, head = _settings(group), {}
    else:
        options = menu.load()[group]
        name = str(given.get("name"))
        if name not in options:
            raise unknown(group, name, options, f"{group}={{}}")
        parameters, head = options[name].parameters, {"name": name}
    known = {p.name: p for p in parameters}
    for key in given:
        if key not in known and key not in head:
            owner = f"{group}={head['name']}" if head else group
            raise unknown(f"key of {owner}", key, known, f"{group}.{{}}=...")
    return head | {p.name: p.checked(given.get(p.name, p.default), f"{group}.") for p in parameters}


@functools.cache
def _settings(group: str) -> tuple[Parameter, ...]:
    return parameters_of(SETTINGS[group])


def _first(group: str) -> str:
    return next(iter(menu.load().get(group, {"default": None})))


def _option(c: dict[str, Any], group: str) -> Option:
    return menu.load()[group][c[group]["name"]]


def _trait(c: dict[str, Any], group: str, trait: str) -> Any:
    return _option(c, group).traits[trait]


def _defaults(group: str, name: str) -> dict[str, Scalar]:
    option = menu.load()[group][name]
    return {"name": name} | {p.name: p.default for p in option.parameters}


# Rules that answer `auto`: they run first, since `auto` is on no list.


def _resolve_auto(c: dict[str, Any]) -> None:
    for group in ("neuron", "dataset"):
        if not isinstance(c[group], dict) or c[group].get("name") not in menu.load()[group]:
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
            extra = [key for key in c[group] if key != "name" and key not in shared]
            if extra:
                raise UserError(
                    f"{group}.{extra[0]} does not go with {group}=auto, which is {answer} here; "
                    f"type {group}={answer} {group}.{extra[0]}=..."
                )
            c[group] = _defaults(group, answer) | shared


def _refuse_an_incomplete_profile(c: dict[str, Any]) -> None:
    """A default in the place of a constant that a profile forgets would price it as another one."""
    given = c["energy"]
    if not isinstance(given, dict) or not given:
        return  # the check that follows says so; a config stored before there was such a group has none
    names = [p.name for p in _settings("energy")]
    memory = {"weight_pj", "state_pj"}
    for name in names if given.keys() & memory else [n for n in names if n not in memory]:
        if name not in given:
            raise UserError(
                f"the energy profile {given.get('name', 'without a name')} lacks {name}, and a profile must say "
                f"{', '.join(names[:-2])}, and {' and '.join(names[-2:])} both or neither; type energy.{name}=..., or "
                f"{name}: ... in its YAML file"
            )


# Rules over checked values: what resolves, what has no effect, what is refused.


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
        c["encoding"]["num_steps"] = 1 if single_step else 4
    elif single_step and num_steps != 1:
        raise UserError(
            f"encoding.num_steps={num_steps} does not go with neuron={neuron}, which has a single step; "
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


_EMITTED = {"signs": "-1 and +1", "real": "real values"}


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
            f"norm={norm} stands on the membrane and neuron={neuron} has none that lasts from step to step; type "
            f"norm=bn, or choose a neuron with a membrane such as neuron=lif"
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


def _refuse_unreadable_teachers(c: dict[str, Any]) -> None:
    teacher = c.get("teacher")
    if teacher is not None and not (isinstance(teacher, str) and ("=" in teacher or RUN_ID.fullmatch(teacher))):
        raise UserError(
            f"teacher={teacher} is neither a run id, which has 10 hex digits, nor overrides; type teacher=0123456789, "
            f"or teacher='method=relu_bn depth=d20'"
        )
    for key in ("teacher_weight", "teacher_temperature"):
        if teacher is None and c["optim"][key] != _defaults("optim", c["optim"]["name"])[key]:
            raise UserError(f"optim.{key} does nothing without a teacher; type teacher=RUN_ID as well, or leave it out")


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
        f"optim.rate_penalty={optim['rate_penalty']:g}": optim["rate_penalty"] > 0,
        f"optim.width_schedule={optim['width_schedule']}": optim["width_schedule"] != "constant",
    }
    _refuse_beside("trainer.compile=true, which compiles the plain path of one process once", refused)


def _refuse_beside(asked: str, refused: Mapping[str, bool]) -> None:
    for what, is_so in refused.items():
        if is_so:
            raise UserError(f"{what} does not go with {asked}; leave one of the two out")


_RULES_BEFORE_CHECK: tuple[Callable[[dict[str, Any]], None], ...] = (_resolve_auto, _refuse_an_incomplete_profile)
_RULES: tuple[Callable[[dict[str, Any]], None], ...] = (
    _refuse_an_encoding_of_other_data,
    _resolve_num_steps,
    _drop_what_has_no_effect,
    _refuse_depths,
    _refuse_psp_of_signs,
    _refuse_blocks_without_spikes,
    _refuse_placements,
    _refuse_outlasted_steps,
    _refuse_idle_width_schedules,
    _refuse_unreadable_teachers,
    _refuse_idle_devices,
    _refuse_seeds_that_cannot_be_vectorized,
    _refuse_what_cannot_be_compiled,
)
