"""The trackers that keep copies of runs besides metrics.csv: names, several in one, what each needs. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from snn_exp.errors import UserError, unknown

ALONE = ("csv", "none")  # nothing besides metrics.csv, which every run writes; two words for it
PACKAGES = {"wandb": "wandb", "tensorboard": "tensorboard", "mlflow": "mlflow", "trackio": "trackio"}
NAMES = (*ALONE, *PACKAGES)


def joined(names: Sequence[str]) -> str:
    """Return several loggers as one value of the config.

    Raises:
        UserError: there is none, or one of them is unknown.

    Example:
        >>> joined(["csv", "tensorboard", "csv"])
        'csv+tensorboard'
    """
    if not names:
        raise UserError("logger=[] names no logger; type logger=csv for metrics.csv alone")
    for name in names:
        if name not in NAMES:
            raise unknown("logger", name, NAMES, "logger={}")
    return "+".join(dict.fromkeys(names))


def trackers_of(name: str) -> tuple[str, ...]:
    """Return the trackers in the name of a config's logger.

    Raises:
        UserError: one of them is unknown.

    Example:
        >>> trackers_of("csv+tensorboard"), trackers_of("none")
        (('tensorboard',), ())
    """
    return tuple(each for each in joined(name.split("+")).split("+") if each not in ALONE)


def require_installed(name: str) -> None:
    """Refuse a logger whose package is not there.

    Raises:
        UserError: with what to type.
    """
    for tracker in trackers_of(name):
        if find_spec(PACKAGES[tracker]) is None:
            raise UserError(
                f"logger={tracker} needs the package {PACKAGES[tracker]}, which is not installed; type pip install "
                f"'snn-exp[{tracker}]', or logger=csv, which needs nothing"
            )
