"""The devices that a run asks for, and the hardware on which it is computed."""

from __future__ import annotations

import os
from typing import Any

import torch

from snn_exp.config.experiment import TrainerConfig
from snn_exp.errors import UserError
from snn_exp.nn.kernels import is_on_a_gpu
from snn_exp.training.compiling import require_compiler


def hardware() -> dict[str, Any]:
    """Return the number of CPU cores and the name of the GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cores": os.cpu_count(), "gpu": gpu}


def require_devices(trainer: TrainerConfig) -> None:
    """Check that this machine has what a run asks for.

    Raises:
        UserError: it lacks the devices, the precision or the compiler.
    """
    if trainer.accelerator == "gpu" and not torch.accelerator.is_available():
        raise UserError(
            "trainer.accelerator=gpu, and torch finds no GPU on this machine; leave it out, or type "
            "trainer.accelerator=cpu"
        )
    on_a_gpu, num_gpus = is_on_a_gpu(trainer.accelerator), torch.cuda.device_count()
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
