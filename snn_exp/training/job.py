"""One run inside a multirun."""

from __future__ import annotations

import traceback

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.escaping import say
from snn_exp.runs.folder import DamagedRun, RunFolder
from snn_exp.runs.lock import Lost, Taken
from snn_exp.training import train
from snn_exp.training.callbacks import OnEpoch, Pruned
from snn_exp.training.vectorized import Seat


def run_or_store_failure(
    config: ExperimentConfig, *, echo: bool = False, seat: Seat | None = None, on_epoch: OnEpoch | None = None
) -> None:
    """Run one config of a multirun: a crash is stored in its folder, and the sweep continues."""
    try:
        train.run(config, echo=echo, seat=seat, on_epoch=on_epoch)
    except Pruned:
        pass  # which its folder says
    except (Taken, Lost, DamagedRun) as reason:
        say(reason)  # the run is in other hands or cannot be read, so nothing of it is stored here
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        try:
            RunFolder.of(config).fail(said, traceback.format_exc(), config)
        except OSError:  # on a full disk
            say(f"failed {config.label}: {said}")
