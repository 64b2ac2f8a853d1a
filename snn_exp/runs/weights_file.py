"""The file of a run's weights, checked by its header: it is there, whole, and of safetensors. No torch."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from snn_exp.errors import UserError
from snn_exp.files import printable


def require_weights(path: Path, again: str) -> None:
    """Check that weights can be read.

    Args:
        path: the file.
        again: how to make the file again, such as "train run 0123456789 again with --rerun".

    Raises:
        UserError: the file is missing, truncated, or not a file of weights.
    """
    if not path.exists():
        raise UserError(f"the weights {path} are missing; put the file back, or {again}")
    try:
        if not path.is_file():
            raise OSError("it is no regular file")
        with safe_open(path, "numpy"):
            pass
    except (OSError, SafetensorError) as error:
        raise damaged(path, printable(str(error), 200) or type(error).__name__, again) from error


def damaged(path: Path, why: str, again: str) -> UserError:
    """Return the error for weights that are there and cannot be used; `again` as in `require_weights`."""
    return UserError(f"the weights {path} are damaged ({why}); put the file back, or {again}")
