"""The CPU threads of torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from snn_exp.config.experiment import TrainerConfig


@contextmanager
def threads_of(trainer: TrainerConfig) -> Iterator[None]:
    """Compute inside the block with as many threads as the run was trained with, so that sums round as they did there.

    Torch's own choice, one per core, takes many times the CPU time on a small network: the threads mostly wait.

    Example:
        >>> with threads_of(TrainerConfig(num_threads=1)):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(trainer.num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
