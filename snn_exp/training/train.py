"""The way of one run, from config to result: the only function that sees the whole config."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NoReturn

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.data.datamodule import DataModule
from snn_exp.errors import UserError
from snn_exp.nn.kernels import ways_of
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import Ownership, owning, removed
from snn_exp.runs.provenance import now
from snn_exp.runs.run_files import Result
from snn_exp.runs.same_data import DataAtHand, Fingerprints, keep, require_split
from snn_exp.training import auto, callbacks, checkpoints
from snn_exp.training.build import costs_of_own_parts, facts_of, kernels_of
from snn_exp.training.compiling import Compiled
from snn_exp.training.ddp import together
from snn_exp.training.devices import hardware, require_devices
from snn_exp.training.evaluation import Evaluation, add_test_metrics, evaluate_trained, size_of
from snn_exp.training.layer_statistics import Layers, probe_validation
from snn_exp.training.log import RunLog, Say
from snn_exp.training.mirror import Mirror
from snn_exp.training.prepare import prepare, teach
from snn_exp.training.start import start_from
from snn_exp.training.task import Classification
from snn_exp.training.trackers import make_mirror
from snn_exp.training.vectorized import Seat
from snn_exp.training.watchers import Kept, watchers_of


def run(
    config: ExperimentConfig,
    *,
    echo: bool = True,
    live: bool = False,
    folder: RunFolder | None = None,
    seat: Seat | None = None,
    on_epoch: callbacks.OnEpoch | None = None,
) -> Result:
    """Train what the config describes, or return the stored result if that was done before.

    Args:
        config: the resolved config.
        echo: print what happens, besides logging it.
        live: show a live bar instead of one line per epoch.
        folder: where the run is kept, if not under the output root.
        seat: its place among runs that train in step, if it is one of them.
        on_epoch: asked after every epoch whether to stop it; of one process.

    Raises:
        Pruned: it was stopped by `on_epoch`.
        UserError: the stored run of this identity is damaged, of another config or of other data, or this machine lacks
            the devices or kernels that it asks for.
        Taken: another process trains it.
        Lost: another process has taken it over meanwhile.
    """
    folder = folder or RunFolder.of(config)
    if (complete := folder.complete_result(config)) is not None:
        DataAtHand().require(folder, config)
        return complete
    require_devices(config.trainer)
    say = RunLog(folder.path / "train.log", echo)
    with _disk_faults_in_words(folder), owning(folder.path) as ownership:
        if (complete := folder.complete_result(config)) is not None:  # another process has finished it meanwhile
            return complete
        if (trained := folder.result()) is not None:
            return add_test_metrics(trained, config, folder, say, live)
        if config.trainer.devices > 1:
            together(config.trainer.devices, run_rank, config, folder, ownership.token, say, live,
                     num_threads=auto.threads(config).value)  # fmt: skip
        else:
            _train(config, folder, ownership, say, live, seat, 0, on_epoch)
        result = folder.result()
        assert result is not None
        return result


def run_rank(rank: int, config: ExperimentConfig, folder: RunFolder, token: str, say: RunLog, live: bool) -> None:
    """Train a run as one of several processes that share its batches."""
    with _disk_faults_in_words(folder):
        _train(config, folder, Ownership(folder.path, token), say, live, rank=rank)


def _train(
    config: ExperimentConfig,
    folder: RunFolder,
    ownership: Ownership,
    log: RunLog,
    live: bool,
    seat: Seat | None = None,
    rank: int = 0,
    on_epoch: callbacks.OnEpoch | None = None,
) -> None:
    """Train a run, evaluate its best weights and store the result; ranks other than 0 only train their shares."""
    is_first = rank == 0
    say = log if is_first else callbacks.say_nothing
    with closing(make_mirror(config, folder, say) if is_first else Mirror()) as mirror:
        kernels = kernels_of(config)
        for slower in costs_of_own_parts(config, kernels):
            say(slower)
        answers = auto.answers(config, kernels)
        for line in auto.sentences(answers):
            say(line)
        key = DataAtHand().key(config)  # before the data are read
        data, task = prepare(config, kernels)
        if folder.last_checkpoint is not None:
            require_split(folder, data.dataset.fingerprint)
        teach(task, config, data)
        initial = start_from(task.network, config, data.dataset.fingerprint, say)
        layers: dict[str, Layers] = {}
        if is_first:
            folder.begin(
                config, hardware(), dataclasses.asdict(kernels), in_step=seat is not None, answers=answers,
                split_fingerprint=data.dataset.fingerprint, initial=initial,
            )  # fmt: skip
            layers["init"] = probe_validation(task, data)

        kept = Kept.of(config, data, folder, ownership, seat, say)
        asked = [callbacks.StopFromOutside(on_epoch)] if on_epoch else []
        watchers = [*watchers_of(folder, ownership, data, say, live, kept), *asked, mirror]
        trainer = _make_trainer(config, folder, watchers, live)
        compiled = Compiled(task.network, say) if config.trainer.compile else None
        with task.training_through(seat=seat, compiled=compiled):
            diverged = _fit(trainer, task, data, folder, kept.last, say)
        if not is_first:
            return
        if not diverged and asked and (stopped := asked[0].stopped) is not None:
            _store_pruned(config, folder, ownership, stopped, kept.clock, say, mirror)
        if ways := {name: dataclasses.asdict(way) for name, way in ways_of(task.network).items() if way.num_batches}:
            folder.keep_ways(ways)

        status, best_epoch, found = "done", None, Evaluation({}, {}, {})
        if diverged:
            say(f"diverged: {diverged}")
            status = "diverged"
        else:
            best_epoch, metrics = checkpoints.keep_best(task, kept.best.best_model_path, folder)
            layers["trained"] = probe_validation(task, data, trained=True)
            found = Evaluation(metrics, {}, {}) | evaluate_trained(config, task, data, folder, live)
        peeked = kept.peek.metrics(best_epoch) if kept.peek else {}
        result = Result(
            run_id=config.run_id, status=status, config=config.to_plain(),
            metrics=found.metrics | size_of(task, data) | peeked,
            duration_s=kept.clock.wall_s, cpu_s=kept.clock.cpu_s, peak_memory_mib=kept.memory.peak_mib,
            finished_at=now(), best_epoch=best_epoch, compile_s=compiled.seconds if compiled else None,
            split_fingerprint=data.dataset.fingerprint, layers=layers, operations=found.operations,
            confusion=found.confusion, data=facts_of(data),
            stopped_epoch=kept.patience.last_epoch if kept.patience else None,
        )  # fmt: skip
        keep(config, key, Fingerprints(data.dataset.fingerprint, folder.test_fingerprint()))
        ownership.check()
        mirror.finish(result)
        folder.finish(result)


def _store_pruned(
    config: ExperimentConfig, folder: RunFolder, ownership: Ownership, stopped: callbacks.Stopped,
    clock: callbacks.Clock, say: Say, mirror: Mirror,
) -> NoReturn:  # fmt: skip
    """Store that the run was stopped before its end.

    Raises:
        Pruned: always.
    """
    ownership.check()
    mirror.prune(folder.prune(stopped.num_epochs, stopped.metrics, clock.wall_s, clock.cpu_s))
    say(f"pruned after epoch {stopped.num_epochs} of {config.trainer.max_epochs}")
    raise callbacks.Pruned(f"pruned after epoch {stopped.num_epochs}")


@contextmanager
def _disk_faults_in_words(folder: RunFolder) -> Iterator[None]:
    """Raise a user error where the disk of a run is full, or its folder removed, inside the block."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not folder.path.exists():
            raise removed(folder.path) from error
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the disk of {folder.path} is full; make room and type the same command again, and the run resumes "
            f"from its last checkpoint"
        ) from error


