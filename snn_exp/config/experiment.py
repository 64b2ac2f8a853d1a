"""One experiment as data: typed, resolved, validated, never mutated; and its identity.

A composed config (plain dicts) becomes an `ExperimentConfig`. `auto` and null are resolved, parts without
effect become `none`, and a config that cannot work is refused in one sentence. No torch, no Hydra.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Unit

from snn_exp.config import constraints, loggers, resolving, schemas
from snn_exp.errors import UserError, unknown
from snn_exp.registry import (
    MAX_SEED,
    Below,
    Count,
    Limit,
    Parameter,
    PartConfig,
    Scalar,
    parameters_of,
    require_constraints,
    shown,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """The depth of the network.

    Args:
        num_layers: weight layers of the longest path.
    """

    num_layers: Annotated[Count, Limit(10_000, "building the network alone takes minutes")] = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """The length, precision and device of training.

    Args:
        max_epochs: passes over the training set.
        patience: stop after so many epochs in a row without a better validation score, which selects the best epoch as
            well; null trains all epochs. Schedules are those of max_epochs.
        precision: of the computation, as in pytorch-lightning.
        accelerator: cpu, gpu or auto.
        devices: number of devices, GPUs or processes on a CPU; each takes its share of every batch.
        strategy: ddp (distributed data parallel), or auto, which is ddp for several devices.
        num_threads: CPU threads of torch per process; one is fastest for small networks and repeats exactly. Auto: two
            where a layer has work for them and the process has the cores.
        test: read the test set once training is done.
        peek: read the test set after every epoch as well, to learn what choosing the best epoch by it would be worth;
            weights stay the same, and the run is another run, which no claim and no comparison with others takes.
        keep_predictions: store logits and labels of the test set in test_predictions.npz.
        progress: show a live bar, or one line per epoch.
        checkpoint_activations: keep only the input of each block or layer and recompute the rest in the
            backward pass: less memory, more time, the same result.
        kernels: implementation of norms and neurons: the plain path (reference), one pass over the data (fused; C++ on
            a CPU, Triton on a GPU), or fused where it is supported and known to pay (auto). Events: fused, and
            convolutions of spikes that add only where a spike is (on a CPU), in the channels-last memory format.
            Results differ by rounding.
        channels_last: use the channels-last memory format, which is faster or slower depending on the
            machine and the shapes; results differ by rounding. Auto: where it was measured to be faster.
        compile: run training batches through torch.compile, which takes a while before the first and less for each
            one after, and computes on the plain path; results differ by rounding.
        checkpoint_every_minutes: time between two checkpoints within an epoch, from which an interrupted run resumes;
            there is one at the end of every epoch besides.
        vectorized_seeds: train runs of a multirun that differ only in their seed as one vectorized network, each a run
            like any other; results differ by rounding.
    """

    max_epochs: Annotated[Count, Limit(100_000, "the smallest run takes days")] = 12
    patience: Annotated[Count, Limit(100_000, "the smallest run takes days")] | None = None
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["cpu", "gpu", "auto"] = "auto"
    devices: Annotated[Count, Limit(64, "no machine has as many, and a run stays on one machine")] = 1
    strategy: Literal["auto", "ddp"] = "auto"
    num_threads: (
        Annotated[Count, Limit(1024, "OpenMP ends the process; more threads than cores only wait")] | Literal["auto"]
    ) = 1
    test: bool = True
    peek: bool = False
    keep_predictions: bool = False
    progress: bool = True
    checkpoint_activations: bool = False
    kernels: Literal["auto", "reference", "fused", "events"] = "auto"
    channels_last: bool | Literal["auto"] = False
    compile: bool = False
    checkpoint_every_minutes: Annotated[float, Gt(0), Unit("min")] = 5.0
    vectorized_seeds: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggerConfig:
    """The logger of a run, in addition to metrics.csv.

    Args:
        name: csv, wandb, tensorboard, mlflow or trackio; several as logger=[tensorboard,wandb], which is stored as
            tensorboard+wandb. csv adds nothing: every run writes metrics.csv; none is another word for it.
        project: the project, or experiment, that trackers keep it in.
        group: the group that trackers list it under; the experiment, the study or the sweep if left out.
    """

    name: str = "csv"
    project: str = "snn_exp"
    group: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnergyConfig:
    """The cost of an operation, when counts are printed as energy; `energy.energy_pj` has the equation.

    Args:
        name: name of the profile, printed with its constants.
        mac_pj: a multiplication and its addition.
        ac_pj: an addition.
        xnor_fj: a multiplication and its addition of two signs; binary accelerators report 10 to 35.
        weight_pj: reading a 32-bit weight; 0 here and in state_pj is compute only, without memory traffic.
        state_pj: reading or writing a 32-bit accumulator or state.
        word_bits: of the numbers that mac_pj and ac_pj are of; read by the three energies alone, as the next three
            (metrics/data_movement.py), which a profile has all or none of.
        weight_bit_pj: moving a bit of a weight; 0 here and in bit_pj is without data movement.
        bit_pj: moving a bit of a state, a stream or an activation.
        compare_pj: a comparison of a membrane with a threshold.
    """

    name: str = "h45_fp32"
    mac_pj: Annotated[float, Gt(0), Unit("pJ")] = 4.6
    ac_pj: Annotated[float, Gt(0), Unit("pJ")] = 0.9
    xnor_fj: Annotated[float, Gt(0), Unit("fJ")] = 20.0
    weight_pj: Annotated[float, Ge(0), Unit("pJ")] = 0.0
    state_pj: Annotated[float, Ge(0), Unit("pJ")] = 0.0
    word_bits: Annotated[int, Ge(2), Limit(64, "no accelerator has such words"), Unit("bits")] = 32
    weight_bit_pj: Annotated[float, Ge(0), Unit("pJ")] = 0.0
    bit_pj: Annotated[float, Ge(0), Unit("pJ")] = 0.0
    compare_pj: Annotated[float, Ge(0), Unit("pJ")] = 0.0


MEMORY_PRICES = ("weight_pj", "state_pj")
MOVEMENT_PRICES = ("word_bits", "weight_bit_pj", "bit_pj", "compare_pj")


SETTINGS: dict[str, type] = {
    "depth": DepthConfig,
    "trainer": TrainerConfig,
    "logger": LoggerConfig,
    "energy": EnergyConfig,
}
GROUPS = (*list(schemas.REGISTRIES)[:4], "depth", *list(schemas.REGISTRIES)[4:], "trainer", "logger", "energy")

RUN_KEYS = ("teacher", "init_from")  # name another run: its id, or overrides until `compose` has answered them
KEYS = ("seed", *RUN_KEYS, "experiment")  # besides the groups

_SEED = Parameter("seed", "int", 0, ge=0, limit=MAX_SEED.most, because=MAX_SEED.because)

# Fields that do not affect a result: names, logging, energy profiles.
ASIDE = ("logger", "energy", "experiment")

# How a run is executed, not what comes out; recorded as `execution`, left out of the identity.
EXECUTION = {
    "dataset": ("path", "memory_mib"),
    "trainer": (
        "accelerator",
        "devices",
        "strategy",
        "num_threads",
        "test",
        "keep_predictions",
        "progress",
        "checkpoint_activations",
        "kernels",
        "channels_last",
        "compile",
        "checkpoint_every_minutes",
        "vectorized_seeds",
    ),
}

# The choice of a later group that reproduces the behaviour before it: it is neither stored nor part of the identity.
NEUTRAL_GROUPS: dict[str, dict[str, Scalar]] = {"init": {"name": "kaiming"}}

# The value of a later field that reproduces the behaviour before it: with it, run ids stay as they were.
# group.option.parameter, or group.*.parameter for all options.
NEUTRAL: dict[str, Scalar] = {
    "dataset.*.num_train": None,
    "trainer.*.patience": None,
    "trainer.*.peek": False,
    "optim.*.loss": "ce",
    "optim.*.tet_weight": 0.05,
    "optim.*.tet_target": 1.0,
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
    augment: PartConfig
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
    init: PartConfig
    optim: PartConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    energy: EnergyConfig
    seed: int
    experiment: str | None = None
    teacher: str | None = None  # a run id; overrides until `compose` has answered them
    init_from: str | None = None  # likewise

    @property
    def num_steps(self) -> int:
        """Number of time steps T, resolved."""
        return int(self.encoding["num_steps"])  # type: ignore[arg-type]

    @property
    def run_id(self) -> str:
        """10 hex digits that name the run: the same wherever and whenever it is asked for."""
        canonical = json.dumps(identity(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]

    @property
    def label(self) -> str:
        """Return the run in a few words.

        Example:
            >>> from snn_exp.config.compose import compose
            >>> compose(["neuron=s2nn", "depth=d20", "seed=3"]).label
            's2nn+bn pre d20 digits seed=3'
        """
        return (
            f"{self.neuron['name']}+{self.norm['name']} {self.residual['name']} d{self.depth.num_layers} "
            f"{self.dataset['name']} seed={self.seed}"
        )

    def to_plain(self) -> dict[str, Any]:
        """Plain dicts, as stored in a run's manifest; `resolve` reads them back.

        What the data set's own fields say of the augmentation is left to them, as it was before there was a group; a
        later group is left out where its choice is the neutral one.
        """
        plain = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        if self.augment == resolving.own_augment(self.dataset):
            del plain["augment"]
        for group, neutral in NEUTRAL_GROUPS.items():
            if plain[group] == neutral:
                del plain[group]
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, DepthConfig | TrainerConfig | LoggerConfig | EnergyConfig):
        return dataclasses.asdict(value)
    return dict(value) if isinstance(value, Mapping) else value


def identity(config: ExperimentConfig) -> dict[str, Any]:
    """Return what the run id hashes: everything that decides the result, with the parts' versions."""
    plain = config.to_plain()
    for group in ASIDE:
        del plain[group]
    for key in RUN_KEYS:
        if plain[key] is None:
            del plain[key]
    for group, fields in EXECUTION.items():
        plain[group] = {
            key: value
            for key, value in plain[group].items()
            if key not in fields and not _is_neutral(group, "*", key, value)
        }
    for group, options in schemas.load().items():
        if group not in plain:  # an augmentation that is the data set's own, a neutral choice
            continue
        name = plain[group]["name"]
        plain[group] = {key: value for key, value in plain[group].items() if not _is_neutral(group, name, key, value)}
        plain[group]["version"] = options[name].version
    return plain


