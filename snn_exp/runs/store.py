"""Query the runs in outputs/: list them, compare two, remove some. No torch."""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError, unknown
from snn_exp.escaping import add_row, rich
from snn_exp.runs.choices import choices, row_choices, varying
from snn_exp.runs.filters import StoredValues, missing, read, value_text
from snn_exp.runs.find import run_folders
from snn_exp.runs.folder import Contents, DamagedRun, RunFolder
from snn_exp.runs.lock import Taken, refuse_if_taken
from snn_exp.runs.paths import output_root
from snn_exp.runs.run_files import Result

STATES = ("done", "diverged", "pruned", "failed", "unfinished", "training", "kept", "damaged", "newer")


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """One folder of outputs/runs.

    Args:
        folder: the folder.
        state: one of STATES; pruned is what a search has stopped early, kept what --rerun has put aside, damaged holds
            something that cannot be read, newer is of a later version of snn_exp; "not run" where there is no folder,
            see `runs_of`.
        config: the plain config; empty if it was not written yet.
        result: the result, if it is done or diverged.
        manifest: how it was done; its curves over the epochs are many, and are read where they are needed.
    """

    folder: RunFolder
    state: str
    config: Mapping[str, Any]
    result: Result | None
    manifest: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the folder: the run id, unless the run was put aside."""
        return self.folder.path.name

    @functools.cached_property
    def choices(self) -> dict[str, str]:
        """Return the choices, flat, with the seed."""
        return {**choices(self.config), "seed": str(self.config.get("seed", "?"))} if self.config else {}

    @functools.cached_property
    def stored(self) -> StoredValues:
        """Return the values that filters compare, with the types of the config."""
        return StoredValues(self.config, self.state)

    def label(self, key: str) -> str:
        """Return the choice for a key, in words: a method is recognised by its choices; "-" for none."""
        if key == "method":
            return self.stored.method
        if key in self.choices:
            return self.choices[key]
        return value_text(self.stored.chosen[key]) if key in self.stored.chosen else "-"


@dataclasses.dataclass(frozen=True)
class Selection:
    """The runs that agree with filters.

    Args:
        runs: in the order of their names.
        notes: a sentence for each asked value that none of them has.
    """

    runs: Sequence[StoredRun]
    notes: Sequence[str]


def stored_runs(filters: Sequence[str] = ()) -> list[StoredRun]:
    """Return the runs that agree with every filter, in the order of their names.

    Args:
        filters: as in `selected`.

    Raises:
        UserError: as `selected`.
    """
    return list(selected(filters).runs)


def selected(filters: Sequence[str]) -> Selection:
    """Return the runs that agree with every filter, and notes on values that matched none.

    Args:
        filters: overrides as for train, with several values, such as neuron=lif,plif, optim.lr=1e-2, depth=20 or
            method=lif_bn; and state=failed.

    Raises:
        UserError: a filter that is not of this form, an unknown key or option, a value that no run can have.
    """
    runs = [_stored(folder) for folder in run_folders(kept=True)]
    asked = [read(text, (key for run in runs for key in run.stored.chosen)) for text in filters]
    for one in asked:
        for condition in one.conditions:
            if one.key == "state" and (state := str(condition.demands["state"])) not in STATES:
                raise unknown("state", state, STATES, "state={}")
    left = [run for run in runs if all(one.agrees(run.stored) for one in asked)]
    return Selection(left, missing(asked, [run.stored for run in runs]))


def runs_of(configs: Sequence[ExperimentConfig]) -> list[StoredRun]:
    """Return the stored run of each config; one that was not begun has the config alone.

    Args:
        configs: of the runs, in the order in which they are returned.
    """
    found = []
    for config in configs:
        folder = RunFolder.of(config)
        if folder.path.exists() or folder.path.is_symlink():
            run = _stored(folder)
            has_none = run.state in ("unfinished", "failed", "training", "pruned") and not run.config
            found.append(dataclasses.replace(run, config=config.to_plain()) if has_none else run)
        else:
            found.append(StoredRun(folder, "not run", config.to_plain(), None))
    return found


def _stored(folder: RunFolder) -> StoredRun:
    is_kept = "." in folder.path.name
    try:
        contents = folder.contents()
    except DamagedRun as damaged:
        if is_kept:
            return StoredRun(folder, "kept", {}, None)
        damaged.say()
        return StoredRun(folder, "newer" if damaged.is_newer else "damaged", {}, None)
    config = contents.result.config if contents.result else contents.manifest.get("config", {})
    return StoredRun(folder, _state(folder, contents), config, contents.result, contents.manifest)


def state_of(folder: RunFolder) -> str:
    """Return one of STATES."""
    return _stored(folder).state


def _state(folder: RunFolder, contents: Contents) -> str:
    if "." in folder.path.name:
        return "kept"
    if contents.result is not None:
        return contents.result.status
    try:
        refuse_if_taken(folder.path, patient=False)
    except Taken:
        return "training"
    if contents.failure is not None:
        return "failed"
    return "unfinished" if contents.pruned is None else "pruned"


def table(runs: Sequence[StoredRun]) -> Table:
    """Return a table with one line per run, which names what else differs between the runs."""
    title = f"{len(runs)} run{'' if len(runs) == 1 else 's'} in {output_root() / 'runs'}"
    drawn = Table(title=rich(title), title_justify="left")
    for heading in ("run", "state", "what", "test acc %", "CPU s", "ended"):
        drawn.add_column(heading, justify="right" if heading.endswith(("%", "s")) else "left")
    named = ("neuron", "norm", "residual", "dataset")
    configs = [run.config for run in runs if run.config]
    differing = row_choices([choices(config) for config in configs], varying(configs)) if configs else []
    more = [key for key in differing if key not in (*named, "depth.num_layers")]
    for run in runs:
        c = run.choices
        what = " ".join(c.get(key, "?") for key in named)
        depth = f"d{c.get('depth.num_layers', '?')} seed={c.get('seed', '?')}"
        rest = " ".join(f"{key}={c[key]}" for key in more if key in c)
        accuracy = run.result.metrics.get("test/acc") if run.result else None
        shown = "-" if accuracy is None else f"{100 * accuracy:.2f}"
        add_row(
            drawn, run.name, run.state, f"{what} {depth} {rest}".rstrip(), shown,
            "-" if run.result is None else f"{run.result.cpu_s:.0f}",
            "-" if run.result is None else to_the_minute(run.result.finished_at),
        )  # fmt: skip
    return drawn


def to_the_minute(time: str) -> str:
    """Return an ISO time as a table shows it.

    Example:
        >>> to_the_minute("2026-01-31T12:34:56.789+00:00")
        '2026-01-31 12:34'
    """
    return time[:16].replace("T", " ")


def remove(runs: Sequence[StoredRun]) -> tuple[list[Path], list[str]]:
    """Remove the folders of runs that no process trains, without following links; return which, and why not others.

    Raises:
        UserError: one of them is being trained; then none is removed.
    """
    for run in runs:
        if not run.folder.path.is_symlink():
            refuse_if_taken(run.folder.path)
    removed, failures = [], []
    for path in (run.folder.path for run in runs):
        try:
            if path.is_dir() and not path.is_symlink():
                _remove_folder(path)
            else:
                path.unlink()
        except OSError as error:
            failures.append(f"{path} cannot be removed ({error.strerror})")
        else:
            removed.append(path)
    return removed, failures


def _remove_folder(folder: Path) -> None:
    """Remove a folder, even if it is nested deeper than a path or a recursion can be."""
    try:
        shutil.rmtree(folder)
        return
    except RecursionError:
        pass
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENAMETOOLONG):
            raise
    while folders := [Path(entry) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]:
        for place in folders:
            for entry in list(os.scandir(place)):
                if entry.is_dir(follow_symlinks=False):
                    Path(entry).rename(folder / uuid.uuid4().hex)
                else:
                    Path(entry).unlink()
            place.rmdir()
    shutil.rmtree(folder)


def difference(a: RunFolder, b: RunFolder) -> list[tuple[str, str, str]]:
    """Return the differences of two finished runs as (key, of a, of b): first the choices, then the metrics.

    Raises:
        UserError: a run is not finished.
    """
    found = []
    for of in (_chosen, _measured):
        ours, theirs = of(a), of(b)
        keys = dict.fromkeys((*ours, *theirs))
        found += [(k, ours.get(k, "-"), theirs.get(k, "-")) for k in keys if ours.get(k) != theirs.get(k)]
    return found


def _chosen(folder: RunFolder) -> dict[str, str]:
    config = _finished(folder).config
    return {**choices(config), "seed": str(config["seed"])}


def _measured(folder: RunFolder) -> dict[str, str]:
    result = _finished(folder)
    metrics = {key: f"{value:.6g}" for key, value in sorted(result.metrics.items()) if key.count("/") < 2}
    return {"status": result.status, "best_epoch": str(result.best_epoch), **metrics}


def _finished(folder: RunFolder) -> Result:
    result = folder.result()
    if result is None:
        raise UserError(
            f"run {folder.path.name} is not finished; type its snn-exp train command again to finish it first"
        )
    return result


def stored_results() -> list[Result]:
    """Return every finished run under the output root; a damaged one is named and left out."""
    found = (folder.sound_result() for folder in run_folders())
    return [result for result in found if result is not None]
