"""A search: Hydra's Optuna sweeper proposes runs, our rules check them, validation data alone judge them. No torch.

outputs/searches/<search id>/
    search.json   what is searched: read by every job
    study.db      Optuna's study in sqlite, from which a killed search resumes
    search.log    why the launcher gave up, if it did

The search id is a hash of what decides the result, as a run's is. The sweeper's proposals reach Hydra under
keys of our own (+value.optim.lr, +choice.neuron), so that a combination that does not fit together meets our rules and
their sentence, and cannot end the search.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from snn_exp.config import compose
from snn_exp.config.experiment import EnergyConfig, ExperimentConfig
from snn_exp.errors import UserError, unknown
from snn_exp.metrics.energy import total_pj
from snn_exp.runs.paths import output_root
from snn_exp.runs.run_files import Result
from snn_exp.runs.source import source_of
from snn_exp.runs.teacher import teacher_of
from snn_exp.sweeps import launch

OURS_TO_CHOOSE = ("n_trials", "n_jobs", "sampler")  # of hydra.sweeper; the others follow from the command

# What a search over a key would find instead of the best network.
UNFIT = {"seed": "the luckiest seed", "dataset": "the easiest data", "energy": "the lowest prices"}


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
    """A search: its space and objectives.

    Args:
        id: 10 hex digits that name it.
        fixed: the overrides that all its runs have.
        axes: the overrides that leave a choice.
        objectives: names among OBJECTIVES.
        hydra_overrides: Hydra's own, such as hydra/launcher=joblib.
        folders: further folders of configs.
    """

    id: str
    fixed: Sequence[str]
    axes: Sequence[str]
    objectives: Sequence[str]
    hydra_overrides: Sequence[str]
    folders: Sequence[str]

    @property
    def folder(self) -> Path:
        """Folder of the search."""
        return output_root() / "searches" / self.id

    @property
    def storage(self) -> str:
        """Optuna's storage as a URI: SQLAlchemy interprets ? in a path, and Optuna braces."""
        return f"sqlite:///file:{quote(str((self.folder / 'study.db').resolve()))}?uri=true"

    @property
    def worst(self) -> tuple[float, ...]:
        """Values given to a run that has none of its own."""
        return tuple(OBJECTIVES[name].worst for name in self.objectives)

    def study(self) -> Any:
        """Open Optuna's study, or create it."""
        return import_optuna().create_study(
            study_name=self.id,
            storage=self.storage,
            directions=[OBJECTIVES[name].direction for name in self.objectives],
            load_if_exists=True,
        )

    def config_of(self, proposed: Sequence[str]) -> ExperimentConfig:
        """Compose the run that is proposed.

        Raises:
            UserError: the rules refuse it, or it has no teacher that can teach it, or none to start from.
        """
        config = compose.compose(_untested(self.fixed, proposed), self.folders)
        teacher_of(config)
        source_of(config)
        return config


def read(
    arguments: Sequence[str], objectives: str = "val/acc", folders: Sequence[str] = ()
) -> tuple[Search, list[ExperimentConfig]]:
    """Read a search, and compose the runs at the corners of its space.

    Args:
        arguments: Hydra overrides; those with several values or a range are searched.
        objectives: val/acc, or val/acc,val/energy_pj.
        folders: further folders of configs.

    Raises:
        UserError: an override or objective that a search cannot have; the package is missing; nothing that could be
            proposed can be trained.
    """
    names = _read_objectives(objectives)
    space = compose.read_space(arguments, folders)
    _refuse_unfit(space)
    hydra_overrides = tuple(dict.fromkeys(["hydra/sweeper=optuna", *space.hydra_overrides]))
    launch.ready_launcher(hydra_overrides, folders)
    corners = _corners(space.axes)
    cells = compose.compose_cells([_untested(space.fixed, corner) for corner in corners], folders)
    configs = [cell.config for cell in cells if cell.config]
    if not configs:
        raise UserError(f"no proposal of this search can be trained; {' '.join(corners[0])}: {cells[0].refusal}")
    decisive = [sorted({config.run_id for config in configs}), sorted(space.axes), names]
    if "val/energy_pj" in names:
        decisive.append(sorted({str(config.energy) for config in configs}))
    name = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:10]
    absolute = tuple(str(Path(folder).resolve()) for folder in folders)
    return Search(name, space.fixed, space.axes, names, hydra_overrides, absolute), configs


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
    for line in space.hydra_overrides:
        if line.startswith("hydra.sweeper.") and line.split(".")[2].partition("=")[0] not in OURS_TO_CHOOSE:
            raise UserError(
                f"{line} follows from the rest of snn-exp search; leave it out: of hydra.sweeper, n_trials, n_jobs and "
                f"sampler can be set"
            )
        if line == "hydra/sweeper/sampler=grid":
            raise UserError(
                f"{line} would try every combination, as snn-exp train -m does; choose tpe, random or nsgaii"
            )


def key_of(line: str) -> str:
    """Return the key of an override."""
    return line.partition("=")[0]


def _untested(fixed: Sequence[str], proposed: Sequence[str]) -> tuple[str, ...]:
    return (*fixed, *proposed, "trainer.test=false")


def import_optuna() -> Any:
    """Import Optuna, without its note that a newer version exists."""
    os.environ.setdefault("SQLALCHEMY_SILENCE_UBER_WARNING", "1")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _corners(axes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return corners: all axes at their first value, all at their last, and each at its last with the others first."""
    import_optuna()
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    try:
        distributions, _ = create_params_from_overrides(list(axes))
    except (AssertionError, NotImplementedError, ValueError) as error:
        raise UserError(f"{' '.join(axes)} cannot be searched by Optuna: {error}") from None
    ends = {
        key: (of.choices[0], of.choices[-1]) if hasattr(of, "choices") else (of.low, of.high)
        for key, of in distributions.items()
    }
    ats = [dict.fromkeys(ends, 0), dict.fromkeys(ends, 1), *({**dict.fromkeys(ends, 0), key: 1} for key in ends)]
    return [tuple(f"{key}={ends[key][end]}" for key, end in at.items()) for at in ats]


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
