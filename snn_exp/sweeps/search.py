"""What a search is: its space, objectives and sampler; our rules check its proposals. No torch, no Optuna.

outputs/searches/<search id, or its name>/
    search.json   what is searched: read by every process that works on it
    journal.log   Optuna's study, one line per event; journal.log.lock and claim.lock keep writers apart
    workers/      a folder per process that works on it now: see trials.py
    search.log    why the launcher gave up, if it did
    search.html   its page, once a command has ended; figures/ has the numbers of each figure

The search id is a hash of what decides the result, as a run's is.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from snn_exp.config import compose
from snn_exp.config.composer import Cell
from snn_exp.config.experiment import EnergyConfig, ExperimentConfig
from snn_exp.errors import UserError, unknown
from snn_exp.files import read_json, write_json
from snn_exp.metrics.energy import total_pj
from snn_exp.runs.paths import output_root
from snn_exp.runs.run_files import Result
from snn_exp.runs.source import source_of
from snn_exp.runs.teacher import teacher_of
from snn_exp.sweeps import launch
from snn_exp.sweeps.space import OpenSpace

# What a search over a key would find instead of the best network.
UNFIT = {"seed": "the luckiest seed", "dataset": "the easiest data", "energy": "the lowest prices"}

PRUNERS = ("none", "median", "hyperband")
SAMPLERS = ("tpe", "random", "grid", "qmc", "nsgaii")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclasses.dataclass(frozen=True)
class Objective:
    """An objective of a search.

    Args:
        direction: in Optuna's word.
        worst: value given to a run that diverged or is refused, so that it ranks last and Optuna avoids similar ones:
            no network that trains is worse. Finite, since Optuna measures volumes with it.
    """

    direction: str
    worst: float


OBJECTIVES = {
    "val/acc": Objective("maximize", 0.0),
    "val/energy_pj": Objective("minimize", 1e12),  # one joule per sample
}


@dataclasses.dataclass(frozen=True)
class Search:
    """A search: its space, objectives and sampler.

    Args:
        id: 10 hex digits of what decides it.
        name: of its folder: the id, unless it was given one.
        fixed: the overrides that all its runs have.
        axes: the overrides that leave a choice.
        objectives: names among OBJECTIVES.
        sampler: among SAMPLERS.
        sampler_seed: of its random numbers.
        pruner: among PRUNERS.
        max_epochs: most epochs of a run, for the pruner.
        hydra_overrides: Hydra's own, such as hydra/launcher=joblib.
        folders: further folders of configs.
    """

    id: str
    name: str
    fixed: Sequence[str]
    axes: Sequence[str]
    objectives: Sequence[str]
    sampler: str
    sampler_seed: int
    pruner: str
    max_epochs: int
    hydra_overrides: Sequence[str]
    folders: Sequence[str]

    @property
    def folder(self) -> Path:
        """Folder of the search."""
        return output_root() / "searches" / self.name

    @property
    def worst(self) -> tuple[float, ...]:
        """Values given to a run that has none of its own."""
        return tuple(OBJECTIVES[name].worst for name in self.objectives)

    @functools.cached_property
    def space(self) -> OpenSpace:
        """The space."""
        return OpenSpace.of(self.fixed, self.axes, self.folders)

    def config_of(self, proposed: Sequence[str]) -> ExperimentConfig:
        """Compose the run that is proposed.

        Raises:
            UserError: the rules refuse it, or it has no teacher that can teach it, or none to start from.
        """
        config = compose.compose(_untested(self.space.fixed_with(proposed), proposed), self.folders)
        teacher_of(config)
        source_of(config)
        return config

    def keep(self) -> None:
        """Write search.json, or check that it is of this search.

        Raises:
            UserError: the folder holds another search.
        """
        file = self.folder / "search.json"
        if file.exists():
            stored = read_json(file)
            if stored.get("id") != self.id:
                differs = [
                    f"{key} {_words(stored.get(key))} there and {_words(given)} here"
                    for key, given in json.loads(json.dumps(dataclasses.asdict(self))).items()
                    if key in _DECISIVE and stored.get(key) != given
                ]
                raise UserError(
                    f"{self.folder} holds another search ({'; '.join(differs) or 'of other data or code'}); type "
                    f"another --name, or leave it out"
                )
        write_json(file, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Search:
        """Read the search of a folder."""
        return cls(**read_json(folder / "search.json"))


_DECISIVE = ("fixed", "axes", "objectives", "sampler", "sampler_seed", "pruner")


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the flags of `snn-exp search` say of a search.

    Args:
        objectives: val/acc, or val/acc,val/energy_pj.
        sampler: among SAMPLERS.
        sampler_seed: of its random numbers.
        name: of its folder, "" for its id.
        pruner: among PRUNERS.
    """

    objectives: str = "val/acc"
    sampler: str = "tpe"
    sampler_seed: int = 0
    name: str = ""
    pruner: str = "none"


