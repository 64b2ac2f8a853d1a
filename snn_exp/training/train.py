"""The way of one run, from config to result: the only function that sees the whole config."""

from __future__ import annotations

import dataclasses
import errno
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from statistics import median

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from torch.nn import functional

from snn_exp.config.experiment import ExperimentConfig, TrainerConfig
from snn_exp.data.datamodule import DataModule
from snn_exp.errors import UserError
from snn_exp.escaping import say
from snn_exp.nn.kernels import Choice, is_on_a_gpu
from snn_exp.runs.folder import DamagedRun, Operations, Result, RunFolder, now
from snn_exp.runs.lock import Lost, Ownership, Taken, owning, removed
from snn_exp.runs.same_data import DataAtHand, Fingerprints, keep, require_split
from snn_exp.runs.teacher import teacher_of
from snn_exp.training import callbacks, checkpoints, log
from snn_exp.training.build import build_data, build_task, kernels_of, load_teacher
from snn_exp.training.compiling import Compiled, require_compiler
from snn_exp.training.ddp import together
from snn_exp.training.devices import hardware
from snn_exp.training.evaluation import count_on_validation, size_of, test_stored
from snn_exp.training.layer_statistics import NUM_SAMPLES, Layers, probe
from snn_exp.training.saved_weights import write_weights
from snn_exp.training.task import Classification
from snn_exp.training.vectorized import Seat
from snn_exp.training.wandb_logger import Mirror, make_mirror


def run(
    config: ExperimentConfig,
    *,
    echo: bool = True,
    live: bool = False,
    folder: RunFolder | None = None,
    seat: Seat | None = None,
) -> Result:
    """Trains what the config describes, or returns the stored result if that was done before.

    Args:
        config: the resolved config.
        echo: print what happens, and not only log it.
        live: show a live bar instead of a line an epoch.
        folder: where it is kept, if not under the output root.
        seat: among runs that train in step, if it is one of them.

    Raises:
        UserError: the stored run of this identity is damaged, of another config or of other data, or its kernels cannot
            be had.
        Taken: another process trains it.
        Lost: another process has taken it over meanwhile.
    """
    folder = folder or RunFolder.of(config)
    if (stored := folder.result()) is not None and folder.is_complete(config):
        DataAtHand().require(folder, config)
        return stored
    require_devices(config.trainer)
    with _a_full_disk_in_words(folder), owning(folder.path) as ownership:
        if config.trainer.devices > 1 and folder.result() is None:
            together(config.trainer.devices, _run_one_of, config, folder, ownership.token, echo, live)
        return _run(config, folder, ownership, echo, live, seat)


@contextmanager
def _a_full_disk_in_words(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not folder.path.exists():
            raise removed(folder.path) from error
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the disk of {folder.path} is full; make room and type the same command again, and the run goes on from "
            f"its last checkpoint"
        ) from error


def _run_one_of(rank: int, config: ExperimentConfig, folder: RunFolder, token: str, echo: bool, live: bool) -> None:
    """What each of several processes does: the first all of a run, the others their shares of the training."""
    os.environ.setdefault("OMP_NUM_THREADS", str(config.trainer.num_threads))  # else Lightning takes all cores
    ownership = Ownership(folder.path, token)
    if rank == 0:
        with _a_full_disk_in_words(folder):
            _run(config, folder, ownership, echo, live)
        return
    data, task = _prepare(config, kernels_of(config))
    _teach(task, config, data)
    kept = Kept.of(config, folder, ownership)
    watchers = _watchers(folder, ownership, data, callbacks.say_nothing, live, kept)
    trainer = _make_trainer(config, folder, watchers, live, config.trainer.devices)
    _fit(trainer, task, data, folder, kept.last, callbacks.say_nothing)


def _run(
    config: ExperimentConfig,
    folder: RunFolder,
    ownership: Ownership,
    echo: bool,
    live: bool,
    seat: Seat | None = None,
) -> Result:
    stored = folder.result()
    if stored is not None and folder.is_complete(config):  # by who owned it before
        return stored
    say = log.RunLog(folder.path / "train.log", echo)
    with closing(make_mirror(config, folder, say)) as mirror:
        return _train(config, folder, ownership, stored, mirror, say, live, seat)


