"""Compose overrides into cells with Hydra, and check them before anything is trained or written.

A *cell* is one run of a sweep: its overrides, and either a resolved config or the sentence that
refuses it. Groups are composed by Hydra, once for each distinct choice; values are laid over them here,
so that a wrong one meets our checks and their messages.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import SearchPathElement
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from snn_exp.config import hydra_tree, interpolations, schemas
from snn_exp.config.config_files import COMMAND_LINE, BoundedLoader
from snn_exp.config.experiment import GROUPS, SETTINGS, ExperimentConfig, resolve
from snn_exp.config.overrides import (
    CONFIG_NAME,
    first_line,
    is_hydras,
    is_sweepers,
    is_value,
    last_of_each,
    normalized,
    parse_overrides,
    parsed_override,
    read_overrides,
    require_few,
    require_few_runs,
    text_of,
    with_params,
)
from snn_exp.errors import UserError
from snn_exp.registry import Parameter, parameters_of


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a sweep: `config` is None where `refusal` says why not."""

    overrides: tuple[str, ...]
    config: ExperimentConfig | None
    refusal: str = ""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The runs that a command line asks for.

    Args:
        cells: one, or those of a multirun, in Hydra's order.
        hydra_overrides: Hydra's own overrides, such as the launcher, and the experiment that may set it.
        multirun: more than a single run was asked for.
        axes: the overrides that vary between the cells, in order.
    """

    cells: tuple[Cell, ...]
    hydra_overrides: tuple[str, ...]
    multirun: bool
    axes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Space:
    """The search space of a search.

    Args:
        fixed: the overrides that all its runs have.
        axes: the overrides that leave a choice, such as optim.lr=interval(0.001,0.03).
        hydra_overrides: as in `Sweep`.
    """

    fixed: tuple[str, ...]
    axes: tuple[str, ...]
    hydra_overrides: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Launcher:
    """The launcher that starts the runs of a multirun.

    Args:
        name: as in hydra/launcher=NAME.
        settings: its own.
        folder: where it and Hydra put their files.
        overrides: overrides that choose and set it and the sweeper without the experiment or files that did.
        sweeper: the settings of the sweeper.
    """

    name: str
    settings: dict[str, Any]
    folder: str
    overrides: tuple[str, ...] = ()
    sweeper: dict[str, Any] = dataclasses.field(default_factory=dict)


def config_dir() -> Path:
    """Return the folder `configs`: beside the package in a checkout, inside it once installed."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "configs"
    return beside if (beside / f"{CONFIG_NAME}.yaml").exists() else package / "configs"


@functools.cache
def store_schemas() -> None:
    """Store a schema of every part in Hydra's ConfigStore, as schema/<group>/<name>."""
    store = ConfigStore.instance()
    for group, options in schemas.load().items():
        for name, option in options.items():
            _store_schema(store, group, name, option.parameters)
    for group, cls in SETTINGS.items():
        if group == "energy":
            continue  # a profile says all its constants, so there is nothing to take them from
        _store_schema(store, group, "default", parameters_of(cls))


def _store_schema(store: ConfigStore, group: str, name: str, parameters: Sequence[Parameter]) -> None:
    fields: list[tuple[str, Any, Any]] = [("name", str, name)] if group not in SETTINGS else []
    for p in parameters:
        kind, default = _hydra_type(p)
        fields.append((p.name, kind | None if p.optional else kind, default))
    node = dataclasses.make_dataclass(f"{group}_{name}", [(n, t, dataclasses.field(default=d)) for n, t, d in fields])
    store.store(group=f"schema/{group}", name=name, node=node)


def compose(overrides: Sequence[str], search: Sequence[str] = ()) -> ExperimentConfig:
    """Compose the config of one run.

    Raises:
        UserError: as `resolve` and `compose_cells`.

    Example:
        >>> compose(["neuron=lif", "norm=bn"]).norm["momentum"]
        0.1
    """
    (cell,) = compose_cells([overrides], search)
    if cell.config is None:
        raise UserError(cell.refusal)
    return cell.config


