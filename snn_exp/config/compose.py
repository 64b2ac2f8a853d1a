"""Compose overrides into cells with Hydra, and check them before anything is trained or written.

A *cell* is one run of a sweep: its overrides, and either a resolved config or the sentence that
refuses it. composer.py composes them; here stands what a command, a sweep, a search or a teacher asks for.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from snn_exp.config import hydra_settings
from snn_exp.config.composer import Cell, Composer, as_plain, compose_plain, composed_by_hydra
from snn_exp.config.experiment import GROUPS, RUN_KEYS, SETTINGS, ExperimentConfig
from snn_exp.config.hydra_setup import hydra_on
from snn_exp.config.overrides import (
    CONFIG_NAME,
    first_line,
    is_hydras,
    is_sweepers,
    last_of_each,
    normalized,
    parse_overrides,
    read_overrides,
    require_few,
    require_few_runs,
    text_of,
    with_params,
)
from snn_exp.errors import UserError

SAME = "same"  # before the overrides of a named run: the rest is that of the run that names it


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
    with hydra_on(search) as loader:
        overrides = read_overrides(arguments, loader)
        base = compose_plain([o for o in overrides if not o.is_sweep_override()], with_hydra=True)
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
        composer = Composer(search)
        require_few_runs(overrides)
        if drawn := next((o for o in overrides if o.is_interval_sweep()), None):
            raise UserError(
                f"{drawn.input_line} is a range without steps, and a sweep takes values; name them, as in -m "
                f"{drawn.key_or_group}=A,B,C, or type snn-exp search with the same overrides, which draws from ranges"
            )
        try:
            expanded = BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]
        except HydraException as error:
            raise UserError(f"the sweep cannot be expanded: {first_line(error)}") from None
        if not multirun:
            composer.remember(tuple(expanded[0]), base)
        cells = composer.cells([tuple(cell) for cell in expanded])
    return Sweep(
        cells=_with_named_runs(cells, search),
        # of several experiments none sets Hydra, which has one launcher for all runs
        hydra_overrides=tuple(
            text_of(o)
            for o in overrides
            if is_hydras(o) and not (o.key_or_group == "experiment" and o.is_sweep_override())
        ),
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
    with hydra_on(search) as loader:
        overrides = read_overrides(arguments, loader)
        _refuse_settings_of_a_sweeper(overrides)
        base = [o for o in overrides if not o.is_sweep_override()]
        hydra = compose_plain(base, with_hydra=True)["hydra"]
        if (sweeper := hydra["runtime"]["choices"]["hydra/sweeper"]) != "basic":
            raise UserError(
                f"the experiment chooses hydra/sweeper={sweeper}; leave that out of its file, which may hold "
                f"hydra.sweeper.params: snn-exp search proposes by itself"
            )
        overrides = with_params(overrides, hydra, loader)
    ours = [o for o in overrides if not o.key_or_group.startswith("hydra")]
    axes = tuple(_axis(o) for o in ours if o.is_sweep_override())
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


def _axis(override: Override) -> str:
    """Return the text of an override that leaves a choice; options that a pattern stands for are named."""
    if not isinstance(override.value(), Glob):
        return text_of(override)
    return f"{override.key_or_group}={','.join(override.sweep_string_iterator())}"


def _refuse_settings_of_a_sweeper(overrides: Sequence[Override]) -> None:
    """Refuse what set hydra-optuna-sweeper, which proposed the runs before, with what says it now."""
    for o in overrides:
        key, line, value = o.key_or_group, text_of(o), str(o.value())
        if not is_sweepers(o) or key.startswith("hydra.sweeper.params"):
            continue
        now = {
            "hydra/sweeper": "leave it out",
            "hydra/sweeper/sampler": f"type --sampler {'tpe' if value == 'motpe' else value}",
            "hydra.sweeper.sampler.seed": f"type --sampler-seed {value}",
            "hydra.sweeper.n_trials": f"type --budget {value}",
            "hydra.sweeper.n_jobs": f"type hydra/launcher=joblib hydra.launcher.n_jobs={value} for as many at once",
        }.get(key, "leave it out")
        raise UserError(f"{line} was for hydra-optuna-sweeper, and snn-exp search proposes by itself now; {now}")


def options_of(overrides: Sequence[str], search: Sequence[str] = ()) -> dict[str, str]:
    """Return group -> option that overrides choose, whatever the rules say of them together.

    Example:
        >>> options_of(["method=s2nn_bn"])["neuron"]
        's2nn'
    """
    with hydra_on(search) as loader:
        read = last_of_each([normalized(o, loader) for o in parse_overrides(overrides, loader)])
        plain = compose_plain(read, with_hydra=False)
    return {
        group: str(plain[group]["name"])
        for group in GROUPS
        if isinstance(plain[group], Mapping) and "name" in plain[group]
    }


def compose_cells(commands: Sequence[Sequence[str]], search: Sequence[str] = ()) -> tuple[Cell, ...]:
    """Compose one cell per list of overrides, of which a later one wins over an earlier one of the same key.

    Raises:
        UserError: an override that cannot be read, an unknown group or option, a sweep of several values.
    """
    require_few([len(commands)], "all commands together")
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
        cells = Composer(search).cells(expanded)
    return _with_named_runs(cells, search)


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
    with hydra_on(search) as loader:
        composed = composed_by_hydra(parse_overrides(overrides, loader), with_hydra=True)
        plain, hydra = loader.plain(CONFIG_NAME, hydra_settings.choices_of(composed)), composed.hydra
        return Launcher(
            name=str(hydra.runtime.choices["hydra/launcher"]),
            settings=as_plain(hydra.launcher),
            folder=str(hydra.sweep.dir),
            overrides=hydra_settings.as_overrides(composed, plain),
            sweeper=as_plain(hydra.sweeper),
        )


def _with_named_runs(cells: Sequence[Cell], search: Sequence[str]) -> tuple[Cell, ...]:
    """Replace the overrides of a teacher, and of the run to start from, by the run's id."""
    for key in RUN_KEYS:
        cells = _with_run_ids(cells, key, search)
    return tuple(cells)