def _train(
    config: ExperimentConfig,
    folder: RunFolder,
    ownership: Ownership,
    stored: Result | None,
    mirror: Mirror,
    say: log.RunLog,
    live: bool,
    seat: Seat | None,
) -> Result:
    """The whole run, or what a stored one lacks."""
    kernels = kernels_of(config)
    key = DataAtHand().key(config)  # before the data are read
    data, task = _prepare(config, kernels)
    if stored is not None or folder.last_checkpoint is not None:
        require_split(folder, data.dataset.fingerprint)
    if stored is None:
        _teach(task, config, data)
        folder.begin(
            config, hardware(), dataclasses.asdict(kernels), in_step=seat is not None,
            split_fingerprint=data.dataset.fingerprint,
        )  # fmt: skip
        layers = {"init": _probe(task, data)}
    kept = Kept.of(config, folder, ownership, seat)
    watchers = [*_watchers(folder, ownership, data, say, live, kept), mirror]
    devices = config.trainer.devices if stored is None else 1
    trainer = _make_trainer(config, folder, watchers, live, devices)
    if stored is not None:
        tested, counts = test_stored(trainer, task, data, folder)
        result = dataclasses.replace(
            stored, metrics={**stored.metrics, **tested}, operations={**stored.operations, **counts}
        )
        keep(config, key, Fingerprints(data.dataset.fingerprint, data.dataset.test_fingerprint))
        mirror.finish(result)
        folder.finish(result)
        return result
    operations: dict[str, Operations] = {}
    compiled = Compiled(task.network, say) if config.trainer.compile else None
    with task.training_through(seat=seat, compiled=compiled):
        diverged = _fit(trainer, task, data, folder, kept.last, say)
    if diverged:
        say(f"diverged: {diverged}")
        status, best_epoch, metrics = "diverged", None, {}
    else:
        if devices > 1:  # what is evaluated from here on is evaluated once
            trainer = _make_trainer(config, folder, watchers, live, devices=1)
        status, best_epoch, metrics = "done", *_keep_best(task, kept.best.best_model_path, folder)
        layers["trained"] = _probe(task, data, trained=True)
        counted, operations = count_on_validation(trainer, task, data)
        metrics |= counted
        if config.trainer.test:
            tested, counts = test_stored(trainer, task, data, folder)
            metrics, operations = metrics | tested, operations | counts
    metrics |= size_of(task, data)
    result = Result(
        run_id=config.run_id, status=status, config=config.to_plain(), metrics=metrics, duration_s=kept.clock.wall_s,
        cpu_s=kept.clock.cpu_s, peak_memory_mib=kept.memory.peak_mib, finished_at=now(), best_epoch=best_epoch,
        compile_s=compiled.seconds if compiled else None,
        split_fingerprint=data.dataset.fingerprint, layers=layers, operations=operations,
    )  # fmt: skip
    keep(config, key, Fingerprints(data.dataset.fingerprint, folder.test_fingerprint()))
    ownership.check()
    mirror.finish(result)
    folder.finish(result)
    return result


def run_or_store_failure(config: ExperimentConfig, *, echo: bool = False, seat: Seat | None = None) -> None:
    """A run inside a multirun: a crash is stored, and the sweep goes on."""
    try:
        run(config, echo=echo, seat=seat)
    except (Taken, Lost, DamagedRun) as reason:
        say(reason)  # the run is in other hands or cannot be read, so nothing of it is stored here
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        try:
            RunFolder.of(config).fail(said, traceback.format_exc())
        except OSError:  # on a full disk
            say(f"failed {config.label}: {said}")


def require_devices(trainer: TrainerConfig) -> None:
    """For what a run asks of this machine.

    Raises:
        UserError: it has not the devices, the precision or the compiler.
    """
    if trainer.accelerator == "gpu" and not torch.accelerator.is_available():
        raise UserError(
            "trainer.accelerator=gpu, and torch finds no GPU on this machine; leave it out, or type "
            "trainer.accelerator=cpu"
        )
    on_a_gpu, num_gpus = is_on_a_gpu(trainer), torch.cuda.device_count()
    if on_a_gpu and 1 < trainer.devices > num_gpus:
        raise UserError(
            f"trainer.devices={trainer.devices} asks for more GPUs than the {num_gpus} of this machine; type "
            f"trainer.devices={max(1, num_gpus)}, or trainer.accelerator=cpu"
        )
    on_cuda = on_a_gpu and torch.cuda.is_available()
    if on_cuda and trainer.precision == "bf16-mixed" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            "trainer.precision=bf16-mixed, and this GPU does not compute in bfloat16; type trainer.precision=16-mixed, "
            "32-true, or trainer.accelerator=cpu"
        )
    if trainer.precision == "16-mixed" and not on_a_gpu:
        raise UserError(
            "trainer.precision=16-mixed needs a GPU, and this run would compute on a CPU, in bfloat16 under that name; "
            "type trainer.precision=bf16-mixed"
        )
    if trainer.compile:
        require_compiler("cuda" if on_cuda else "cpu")


