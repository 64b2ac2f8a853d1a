"""Methods that join a study afterwards: the same trials, seeds and one reading of the test set, kept apart.

    joined/METHOD/method.yaml      its overrides
    joined/METHOD/results.jsonl    its finished runs

The folder is below outputs/studies/NAME/ where a person made it, and below studies/NAME/ once it is committed. The
study's own rows, choices and claims are not touched. No torch.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

from snn_exp.errors import UserError
from snn_exp.files import Unreadable, printable, read_yaml, require_within, write_text
from snn_exp.runs.fields import NAME
from snn_exp.runs.paths import output_root
from snn_exp.studies import runner
from snn_exp.studies.runner import Progress
from snn_exp.studies.spec import Overrides, Study

EXAMPLE = '--method mine="norm=my_norm"'
FOLDER, FILE = "joined", "method.yaml"
EQUAL_FOR_ALL = (
    "dataset",
    "trainer",
    "energy",
    "logger",
    "seed",
    "augment",
    "experiment",
)  # beside what settings and grid set


def read_method(text: str, study: Study) -> tuple[str, Overrides]:
    """Return the name and the overrides of a method that a person has typed.

    Args:
        text: NAME="overrides", such as mine="norm=my_norm neuron=lif".
        study: that it joins.

    Raises:
        UserError: not of this form; a name that the study has; a key that is the same for all of its methods.
    """
    name, equals, given = text.partition("=")
    try:
        overrides = tuple(shlex.split(given))
    except ValueError as error:
        raise UserError(f"--method {printable(text)} cannot be read ({error}); type {EXAMPLE}") from None
    if not equals or not overrides:
        raise UserError(f"--method {printable(text)} has no overrides; type {EXAMPLE}")
    _require_joinable(name, overrides, study)
    return name, overrides


def _require_joinable(name: str, overrides: Overrides, study: Study) -> None:
    if not NAME.fullmatch(name) or len(name) > 100:
        raise UserError(
            f"{printable(name)} cannot be the name of a method, which is of a-z, 0-9, '_', '.' and '-' and begins with "
            f"a letter or digit; type {EXAMPLE}"
        )
    if name in study.methods:
        raise UserError(f"study {study.name} has a method {name} already; give yours another name, such as my_{name}")
    varied = {_key(o): s.name for s in study.settings.values() for o in s.overrides}
    varied |= {key: s.name for s in study.settings.values() for key in s.tuned_keys}
    for override in overrides:
        key = _key(override)
        if "=" not in override:
            raise UserError(f"{printable(override)} is no override of method {name}; type {EXAMPLE}")
        if key.startswith("hydra"):
            raise UserError(f"{printable(override)} says how runs are started; type it outside --method")
        group = key.partition(".")[0]
        if group in EQUAL_FOR_ALL or any(key == of or key.startswith(f"{of}.") for of in varied):
            where = varied.get(key, varied.get(group))
            why = f"its setting {where} sets it for all of them" if where else "it is the same for all of them"
            raise UserError(
                f"method {name} may not set {printable(key)}: in study {study.name} the methods are compared on equal "
                f"terms, and {why}; leave {printable(override)} out"
            )


def _key(override: str) -> str:
    return override.partition("=")[0].strip(" +~")


def own_folder(study: Study, name: str) -> Path:
    """Return the folder of a method below the output root."""
    return output_root() / "studies" / study.name / FOLDER / name


def alone(study: Study, name: str, overrides: Overrides, folder: Path, search: Sequence[str] = ()) -> Study:
    """Return the study with this one method, and without claims.

    Args:
        study: that it joins.
        name: of the method.
        overrides: of the method.
        folder: where its rows are.
        search: further folders of configs.
    """
    return dataclasses.replace(
        study, folder=folder, methods={name: overrides}, reference=name, claims=(), note="", search=tuple(search)
    )


def require_another_network(joined: Progress, progress: Progress) -> None:
    """Refuse a method whose runs are those of a method that the study has.

    Raises:
        UserError: with that method.
    """
    method_of = {run.config.run_id: run.method for run in (*progress.trials, *progress.finals)}
    for run in (*joined.trials, *joined.finals):
        if other := method_of.get(run.config.run_id):
            raise UserError(
                f"{run.method} is the same network as {other} of study {progress.study.name} in setting {run.setting} "
                f"(run {run.config.run_id}); its figures are on the study's page already"
            )


def keep(study: Study) -> None:
    """Write method.yaml of a method that has joined."""
    ((_, overrides),) = study.methods.items()
    path = require_within(study.folder / FILE, output_root())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump({"overrides": list(overrides)}))


def committed(study: Study) -> list[Progress]:
    """Return the progress of the methods that have joined a study and are committed beside it.

    Raises:
        UserError: a method.yaml cannot be read.
    """
    return [
        runner.survey(alone(study, path.parent.name, _written(path, study), path.parent))
        for path in sorted((study.folder / FOLDER).glob(f"*/{FILE}"))
    ]


def _written(path: Path, study: Study) -> Overrides:
    where = f"{study.name}/{FOLDER}/{path.parent.name}/{FILE}"
    try:
        content = read_yaml(path, study.folder)
    except Unreadable as error:
        raise UserError(f"{where} {error.reason}") from None
    overrides = content.get("overrides") if isinstance(content, dict) else None
    if not isinstance(overrides, list) or not overrides or not all(isinstance(o, str) for o in overrides):
        raise UserError(f"{where} must have a list of overrides; type overrides: [norm=my_norm]")
    _require_joinable(path.parent.name, tuple(overrides), study)
    return tuple(overrides)