def _with_run_ids(cells: Sequence[Cell], key: str, search: Sequence[str]) -> list[Cell]:
    """Replace a run's overrides by its id: data and seed are those of the cell, unless they say something else.

    After the word `same`, everything is.
    """
    commands: dict[int, tuple[str, ...]] = {}
    answered = list(cells)
    for number, cell in enumerate(cells):
        given = None if cell.config is None else getattr(cell.config, key)
        if cell.config is None or "=" not in (given or ""):
            continue
        try:
            words = shlex.split(str(given))
        except ValueError:
            fault = f"{key}='{given}' has a quote that is not closed; type overrides with spaces between"
            answered[number] = Cell(cell.overrides, None, f"{fault}, such as \"{key}='method=relu_bn depth=d20'\"")
            continue
        alone = dataclasses.replace(cell.config, teacher=None, init_from=None)
        same = words[0] == SAME
        commands[number] = overrides_of(alone, GROUPS if same else ["dataset", "augment"], words[same:])
    if commands:
        for number, named in zip(commands, compose_cells([*commands.values()], search), strict=True):
            answered[number] = _with_run_id(cells[number], key, named)
    return answered


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
    for group in (group for group in groups if group in plain and group not in chosen):
        if "name" in plain[group] and group not in SETTINGS:
            lines.append(f"{group}={plain[group].pop('name')}")
        lines += [f"{group}.{key}={json.dumps(value)}" for key, value in plain[group].items()]
    lines += [f"{key}={run}" for key in RUN_KEYS if (run := getattr(config, key))]
    return (*lines, f"seed={config.seed}", *instead)


def _with_run_id(cell: Cell, key: str, named: Cell) -> Cell:
    assert cell.config is not None
    if named.config is None:
        return Cell(cell.overrides, None, f"{key}='{getattr(cell.config, key)}': {named.refusal}")
    run: Any = {key: named.config.run_id}
    return Cell(cell.overrides, dataclasses.replace(cell.config, **run))
