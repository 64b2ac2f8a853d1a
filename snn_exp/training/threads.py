"""The CPU threads of torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.training import auto


@contextmanager
def threads_of(config: ExperimentConfig) -> Iterator[None]:
    """Compute inside the block with as many threads as the run was trained with, so that sums round as they did there.

    Torch's own choice, one per core, takes many times the CPU time on a small network: the threads mostly wait.

    Example:
        >>> from snn_exp.config.compose import compose
        >>> with threads_of(compose(["trainer.num_threads=1"])):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(auto.threads(config).value)
    try:
        yield
    finally:
        torch.set_num_threads(before)
