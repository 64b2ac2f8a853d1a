"""Checks before the first step of a run whose config is valid: the runs it names and this machine.

Both `plan` and `train` make them. torch is imported only for a check that needs it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence

from snn_exp.config import footprint, loggers, processor, schemas, sizes
from snn_exp.config.experiment import ExperimentConfig, TrainerConfig
from snn_exp.errors import UserError
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import data_root
from snn_exp.runs.same_data import DataAtHand
from snn_exp.runs.source import source_of
from snn_exp.runs.teacher import NONE_COMING, require_the_split, teacher_of
from snn_exp.runs.weights_file import require_weights

# lif_bn at 8x8, width 16, batch 32, with AVX2 alone, 11 to 19 in three processes each, and 12 on a Zen 3:
# ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/training.py
SLOWER_IN_BFLOAT16 = 12


def require(config: ExperimentConfig, coming: Mapping[str, ExperimentConfig] = NONE_COMING) -> None:
    """Check the requirements of a run besides its config.

    Args:
        config: of the run.
        coming: run id -> config of those that will have been trained by then: it may start from one, or learn from it.

    Raises:
        UserError: its teacher cannot teach it; it cannot start from the run that it names; the weights of one of the
            two cannot be read; this machine lacks the devices, the precision, the compiler, the kernels or the logger
            that it asks for; its network cannot be vectorized over seeds.
    """
    loggers.require_installed(config.logger.name)
    for named in _named_runs(config, coming).values():
        require_weights(named.weights, f"train run {named.path.name} again with --rerun")
    trainer = config.trainer
    if _asks_for_something(trainer):
        _require_devices(trainer)
    if trainer.kernels in ("fused", "events"):
        from snn_exp.training.build import kernels_of

        kernels_of(config)
    if trainer.vectorized_seeds:
        from snn_exp.training.seeds import require_stackable

        require_stackable(config)


def _named_runs(config: ExperimentConfig, coming: Mapping[str, ExperimentConfig]) -> dict[str, RunFolder]:
    """Return the finished runs that a config names, by the key that names them; without those that are coming."""
    found = {"teacher": teacher_of(config, coming), "init_from": source_of(config, coming)}
    return {key: folder for key, folder in found.items() if folder is not None and folder.path.name not in coming}


def _asks_for_something(trainer: TrainerConfig) -> bool:
    return (
        trainer.accelerator == "gpu"
        or trainer.devices > 1
        or trainer.precision not in ("32-true", "64-true")
        or trainer.compile
    )


@functools.cache
def _require_devices(trainer: TrainerConfig) -> None:
    from snn_exp.training.devices import require_devices

    require_devices(trainer)


def refusal(config: ExperimentConfig, coming: Mapping[str, ExperimentConfig] = NONE_COMING) -> str:
    """Return why a run cannot start here; "" if it can, or if nothing is left to do. `coming` as in `require`."""
    folder = RunFolder.of(config)
    if damage := folder.damage():
        return damage
    if folder.is_complete(config):
        return ""
    try:
        require(config, coming)
    except UserError as error:
        return str(error)
    return ""


def refusal_of_data(
    config: ExperimentConfig, at_hand: DataAtHand, coming: Mapping[str, ExperimentConfig] = NONE_COMING
) -> str:
    """Return why the present data do not suit a run, or a run that it names; "" if they do, or are not there.

    Args:
        config: of a run that `refusal` has nothing against.
        at_hand: the data.
        coming: as in `require`.
    """
    folder = RunFolder.of(config)
    try:
        at_hand.require(folder, config)
        if folder.is_complete(config):
            return ""
        named = _named_runs(config, coming)
        found = at_hand.fingerprints(config, with_test=False) if named else None
        for key, other in named.items():
            if found is not None:
                require_the_split(key, other, config, found.split)
    except UserError as error:
        return str(error)
    return ""


def warnings(configs: Iterable[ExperimentConfig]) -> list[str]:
    """Return a sentence on each setting that can be run but is probably a mistake, each once."""
    found: dict[str, None] = {}
    memory = footprint.machine_memory()
    for config in configs:
        plain = config.to_plain()
        needed, num_train, batch_size = (
            sizes.least_memory(plain),
            sizes.num_train(plain),
            config.optim["batch_size"],
        )
        on_a_cpu = config.trainer.accelerator != "gpu"
        if on_a_cpu and needed is not None and memory is not None and needed.total > memory:
            found[
                f"{config.label}: a training step takes at least {footprint.in_gib(needed.total)} of memory ({needed}) "
                f"and this machine has {footprint.in_gib(memory)}"
            ] = None
        if config.trainer.precision == "bf16-mixed" and _is_emulated(config.trainer):
            found[
                f"trainer.precision=bf16-mixed: this processor has no instructions for bfloat16, and a step takes "
                f"about {SLOWER_IN_BFLOAT16} times as long as in float32; type trainer.precision=32-true, or train on "
                f"another machine"
            ] = None
        if num_train is not None and isinstance(batch_size, int) and batch_size > num_train:
            found[
                f"optim.batch_size={batch_size} is more than the {num_train} training samples of "
                f"dataset={config.dataset['name']}, so an epoch is one step"
            ] = None
    return list(found)


def _is_emulated(trainer: TrainerConfig) -> bool:
    """Return whether a run in bfloat16 would compute on a CPU that has no instructions for it."""
    if trainer.accelerator == "gpu" or processor.computes_in_bfloat16():
        return False
    from snn_exp.nn.kernels import is_on_a_gpu

    return not is_on_a_gpu(trainer.accelerator)


def require_data(configs: Sequence[ExperimentConfig]) -> None:
    """Check that every data set is there, or fetch it, before anything is trained.

    Raises:
        UserError: a data set is missing and cannot be fetched, or its files are not what they should be.
    """
    for config in {json.dumps(_without_seed(config), sort_keys=True): config for config in configs}.values():
        name = str(config.dataset["name"])
        if not schemas.load()["dataset"][name].traits["embedded"]:
            schemas.registry_of("dataset")[name].prepare_for(config.dataset, data_root(), config.seed)


def _without_seed(config: ExperimentConfig) -> object:
    """Return what tells data sets apart that are brought one by one: the files, or their name."""
    is_own = "path" in config.dataset
    return dict(config.dataset) if is_own else config.dataset["name"]