def read_command(arguments: Sequence[str], *, multirun: bool, search: Sequence[str] = ()) -> Sweep:
    """Compose and check all cells of a command line.

    Args:
        arguments: Hydra overrides.
        multirun: whether -m was given; an experiment may ask for it as well.
        search: further folders of configs.

    Raises:
        UserError: an override that cannot be read, an unknown group or option, a broken YAML file.
    """
    store_schemas()
    with hydra_on(search) as loader:
        overrides = read_overrides(arguments, loader)
        base = _compose_plain([o for o in overrides if not o.is_sweep_override()], with_hydra=True)
        hydra = base["hydra"]
        if (sweeper := hydra["runtime"]["choices"]["hydra/sweeper"]) != "basic":
            raise UserError(
                f"hydra/sweeper={sweeper} proposes its runs one after the other, so they cannot be checked in advance; "
                f"type snn-exp search with the same overrides"
            )
        multirun = multirun or hydra["mode"] == "MULTIRUN"
        if multirun:
            overrides = with_params(overrides, hydra, loader)
        elif sweeping := [o for o in overrides if o.is_sweep_override()]:
            raise UserError(f"{sweeping[0].input_line} is a sweep of several values; add -m to run each of them")
        composer = _Composer(search)
        require_few_runs(overrides)
        try:
            expanded = BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]
        except HydraException as error:  # such as interval(0,1)
            raise UserError(f"the sweep cannot be expanded: {first_line(error)}") from None
        if not multirun:
            composer.remember(tuple(expanded[0]), base)
        cells = composer.cells([tuple(cell) for cell in expanded])
    return Sweep(
        cells=_with_teachers(cells, search),
        hydra_overrides=tuple(text_of(o) for o in overrides if is_hydras(o)),
        multirun=multirun,
        axes=tuple(o.key_or_group for o in overrides if o.is_sweep_override()),
    )


def read_space(arguments: Sequence[str], search: Sequence[str] = ()) -> Space:
    """Return the search space of a command line, with the hydra.sweeper.params of its experiment.

    Args:
        arguments: Hydra overrides.
        search: further folders of configs.

    Raises:
        UserError: as `read_command`; nothing is left to choose; the experiment has another sweeper.

    Example:
        >>> read_space(["neuron=lif", "depth=8,20", "optim.lr=interval(0.001,0.03)"]).axes
        ('depth=d8,d20', 'optim.lr=interval(0.001,0.03)')
    """
    store_schemas()
    with hydra_on(search) as loader:
        overrides = read_overrides(arguments, loader)
        base = [o for o in overrides if not o.is_sweep_override() and not is_sweepers(o)]
        hydra = _compose_plain(base, with_hydra=True)["hydra"]
        if (sweeper := hydra["runtime"]["choices"]["hydra/sweeper"]) != "basic":
            raise UserError(
                f"the experiment chooses hydra/sweeper={sweeper}; leave that out of its file, which may hold "
                f"hydra.sweeper.params: snn-exp search brings the sweeper"
            )
        overrides = with_params(overrides, hydra, loader)
    ours = [o for o in overrides if not o.key_or_group.startswith("hydra")]
    axes = tuple(text_of(o) for o in ours if o.is_sweep_override())
    if not axes:
        raise UserError(
            "a search needs something to choose from; give values or a range, such as neuron=lif,plif or "
            "'optim.lr=interval(0.001,0.03)'"
        )
    return Space(
        fixed=tuple(text_of(o) for o in ours if not o.is_sweep_override()),
        axes=axes,
        hydra_overrides=tuple(text_of(o) for o in overrides if is_hydras(o)),
    )


def compose_cells(commands: Sequence[Sequence[str]], search: Sequence[str] = ()) -> tuple[Cell, ...]:
    """Compose one cell per list of overrides, of which a later one wins over an earlier one of the same key.

    Raises:
        UserError: an override that cannot be read, an unknown group or option, a sweep of several values.
    """
    require_few([len(commands)], "all commands together")
    store_schemas()
    with hydra_on(search) as loader:
        read = {
            line: normalized(o, loader)
            for line in dict.fromkeys(chain(*commands))
            for o in parse_overrides([line], loader)
        }
        expanded = []
        for command in commands:
            overrides = [read[line] for line in command]
            if sweeping := [o for o in overrides if o.is_sweep_override()]:
                raise UserError(f"{text_of(sweeping[0])} is a sweep of several values; give one value")
            expanded.append(tuple(text_of(o) for o in last_of_each(overrides)))
        cells = _Composer(search).cells(expanded)
    return _with_teachers(cells, search)