def _prepare(config: ExperimentConfig, kernels: Choice) -> tuple[DataModule, Classification]:
    log.quiet_libraries()
    torch.set_num_threads(config.trainer.num_threads)
    pl.seed_everything(config.seed, verbose=False)
    data = build_data(config)
    data.require_shares(config.trainer.devices)
    return data, build_task(config, data, kernels)


def _teach(task: Classification, config: ExperimentConfig, data: DataModule) -> None:
    if teacher := teacher_of(config):
        task.learn_from(load_teacher(teacher, data))


def seconds_measured(config: ExperimentConfig, num_steps: int = 3) -> float:
    """CPU time that a run would take, by a few training steps; what else a run does is about a tenth."""
    torch.set_num_threads(config.trainer.num_threads)
    data = build_data(config)
    task = build_task(config, data, kernels_of(config))
    optimizer, _ = task.optim.build(task.network, len(data.train_dataloader()))
    task.network.train()
    spent = []
    for (x, y_B), _ in zip(data.train_dataloader(), range(1 + num_steps), strict=False):
        start = time.process_time()
        functional.cross_entropy(task(x), y_B).backward()
        optimizer.step()
        spent.append(time.process_time() - start)
    return 1.1 * median(spent[1:] or spent) * len(data.train_dataloader()) * config.trainer.max_epochs


@dataclasses.dataclass(frozen=True)
class Kept:
    """The callbacks whose state a checkpoint keeps, and which write it."""

    clock: callbacks.Clock
    memory: callbacks.PeakMemory
    best: checkpoints.BestCheckpoint
    last: checkpoints.LastCheckpoint

    @classmethod
    def of(cls, config: ExperimentConfig, folder: RunFolder, ownership: Ownership, seat: Seat | None = None) -> Kept:
        """Those of a run."""
        return cls(
            callbacks.Clock(seat.cpu_s if seat else time.process_time),
            callbacks.PeakMemory(),
            checkpoints.BestCheckpoint(folder.checkpoints),
            checkpoints.LastCheckpoint(
                folder.checkpoints, ownership, 60 * config.trainer.checkpoint_every_minutes, seat
            ),
        )


def _watchers(
    folder: RunFolder, ownership: Ownership, data: DataModule, say: callbacks.Say, live: bool, kept: Kept
) -> list[Callback]:
    return [
        callbacks.StopWhenLost(ownership),
        callbacks.KeepSigterm(),
        kept.clock,
        kept.memory,
        kept.best,
        kept.last,
        callbacks.StopOnDivergence(folder.path),
        callbacks.EpochTable(folder.metrics_csv),
        callbacks.FiringWarnings(say),
        TQDMProgressBar(leave=False) if live else callbacks.EpochLine(say, data.num_train),
    ]


def _make_trainer(
    config: ExperimentConfig, folder: RunFolder, watchers: list[Callback], live: bool, devices: int
) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=config.trainer.max_epochs,
        precision=config.trainer.precision,
        accelerator=config.trainer.accelerator,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
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
    say: callbacks.Say,
) -> str:  # fmt: skip
    """Trains, from the last checkpoint if there is one; why it diverged, if it did."""
    diverged = ""
    trainer.strategy.precision_plugin.convert_module(task)  # a float32 network would round a float64 checkpoint
    resumption = checkpoints.where_to_resume(folder, task, say)
    if resumption is not None:
        data.go_on(resumption.epoch, resumption.batch)
        say(resumption.sentence(int(trainer.max_epochs or 0), data.num_batches))
    try:
        with checkpoints.setting_aside(resumption, last):
            trainer.fit(task, data, ckpt_path=resumption.path if resumption else None, weights_only=True)
    except callbacks.Diverged as reason:
        diverged = str(reason)
    if trainer.world_size > 1:
        trainer.strategy.barrier()
        torch.distributed.destroy_process_group()
    return diverged


def _keep_best(task: Classification, checkpoint: str, folder: RunFolder) -> tuple[int, dict[str, float]]:
    """Loads the best epoch's weights into the network and stores them; its number and its metrics."""
    best = checkpoints.read_best(checkpoint)
    task.load_state_dict(best["state_dict"])
    write_weights(task.network, folder.weights)
    row = folder.epochs()[int(best["epoch"])]
    return int(best["epoch"]), {key: float(value) for key, value in row.items() if key != "epoch"}


def _probe(task: Classification, data: DataModule, *, trained: bool = False) -> Layers:
    """What the first validation samples show of every layer."""
    x, y_B = data.some_validation_samples(NUM_SAMPLES)
    return probe(task.cpu(), x.to(task.dtype), y_B, trained=trained)
