"""The folders that a command reads and writes: outputs/, and the data sets. No torch."""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path

from snn_exp.errors import UserError


def output_root() -> Path:
    """Return the output folder: SNN_EXP_OUTPUT, or outputs/ here.

    Raises:
        UserError: no folder is there, and none can be made.
    """
    given = os.environ.get("SNN_EXP_OUTPUT") or "outputs"
    _require_place(given)
    return Path(given)


@functools.lru_cache
def _require_place(given: str) -> None:
    """Refuse an output folder that does not exist and cannot be created."""
    why, place = "", Path(given)
    try:
        given.encode()
        if not stat.S_ISDIR(place.stat().st_mode):
            why = f"{place} is not a folder"
    except UnicodeEncodeError:
        why = "its name is not valid UTF-8"
    except (FileNotFoundError, NotADirectoryError):
        there = next(each for each in (place, *place.absolute().parents) if os.path.lexists(each))
        if there.is_symlink() and not there.exists():
            why = f"{there} is a broken link"
        elif not there.is_dir():
            why = f"{there} is not a folder"
    except PermissionError:
        pass  # whoever writes there is told
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise UserError(f"the output folder {given} cannot be written ({why}); set SNN_EXP_OUTPUT to one that can")


def data_root() -> Path:
    """Return the data folder: SNN_EXP_DATA, or data/ in the output folder."""
    return Path(os.environ.get("SNN_EXP_DATA") or output_root() / "data")
