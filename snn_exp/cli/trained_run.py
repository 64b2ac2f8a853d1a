"""The finished run that verify, fold and export begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snn_exp.escaping import say

if TYPE_CHECKING:  # imported where needed, so that --help needs neither torch nor Hydra
    from snn_exp.config.experiment import ExperimentConfig
    from snn_exp.runs.folder import RunFolder


def trained_run(run: str) -> tuple[RunFolder, ExperimentConfig]:
    """Return a run that has weights, and its config, once its data are there."""
    from snn_exp.runs.find import find_run
    from snn_exp.training import preflight

    folder = find_run(run)
    config = folder.trained_config()
    if note := folder.check_stored(config):
        say(note)
    preflight.require_data([config])
    return folder, config
