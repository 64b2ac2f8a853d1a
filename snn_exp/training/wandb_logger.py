"""A copy of a run in W&B, made from the run's folder, which is authoritative.

Every copy is complete. A run that resumes from its checkpoint, or is tested later, is copied again from its first
epoch, and that copy replaces the previous one: here, and in W&B under the same id. The same happens when a
connection is lost.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pytorch_lightning as pl

from snn_exp.config.experiment import ASIDE, GROUPS, ExperimentConfig
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Pruned, Result
from snn_exp.runs.wandb_record import LAYER, layer_rows, quiet_wandb, summary_of, wandb_is_offline
from snn_exp.training.log import Say
from snn_exp.training.mirror import Mirror

if TYPE_CHECKING:
    import wandb


PATIENCE_S = 20.0  # timeout for W&B to answer, when a copy starts and when it ends


class WandbMirror(Mirror):
    """Copies a run to W&B: each epoch as it ends, and the result. It never prompts, and never ends a run.

    Args:
        config: of the run.
        folder: of the run; everything is read from there.
        say: called with a line if the copy is not online.
    """

    _num_teardowns: ClassVar[int] = 0  # each ends all copies of this process, which has several with vectorized seeds

    def __init__(self, config: ExperimentConfig, folder: RunFolder, say: Say) -> None:
        self.config = config
        self.folder = folder
        self.say = say
        self._modes = ["offline"] if wandb_is_offline() else ["online", "offline"]  # the first, until it fails
        self._run: wandb.Run | None = None
        self._num_epochs = 0
        self._made_after = 0  # as many teardowns

    @property
    def _sync(self) -> str:
        return f"wandb sync {shlex.quote(str(self.folder.path / 'wandb'))}/offline-run-*"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the copy, before the clock of the fit starts."""
        self._copy(self._begun)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the finished epochs of an interrupted run."""
        self._copy(self._follow)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the epoch."""
        self._copy(self._follow)

    def finish(self, result: Result) -> None:
        def end() -> None:
            run = self._follow()
            for row in layer_rows(result.layers):
                run.log(row, commit=True)
            summary = summary_of(result)
            run.summary.update(summary)
            for key in run.summary.keys() - summary.keys():
                if not key.startswith("_"):  # W&B keeps the last of every curve by itself, of a diverged run as well
                    del run.summary[key]
            run.finish()

        self._copy(end)
        self._run = None

    def prune(self, pruned: Pruned) -> None:
        def end() -> None:
            run = self._follow()
            run.tags = (*(run.tags or ()), "pruned")
            run.summary.update({"status": "pruned", **pruned.model_dump(exclude={"metrics"})})
            run.finish()

        self._copy(end)
        self._run = None

    def close(self) -> None:
        if self._run is not None:
            self._copy(lambda: self._follow().finish(exit_code=1))
            self._run = None

    def _copy(self, act: Callable[[], Any]) -> None:
        """Perform an action on the copy; if W&B fails, start again offline."""
        while self._modes:
            try:
                act()
                return
            except Exception as error:  # of many kinds, none of which may end a training
                self._fall_back(str(error).partition("\n")[0] or type(error).__name__)

    def _fall_back(self, reason: str) -> None:
        import wandb

        self._modes.pop(0)
        self._run, self._num_epochs = None, 0
        wandb.teardown()  # it holds on to the id
        WandbMirror._num_teardowns += 1
        then = f"the run is kept for `{self._sync}`" if self._modes else "the run continues without a copy"
        self.say(f"warning: W&B failed ({reason}); {then}")

    def _follow(self) -> wandb.Run:
        """Return the copy, with all epochs that metrics.csv has by now."""
        run = self._begun()
        for row in self.folder.epochs()[self._num_epochs :]:
            run.log({k: int(v) if k == "epoch" else float(v) for k, v in row.items()}, commit=True)
            self._num_epochs += 1
        return run

    def _begun(self) -> wandb.Run:
        """Return the copy; start one if there is none."""
        if self._run is not None and self._made_after == self._num_teardowns:
            return self._run
        if self._run is not None:
            self._num_epochs = 0
            if self._modes[0] == "online":
                self.say(f"warning: W&B failed for another seed; the run is kept for `{self._sync}`")
            self._modes = ["offline"]
        self._made_after = self._num_teardowns
        quiet_wandb()
        import wandb

        if wandb_is_offline():
            self.say(f"W&B is offline (not logged in): `{self._sync}` sends the run later; logger=none leaves it out")
        shutil.rmtree(self.folder.path / "wandb", ignore_errors=True)
        plain = self.config.to_plain()
        made_by = {k: v for k, v in self.folder.manifest().items() if k not in ("run_id", "config")}
        self._run = wandb.init(
            project=self.config.logger.project,
            id=self.config.run_id,
            name=f"{self.config.label} {self.config.run_id}",  # a label may be that of several runs
            group=self.config.logger.group or self.config.experiment,
            tags=[f"{g}={plain[g]['name']}" for g in GROUPS if g not in ASIDE and "name" in plain.get(g, {})],
            config={**plain, "made_by": made_by},
            dir=str(self.folder.path),
            mode=self._modes[0],  # type: ignore[arg-type]
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", save_code=False, disable_git=True, init_timeout=PATIENCE_S,
                finish_timeout=PATIENCE_S, finish_timeout_raises=True, x_disable_stats=True, x_disable_meta=True,
                x_disable_machine_info=True, x_save_requirements=False,
            ),
        )  # fmt: skip
        self._run.define_metric("layers/*", step_metric=LAYER, summary="none")
        return self._run
