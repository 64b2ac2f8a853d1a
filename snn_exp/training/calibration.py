"""How long a run would take, measured by a few of its training steps."""

from __future__ import annotations

import time
from statistics import median

import torch
from torch.nn import functional

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.training import auto
from snn_exp.training.build import build_data, build_task, kernels_of


def seconds_measured(config: ExperimentConfig, num_steps: int = 3) -> float:
    """Return the CPU time that a run would take, by a few training steps; what else a run does is about a tenth."""
    torch.set_num_threads(auto.threads(config).value)
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
