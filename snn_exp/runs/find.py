"""Finding runs under the output root: all of them, or one by the beginning of its id. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from snn_exp.config.constraints import RUN_ID
from snn_exp.errors import UserError, nearest
from snn_exp.runs.fields import RUN_FOLDER
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root


def run_folders(*, kept: bool = False) -> list[RunFolder]:
    """Return the folders of the runs under the output root, in the order of their names.

    Args:
        kept: whether to include those that --rerun has put aside.
    """
    names = _names_in_runs()
    return [RunFolder(output_root() / "runs" / n) for n in names if (RUN_FOLDER if kept else RUN_ID).fullmatch(n)]


def foreign_names() -> list[str]:
    """Return the entries of the runs folder that are not runs, except hidden files."""
    return [name for name in _names_in_runs() if not RUN_FOLDER.fullmatch(name) and not name.startswith(".")]


def _names_in_runs() -> list[str]:
    runs = output_root() / "runs"
    try:
        return sorted(entry.name for entry in os.scandir(runs))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(
            f"{runs} cannot be listed ({error.strerror}); set SNN_EXP_OUTPUT to a folder whose runs/ can be"
        ) from None


def is_there(path: Path) -> bool:
    """Return whether a path exists; False for a path that is not valid."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def find_run(given: str) -> RunFolder:
    """Find the folder of a run.

    Args:
        given: a run id, the beginning of one, or a folder.

    Raises:
        UserError: there is no such run, or several.
    """
    runs = output_root() / "runs"
    for folder in (runs / given, Path(given)):
        if is_there(folder / "manifest.json"):
            return RunFolder(folder)
    ids = [folder.path.name for folder in run_folders()]
    matches = [run_id for run_id in ids if run_id.startswith(given)]
    if len(matches) == 1:
        return RunFolder(runs / matches[0])
    if matches:
        raise UserError(
            f"run {given!r} may be {', '.join(matches[:5])}{', ...' if len(matches) > 5 else ''}; type more of it"
        )
    guess = nearest(given, ids)
    hint = f"; did you mean {guess}?" if guess else ""
    raise UserError(f"There is no run {given!r} among the {len(ids)} of {runs}{hint}")