def launcher_of(overrides: Sequence[str], search: Sequence[str] = ()) -> Launcher:
    """Return the launcher that Hydra's own overrides choose, or the experiment among them.

    Args:
        overrides: such as hydra/launcher=joblib.
        search: further folders of configs.

    Raises:
        UserError: there is no such launcher, its package is not installed, or it has no such setting.

    Example:
        >>> launcher_of(["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]).settings["n_jobs"]
        2
    """
    store_schemas()
    with hydra_on(search) as loader:
        composed = _composed(parse_overrides(overrides, loader), with_hydra=True)
        plain, hydra = loader.plain(CONFIG_NAME, hydra_tree.choices_of(composed)), composed.hydra
        return Launcher(
            name=str(hydra.runtime.choices["hydra/launcher"]),
            settings=_plain(hydra.launcher),
            folder=str(hydra.sweep.dir),
            overrides=hydra_tree.as_overrides(composed, plain),
            sweeper=_plain(hydra.sweeper),
        )


def _plain(settings: DictConfig, *, resolve: bool = True) -> dict[str, Any]:
    plain = OmegaConf.to_container(settings, resolve=resolve)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _with_teachers(cells: Sequence[Cell], search: Sequence[str]) -> tuple[Cell, ...]:
    """Replace a teacher's overrides by its run id: data and seed are its student's, unless they say something else."""
    commands: dict[int, tuple[str, ...]] = {}
    answered = list(cells)
    for number, cell in enumerate(cells):
        if cell.config is None or "=" not in (cell.config.teacher or ""):
            continue
        try:
            words = shlex.split(str(cell.config.teacher))
        except ValueError:
            fault = (
                f"teacher='{cell.config.teacher}' has a quote that is not closed; type overrides with spaces between"
            )
            answered[number] = Cell(cell.overrides, None, f"{fault}, such as \"teacher='method=relu_bn depth=d20'\"")
            continue
        commands[number] = overrides_of(dataclasses.replace(cell.config, teacher=None), ["dataset"], words)
    if commands:
        for number, teacher in zip(commands, compose_cells([*commands.values()], search), strict=True):
            answered[number] = _taught(cells[number], teacher)
    return tuple(answered)


def overrides_of(
    config: ExperimentConfig, groups: Sequence[str] = GROUPS, instead: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return a resolved config as overrides that compose it again, followed by others.

    Args:
        config: the config.
        groups: the groups to return.
        instead: further overrides; where they choose another option of a group, nothing is kept of that group.

    Example:
        >>> overrides_of(compose(["depth=d20", "seed=3"]), ["depth"], ["seed=4"])
        ('depth.num_layers=20', 'seed=3', 'seed=4')
    """
    plain, lines = config.to_plain(), []
    chosen = {override.partition("=")[0] for override in instead}
    for group in (group for group in groups if group not in chosen):
        if "name" in plain[group] and group not in SETTINGS:
            lines.append(f"{group}={plain[group].pop('name')}")
        lines += [f"{group}.{key}={json.dumps(value)}" for key, value in plain[group].items()]
    lines += [f"teacher={config.teacher}"] if config.teacher else []
    return (*lines, f"seed={config.seed}", *instead)


def _taught(student: Cell, teacher: Cell) -> Cell:
    assert student.config is not None
    if teacher.config is None:
        return Cell(student.overrides, None, f"teacher='{student.config.teacher}': {teacher.refusal}")
    return Cell(student.overrides, dataclasses.replace(student.config, teacher=teacher.config.run_id))


@functools.cache
def _composed_in(search: tuple[str, ...]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the cache choices -> composed groups of this process for these folders."""
    return {}


class _Composer:
    """Composes cells; each distinct choice of groups once per process."""

    def __init__(self, search: Sequence[str] = ()) -> None:
        self._composed = _composed_in(tuple(search))
        self._valued: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, Any]] = {}

    def remember(self, overrides: tuple[str, ...], base: dict[str, Any]) -> None:
        """Remember the composed groups of these overrides."""
        self._composed[_choices(overrides)] = {key: value for key, value in base.items() if key != "hydra"}

    def cells(self, commands: Sequence[tuple[str, ...]]) -> list[Cell]:
        """Compose one cell per list of overrides."""
        distinct = set(map(_choices, commands))
        one_by_one = {part for choices in distinct for part in _parts(choices)}
        return [self._cell(command, by_parts=len(one_by_one) < len(distinct)) for command in commands]

    def _cell(self, overrides: tuple[str, ...], *, by_parts: bool) -> Cell:
        parsed = [parsed_override(line) for line in overrides]
        choices = _choices(overrides)
        try:
            if choices not in self._composed:
                self._composed[choices] = self._joined(choices) if by_parts else self._whole(choices)
            plain = self._with_values(choices, [o for o in parsed if is_value(o)])
            experiment = next((o.value() for o in parsed if o.key_or_group == "experiment"), None)
            return Cell(overrides, resolve({**plain, "experiment": experiment}))
        except UserError as refusal:
            return Cell(overrides, None, str(refusal))
        except OmegaConfBaseException as error:
            return Cell(overrides, None, first_line(error))

    def _whole(self, choices: tuple[str, ...]) -> dict[str, Any]:
        if choices not in self._composed:
            self._composed[choices] = _compose_plain([parsed_override(line) for line in choices], with_hydra=False)
        return self._composed[choices]

    def _joined(self, choices: tuple[str, ...]) -> dict[str, Any]:
        """Compose each choice alone and merge the groups: a grid needs one composition per option, not per cell.

        Where a choice sets something in another group, as a user's YAML file may, all are composed at once.
        """
        base, *alone = _parts(choices)
        joined = dict(self._whole(base))
        for part in alone:
            group, composed = parsed_override(part[-1]).key_or_group, self._whole(part)
            if any(composed[key] != value for key, value in self._whole(base).items() if key != group):
                return self._whole(choices)
            joined[group] = composed[group]
        return joined

    def _with_values(self, choices: tuple[str, ...], values: Sequence[Override]) -> dict[str, Any]:
        """Set the values in the composed groups; cells that differ only in the seed share the work."""
        composed = self._composed[choices]
        reads_seed = "${" in str(composed) or any("${" in text_of(o) for o in values)  # an interpolation may
        early = [o for o in values if reads_seed or o.key_or_group != "seed"]
        key = (choices, tuple(map(text_of, early)))
        if key not in self._valued:
            config = OmegaConf.create(composed)
            for o in early:
                OmegaConf.update(config, o.key_or_group, o.value(), merge=False)
            if reads_seed:
                interpolations.require_flat(_plain(config, resolve=False))
            self._valued[key] = _plain(config)
        return {**self._valued[key], **{o.key_or_group: o.value() for o in values if o.key_or_group == "seed"}}


