"""Stopping trials early, by their validation accuracy after each epoch. No torch.

A pruned trial is a result of its own kind: it is never tested, never among the best, and never compared with whole
runs. Its checkpoint stays, so that its command trains it to its end.
"""

from __future__ import annotations

from collections.abc import Mapping

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner

from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Pruned
from snn_exp.sweeps.search import Search

NUM_UNPRUNED = 5  # trials of the median, before there is one to compare with
REDUCTION = 3  # of Hyperband: one trial in so many goes on at each rung


def pruner_of(search: Search) -> BasePruner:
    """Return what decides after each epoch whether a trial goes on.

    `median` stops a trial that is worse after some epochs than half of the trials before it, once `NUM_UNPRUNED` are
    there and a sixth of the epochs are trained. `hyperband` trains many for few epochs and few for all of them.
    """
    if search.pruner == "median":
        return MedianPruner(n_startup_trials=NUM_UNPRUNED, n_warmup_steps=max(1, search.max_epochs // 6))
    if search.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=search.max_epochs, reduction_factor=REDUCTION)
    return NopPruner()


class Curve:
    """A trial's validation accuracy after each epoch, as the pruner reads it.

    Args:
        trial: the trial.
        reported: the epochs of which it has been told.
        folder: of the trial's run; its stored epochs are reported at once.
    """

    def __init__(self, trial: optuna.Trial, reported: set[int], folder: RunFolder) -> None:
        self._trial = trial
        self._reported = set(reported)
        self._folder = folder
        for row in folder.epochs():
            self._report(int(row["epoch"]) + 1, float(row["val/acc"]))

    def __call__(self, num_epochs: int, metrics: Mapping[str, float]) -> bool:
        """Report an epoch; return whether the pruner stops the run."""
        self._report(num_epochs, metrics["val/acc"])
        return bool(self._trial.should_prune())

    def stopped_before(self) -> Pruned | None:
        """Return where its run stands, if it was stopped there before and the pruner would stop it there again."""
        pruned = self._folder.pruned()
        return pruned if pruned is not None and self._trial.should_prune() else None

    def _report(self, num_epochs: int, accuracy: float) -> None:
        if num_epochs not in self._reported:  # a run that was killed behind its checkpoint trains an epoch again
            self._reported.add(num_epochs)
            self._trial.report(accuracy, num_epochs)