def _is_neutral(group: str, name: str, key: str, value: Scalar) -> bool:
    """Return whether a value reproduces the behaviour before there was such a parameter."""
    known = (f"{group}.{name}.{key}", f"{group}.*.{key}")
    return any(each in NEUTRAL and NEUTRAL[each] == value for each in known)


def execution(config: ExperimentConfig) -> dict[str, Any]:
    """Return how the run is executed: recorded, not part of the identity."""
    plain = config.to_plain()
    return {
        group: found
        for group, fields in EXECUTION.items()
        if (found := {key: plain[group][key] for key in fields if key in plain[group]})
    }


def resolve(composed: Mapping[str, Any]) -> ExperimentConfig:
    """Check a composed config and resolve every `auto` and null.

    Args:
        composed: group -> {"name": ..., parameter: value}, and seed.

    Raises:
        UserError: an unknown group, key or name; a value out of its range; parts that don't fit together.

    Example:
        >>> from snn_exp.config.compose import compose
        >>> compose(["neuron=s2nn", "depth=d20"]).num_steps
        1
    """
    # what decides nothing may be missing, as it is from a config stored before there was such a group
    c: dict[str, Any] = {group: {} for group in ASIDE if group in SETTINGS}
    c |= {"augment": {"name": "auto"}, **{group: dict(neutral) for group, neutral in NEUTRAL_GROUPS.items()}}
    c |= {key: _plain(value) for key, value in composed.items()}
    for key in c:
        if key not in (*GROUPS, *KEYS):
            raise unknown("group or key", key, (*GROUPS, *KEYS), "{}=...")
    for key in (*GROUPS, "seed"):  # a file may stand where a group's own would, and hold something else
        if key not in c:
            choice = "seed=0" if key == "seed" else f"{key}={_first(key)}"
            raise UserError(f"the config has no {key}; choose one, such as {choice}")
    resolving.answer_auto(c)
    _refuse_an_incomplete_profile(c)
    for group in GROUPS:
        if group == "augment":  # the data set's values, which are the answer, are checked now
            resolving.answer_auto_augment(c)
        c[group] = _checked_group(group, c[group])
    c["seed"] = _SEED.checked(c["seed"])
    loggers.trackers_of(c["logger"]["name"])
    for rule in constraints.RULES:
        rule(c)
    settings = {group: cls(**c[group]) for group, cls in SETTINGS.items()}
    return ExperimentConfig(**{**c, **settings})


