"""Where a run's words and numbers go: its log file, the terminal, and W&B.

metrics.csv is always written (see callbacks); what is added is chosen by the config group `logger`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from snn_exp.config import GROUPS, ExperimentConfig


class RunLog:
    """A run's words: each line goes to train.log, and to the terminal if asked.

    Args:
        path: of the log file.
        echo: print as well.
    """

    def __init__(self, path: Path, echo: bool) -> None:
        self.path = path
        self.echo = echo

    def __call__(self, line: str) -> None:
        """Says one line."""
        with self.path.open("a") as file:
            file.write(line + "\n")
        if self.echo:
            print(line, flush=True)


def quiet_libraries() -> None:
    """Silences what Lightning and its kin say at every start and what nobody can act on."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric|torch\.utils\.data")
    warnings.filterwarnings("ignore", message=r".*(lr_scheduler\.step|srun|isinstance\(treespec, LeafSpec\)).*")


def wandb_is_offline() -> bool:
    """Whether W&B runs offline: it was told to, or nobody is logged in (no WANDB_API_KEY, no entry in .netrc)."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode != "online"
    return not (os.environ.get("WANDB_API_KEY") or _netrc_has_wandb())


def _netrc_has_wandb() -> bool:
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return "wandb" in path.read_text()
    except OSError:
        return False


def make_loggers(config: ExperimentConfig, folder: Path, say: RunLog) -> list[Logger]:
    """The chosen loggers of a run; W&B never asks and never waits."""
    if config.logger.name == "none":
        return []
    offline = wandb_is_offline()
    if offline:
        say("W&B is offline (not logged in): `wandb sync` sends the run later; logger=none leaves it out")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    plain = config.to_plain()
    return [
        WandbLogger(
            project=config.logger.project,
            id=config.run_id,
            name=config.label,
            group=config.experiment,
            tags=[f"{group}={plain[group]['name']}" for group in GROUPS if "name" in plain[group]],
            config=plain,
            save_dir=str(folder),
            offline=offline,
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True),
        )
    ]


def close_loggers(loggers: list[Logger], summary: Mapping[str, Any]) -> None:
    """Writes the run's summary and ends W&B, so that the next run of this process begins its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            logger.experiment.summary.update(dict(summary))
            wandb.finish()