def _choices(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Return the overrides that choose an option, which Hydra composes; the rest are values."""
    return tuple(line for line in overrides if not is_value(parsed_override(line)))


def _parts(choices: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Split choices into those that may affect any group, and with each of them the choices of one group."""
    wide = tuple(line for line in choices if parsed_override(line).key_or_group not in GROUPS)
    return [wide, *((*wide, line) for line in choices if line not in wide)]


def _hydra_type(p: Parameter) -> tuple[Any, Any]:
    """Return a parameter's type and default in Hydra's terms: an enum where it is a choice among words."""
    if p.type != "choice":
        return {"bool": bool, "int": int, "float": float, "str": str}[p.type], p.default
    words: Any = enum.Enum("Choice", {choice: choice for choice in p.choices})  # type: ignore[misc]
    return words, None if p.default is None else words[str(p.default)]


@contextmanager
def hydra_on(search: Sequence[str]) -> Iterator[BoundedLoader]:
    """Initialise Hydra on our configs with our loader inside the block, and restore its state afterwards."""
    for folder in search:
        if not folder or not Path(folder).is_dir():
            raise UserError(f"--config-dir {folder} is not a folder; it must hold folders such as experiment/")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3", job_name="snn_exp"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        path = hydra.config_loader.get_search_path()
        for folder in search:
            element = SearchPathElement(COMMAND_LINE, f"file://{Path(folder).resolve()}")
            path.get_path().insert(-1, element)  # Hydra wants its schemas to stay last
        hydra.config_loader = loader = BoundedLoader(path)
        yield loader


def _compose_plain(overrides: Sequence[Override], *, with_hydra: bool) -> dict[str, Any]:
    """Compose a config as plain data, choices as words, interpolations unresolved."""
    plain = OmegaConf.to_container(_composed(overrides, with_hydra=with_hydra), resolve=False, enum_to_str=True)
    assert isinstance(plain, dict)
    if missing := [group for group in GROUPS if group not in plain]:
        raise UserError(
            f"no config file says what {missing[0]} is: the chosen option's file sets something else; give it a key of "
            f"{missing[0]}, or type {missing[0]}=... with another option"
        )
    return {str(key): value for key, value in plain.items()}


def _composed(overrides: Sequence[Override], *, with_hydra: bool) -> DictConfig:
    return hydra_compose(
        CONFIG_NAME, [text_of(o) for o in overrides if not is_value(o)], return_hydra_config=with_hydra
    )
