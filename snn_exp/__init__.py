"""Experiments on spiking neural networks: PSP normalization, single-step S2NN, and their rivals."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snn_exp.training.task import Classification

try:
    __version__ = version("snn-exp")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "unknown"


def load(run: str | Path) -> Classification:
    """Load the trained network of a run from its stored config and weights; nothing is unpickled.

    Call it on pixels in [0, 1], or uint8, for logits; `.network` reads encoded steps. No data set is needed.

    Args:
        run: a run id, the beginning of one, or a run's folder.

    Raises:
        UserError: there is no such run, or it has no weights.
    """
    from snn_exp.training.load import load as load_task  # torch only where a network is wanted

    return load_task(run)