def _checked_group(group: str, given: Any) -> dict[str, Scalar]:
    """Check a group's keys, types and ranges, and fill in defaults."""
    if not isinstance(given, Mapping):
        raise UserError(f"{group}={shown(given)} is not allowed: choose an option, such as {group}={_first(group)}")
    constraints: tuple[Below, ...] = ()
    if group in SETTINGS:
        parameters, head = _settings(group), {}
    else:
        options = schemas.load()[group]
        name = str(given.get("name"))
        if name not in options:
            raise unknown(group, name, options, f"{group}={{}}")
        parameters, head, constraints = options[name].parameters, {"name": name}, options[name].constraints
    known = {p.name: p for p in parameters}
    for key in given:
        if key not in known and key not in head:
            owner = f"{group}={head['name']}" if head else group
            raise unknown(f"key of {owner}", key, known, f"{group}.{{}}=...")
    where = f"{group}."
    checked = {p.name: p.checked(given.get(p.name, p.default), where) for p in parameters}
    for p in parameters:
        p.require_a_float32(checked[p.name], where)
    require_constraints(constraints, checked, where)
    return head | checked


@functools.cache
def _settings(group: str) -> tuple[Parameter, ...]:
    return parameters_of(SETTINGS[group])


def _first(group: str) -> str:
    return next(iter(schemas.load().get(group, {"default": None})))


def _refuse_an_incomplete_profile(c: dict[str, Any]) -> None:
    """Refuse an energy profile that lacks a constant: a default there would give it another profile's price."""
    given = c["energy"]
    if not isinstance(given, dict) or not given:
        return  # the check that follows says so; a config stored before there was such a group has none
    names = [p.name for p in _settings("energy")]
    optional = [MEMORY_PRICES, MOVEMENT_PRICES]
    unsaid = {name for names_of in optional if not given.keys() & set(names_of) for name in names_of}
    for name in names:
        if name not in given and name not in unsaid:
            raise UserError(
                f"the energy profile {given.get('name', 'without a name')} lacks {name}, and a profile must say "
                f"{', '.join(n for n in names if n not in (*MEMORY_PRICES, *MOVEMENT_PRICES))}, "
                f"{' and '.join(MEMORY_PRICES)} both or neither, and {', '.join(MOVEMENT_PRICES)} all or none; type "
                f"energy.{name}=..., or {name}: ... in its YAML file"
            )