def read(
    arguments: Sequence[str], asked: Asked | None = None, folders: Sequence[str] = ()
) -> tuple[Search, list[ExperimentConfig]]:
    """Read a search, and compose runs of its space.

    Args:
        arguments: Hydra overrides; those with several values or a range are searched.
        asked: what the flags say.
        folders: further folders of configs.

    Raises:
        UserError: an override, objective or sampler that a search cannot have; the package is missing; nothing that
            could be proposed can be trained.
    """
    asked = asked or Asked()
    names = _read_objectives(asked.objectives)
    if asked.sampler not in SAMPLERS:
        raise unknown("sampler", asked.sampler, SAMPLERS, "--sampler {}")
    if asked.pruner not in PRUNERS:
        raise unknown("pruner", asked.pruner, PRUNERS, "--pruner {}")
    if asked.pruner != "none" and len(names) > 1:
        raise UserError(
            f"--pruner {asked.pruner} stops a run by the curve of one objective, and --objective {asked.objectives} "
            f"has {len(names)}; type --pruner none, or --objective val/acc"
        )
    if asked.name and not _NAME.fullmatch(asked.name):
        raise UserError(
            f"--name {asked.name} is no name of a search; it has letters, digits, - and _, such as --name my-search"
        )
    found = compose.read_space(arguments, folders)
    _refuse_unfit(found)
    absolute = tuple(str(Path(folder).resolve()) for folder in folders)
    space = OpenSpace.of(found.fixed, found.axes, absolute)
    if asked.sampler == "grid" and space.endless:
        raise UserError(
            f"{space.endless.line} has no end of values, and a grid tries each; give values, such as "
            f"{space.endless.key}=0.001,0.01, or type --sampler qmc"
        )
    if find_spec("optuna") is None:
        raise UserError(
            "snn-exp search needs the package optuna, which is not installed; type pip install 'snn-exp[search]'"
        )
    launch.ready_launcher(found.hydra_overrides, folders)
    space.require_each_parameter_somewhere()
    corners = space.corners()
    cells = _composed(space, corners)
    if not any(cell.config for cell in cells):
        cells = (cells[0], *_composed(space, space.samples()))
    configs = [cell.config for cell in cells if cell.config]
    if not configs:
        raise UserError(f"no proposal of this search can be trained; {' '.join(corners[0])}: {cells[0].refusal}")
    if asked.pruner != "none":
        _require_prunable(asked.pruner, configs)
    decisive: list[object] = [sorted({config.run_id for config in configs}), sorted(space_lines(found)), names]
    if "val/energy_pj" in names:
        decisive.append(sorted({str(config.energy) for config in configs}))
    if (asked.sampler, asked.sampler_seed) != ("tpe", 0):
        decisive.append([asked.sampler, asked.sampler_seed])
    if asked.pruner != "none":
        decisive.append(asked.pruner)
    max_epochs = max(config.trainer.max_epochs for config in configs)
    digest = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:10]
    search = Search(
        digest, asked.name or digest, found.fixed, found.axes, names, asked.sampler, asked.sampler_seed, asked.pruner,
        max_epochs, found.hydra_overrides, absolute,
    )  # fmt: skip
    return search, configs


def _require_prunable(pruner: str, configs: Sequence[ExperimentConfig]) -> None:
    """Refuse a pruner that could not stop a run."""
    if (least := min(config.trainer.max_epochs for config in configs)) < 2:
        raise UserError(
            f"--pruner {pruner} stops a run after some of its epochs, and trainer.max_epochs={least} has no more than "
            f"one; type trainer.max_epochs=12, say, or --pruner none"
        )
    if (devices := max(config.trainer.devices for config in configs)) > 1:
        raise UserError(
            f"--pruner {pruner} stops runs of one process, and trainer.devices={devices} starts several; type "
            f"--pruner none, or trainer.devices=1"
        )


def _composed(space: OpenSpace, proposals: Sequence[Sequence[str]]) -> tuple[Cell, ...]:
    return compose.compose_cells([_untested(space.fixed_with(lines), lines) for lines in proposals], space.folders)


def space_lines(space: compose.Space) -> list[str]:
    """Return what a space leaves open, and what it fixes of one option alone."""
    return [*space.axes, *(line for line in space.fixed if key_of(line).count(".") > 1)]


def _read_objectives(given: str) -> tuple[str, ...]:
    """Read and check the names of the objectives.

    Example:
        >>> _read_objectives("val/acc,val/energy_pj")
        ('val/acc', 'val/energy_pj')
    """
    names = tuple(dict.fromkeys(given.split(",")))
    for name in names:
        if name.startswith("test/"):
            raise UserError(
                f"--objective {name} would choose on the test set, which then could not judge what was chosen; type "
                f"--objective {name.replace('test/', 'val/')}"
            )
        if name not in OBJECTIVES:
            raise unknown("objective", name, OBJECTIVES, "--objective {}")
    if "val/acc" not in names:
        raise UserError(
            f"--objective {given} minimises energy alone, which selects a silent network; "
            f"type --objective val/acc,val/energy_pj"
        )
    return names


def _refuse_unfit(space: compose.Space) -> None:
    for line in space.axes:
        if (head := key_of(line).partition(".")[0]) in UNFIT:
            raise UserError(f"{line}: a search would choose {UNFIT[head]}; give one value of {key_of(line)}")
    for line in (*space.fixed, *space.axes):
        if key_of(line) == "trainer.test":
            raise UserError(f"{line}: no run of a search reads the test set; leave it out")


def key_of(line: str) -> str:
    """Return the key of an override."""
    return line.partition("=")[0]


def _untested(fixed: Sequence[str], proposed: Sequence[str]) -> tuple[str, ...]:
    return (*fixed, *proposed, "trainer.test=false")


def objectives_of(result: Result, names: Sequence[str], profile: EnergyConfig) -> tuple[float, ...]:
    """Return the objectives of a finished run; the worst values if it diverged.

    Args:
        result: its result.
        names: the objectives.
        profile: the cost of each operation.
    """
    if result.status == "diverged":
        return tuple(OBJECTIVES[name].worst for name in names)
    return tuple(
        total_pj(result.metrics, "val", profile) if name == "val/energy_pj" else result.metrics[name] for name in names
    )