def _make_trainer(config: ExperimentConfig, folder: RunFolder, watchers: list[Callback], live: bool) -> pl.Trainer:
    """Make the trainer of a run; `evaluation` has its own."""
    return pl.Trainer(
        max_epochs=config.trainer.max_epochs,
        precision=config.trainer.precision,
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        strategy="ddp" if config.trainer.devices > 1 else "auto",
        gradient_clip_val=float(config.optim["clip_norm"] or 0) or None,
        callbacks=watchers,
        logger=False,
        enable_progress_bar=live,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        plugins=[
            LightningEnvironment(),  # a job of Slurm trains alone, whatever its variables say
            checkpoints.WholeCheckpoints(),
        ],
        default_root_dir=folder.path,
    )


def _fit(
    trainer: pl.Trainer, task: Classification, data: DataModule, folder: RunFolder, last: checkpoints.LastCheckpoint,
    say: Say,
) -> str:  # fmt: skip
    """Train, from the last checkpoint if there is one; return why the training diverged, or ""."""
    diverged = ""
    trainer.strategy.precision_plugin.convert_module(task)  # a float32 network would round a float64 checkpoint
    resumption = checkpoints.where_to_resume(folder, task, say)
    if resumption is not None:
        data.go_on(resumption.epoch, resumption.batch)
        say(resumption.sentence(int(trainer.max_epochs or 0), data.num_batches))
    try:
        with checkpoints.setting_aside(resumption, last):
            trainer.fit(
                task,
                data.train_dataloader(),
                data.val_dataloader(),
                ckpt_path=resumption.path if resumption else None,
                weights_only=True,
            )
    except callbacks.Diverged as reason:
        diverged = str(reason)
    if trainer.world_size > 1:
        trainer.strategy.barrier()
        torch.distributed.destroy_process_group()
    return diverged
