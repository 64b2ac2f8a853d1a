"""What this machine has: versions, devices, kernels, data sets, write access, W&B."""

from __future__ import annotations

import dataclasses
import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import psutil
import torch

from snn_exp.cli.data import look
from snn_exp.config import schemas
from snn_exp.config.experiment import TrainerConfig
from snn_exp.errors import UserError
from snn_exp.files import require_writable
from snn_exp.nn.neurons import LIF
from snn_exp.runs.paths import data_root, output_root
from snn_exp.runs.provenance import RECORDED_PACKAGES
from snn_exp.runs.wandb_record import wandb_is_offline
from snn_exp.training.build import choose_kernels

EXTRAS = ("wandb",)  # of the packages that a run records: no run needs it, and `_wandb` says whether it is there


@dataclasses.dataclass(frozen=True)
class MachineCheck:
    """One finding.

    Args:
        what: what was checked.
        found: the finding, in words.
        ok: whether experiments can run with it.
    """

    what: str
    found: str
    ok: bool = True


def examine() -> list[MachineCheck]:
    """Return all findings."""
    return [*_versions(), *_devices(), _kernels(), *_data(), _write_access(), _wandb()]


def _versions() -> list[MachineCheck]:
    checks = []
    for package in RECORDED_PACKAGES:
        try:
            checks.append(MachineCheck(package, version(package)))
        except PackageNotFoundError:
            if package not in EXTRAS:
                checks.append(MachineCheck(package, f"is not installed; type pip install {package}", ok=False))
    return checks


def _devices() -> list[MachineCheck]:
    memory = psutil.virtual_memory().total / 2**30
    cpu = MachineCheck("cpu", f"{os.cpu_count()} cores, {memory:.1f} GiB, torch uses {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        return [cpu, MachineCheck("gpu", "none; networks train on the CPU")]
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [cpu, MachineCheck("gpu", ", ".join(names))]


def _kernels() -> MachineCheck:
    """Build the kernels of one neuron, since only that shows that the compiler works."""
    choice = choose_kernels(TrainerConfig(), LIF())
    return MachineCheck("kernels", f"{choice.used}: {choice.why}")


def _data() -> list[MachineCheck]:
    checks = []
    for name in schemas.load()["dataset"]:
        found = look(name)
        if found.state == "present":
            said = f"found in {found.folder if found.files else data_root()}"
        elif found.state == "missing":
            said = f"not here yet; looked for in {data_root()}"
        else:
            said = {"embedded": "embedded", "own": "where dataset.path says"}.get(found.state, "damaged; snn-exp data")
        checks.append(MachineCheck(f"data {name}", said))
    return checks


def _write_access() -> MachineCheck:
    try:
        require_writable(output_root())
    except UserError as error:
        return MachineCheck("outputs", str(error), ok=False)
    return MachineCheck("outputs", f"{output_root().resolve()} can be written")


def _wandb() -> MachineCheck:
    if find_spec("wandb") is None:
        return MachineCheck("W&B", "not installed, and no run needs it; pip install 'snn-exp[wandb]' for logger=wandb")
    if wandb_is_offline():
        return MachineCheck(
            "W&B", "offline: not logged in, or WANDB_MODE says so; runs can be sent later with wandb sync"
        )
    return MachineCheck("W&B", "online: logged in")
