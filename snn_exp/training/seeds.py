"""Runs that differ in their seed only, trained as one network."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.runs.folder import RunFolder
from snn_exp.training import callbacks, checkpoints
from snn_exp.training.build import DataSpec, assemble, build_data, build_task
from snn_exp.training.job import run_or_store_failure
from snn_exp.training.stacking import what_cannot_be_stacked
from snn_exp.training.task import Classification
from snn_exp.training.vectorized import Lockstep, Seat


def run_in_step(configs: Sequence[ExperimentConfig]) -> None:
    """Train runs of a multirun that differ only in their seed as one network.

    Only runs at the same batch of their epochs are trained together, so that their batches are of one size: first those
    that resume from a checkpoint, then those that start, since a norm may treat its first batch differently.

    Raises:
        UserError: a part of their networks mixes channels.
    """
    require_stackable(configs[0])
    every_s = 60 * min(config.trainer.checkpoint_every_minutes for config in configs)
    for same_batch in _at_the_same_batch(configs):
        jobs = [functools.partial(_run_in_seat, config) for config in same_batch]
        Lockstep(len(jobs), every_s).run(jobs)


def _at_the_same_batch(configs: Sequence[ExperimentConfig]) -> list[list[ExperimentConfig]]:
    """Group runs by the batch after which they resume; those that start come last."""
    groups: dict[int, list[ExperimentConfig]] = {}
    begin: list[ExperimentConfig] = []
    task: Classification | None = None
    for config in configs:
        folder = RunFolder.of(config)
        if folder.last_checkpoint is not None and task is None:
            task = Classification.of(build_task(config, build_data(config)))  # the others' differ in their seed only
        where = task and checkpoints.where_to_resume(folder, task, callbacks.say_nothing)
        (groups.setdefault(where.batch, []) if where else begin).append(config)
    return [*groups.values(), *([begin] if begin else [])]


def _run_in_seat(config: ExperimentConfig, seat: Seat) -> None:
    """Run one config among those that train in step."""
    run_or_store_failure(config, seat=seat)


def require_stackable(config: ExperimentConfig) -> None:
    """Check that the networks of several seeds can be trained as one.

    Raises:
        UserError: a part of the network mixes channels, or has a tensor without one value per channel.
    """
    small = DataSpec(in_shape=(1, 8, 8), num_classes=2, pixel_mean=0.0, pixel_std=1.0)
    if part := what_cannot_be_stacked(assemble(config, small).network):
        raise UserError(
            f"trainer.vectorized_seeds=true trains the networks of several seeds as one, channels beside channels, but "
            f"{part} mixes channels or has a tensor without one value per channel; leave it out"
        )
