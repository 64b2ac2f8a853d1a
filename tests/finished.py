"""Finished runs for tests that only read one: trained once per process, a copy for each test."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Result
from snn_exp.training import train

# most tests take this run, so that few are trained
TINY = (
    "network.width=4", "logger=none", "trainer.progress=false", "optim.batch_size=128", "trainer.max_epochs=1",
    "neuron=s2nn", "residual=bireal",
)  # fmt: skip


@dataclass
class Finished:
    """Puts finished runs into the output root of a test.

    Args:
        kept: folder of the runs that have been trained.
    """

    kept: Path
    _folders: dict[str, Path] = field(default_factory=dict)

    def __call__(self, *overrides: str) -> tuple[ExperimentConfig, Result]:
        """Return config and result of TINY with other values, whose folder the test may do with as it likes."""
        config = compose([*TINY, *overrides])
        wanted = json.dumps(config.to_plain())  # with what decides nothing, such as whether it is tested
        if wanted not in self._folders:
            kept = self.kept / f"{len(self._folders)}" / config.run_id
            train.run(config, echo=False, folder=RunFolder(kept))
            self._folders[wanted] = kept
        folder = RunFolder.of(config)
        shutil.rmtree(folder.path, ignore_errors=True)
        shutil.copytree(self._folders[wanted], folder.path)
        result = folder.result()
        assert result is not None
        return config, result
