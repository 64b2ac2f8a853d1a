"""Neurons, norms, blocks, initialisations and weights of a few bits, put together at random: all that composes trains."""

from __future__ import annotations

import itertools
import random

import torch
from torch.nn import functional

from snn_exp.config import schemas
from snn_exp.config.compose import compose_cells
from snn_exp.nn.init import INITS
from snn_exp.training.build import DataSpec, assemble

GROUPS = ("neuron", "norm", "residual", "init", "weight_quant")
NUM_CELLS = 130  # of 32,256; another draw of 700 held as well


def test_what_composes_takes_two_steps_with_finite_gradients_at_all_weights() -> None:
    rng, menu = random.Random(0), schemas.load()
    chosen = rng.sample(list(itertools.product(*(menu[group] for group in GROUPS))), NUM_CELLS)
    chosen = [options for options in chosen if options[3] == "kaiming" or options[4] in ("none", "int")]  # else refused
    commands = [
        (*(f"{group}={name}" for group, name in zip(GROUPS, options, strict=True)), "network.width=4",
         *(["norm.num_groups=4"] if options[1] == "group" else []))
        for options in chosen
    ]  # fmt: skip
    trained = 0
    x, y_B = torch.rand(8, 1, 8, 8), torch.arange(8)
    for cell in compose_cells(commands):
        if cell.config is None:
            continue
        torch.manual_seed(0)
        task = assemble(cell.config, DataSpec((1, 8, 8), 10, 0.0, 1.0))
        init = INITS.make(cell.config.init)
        init.initialise(task.network, task.encoded(x, 0) if init.reads_a_batch else None)
        optimizer, _ = task.optim.build(task.network, 10)
        for _ in range(2):
            optimizer.zero_grad()
            functional.cross_entropy(task.network.train()(task.encoded(x, 0)), y_B).backward()
            for name, p in task.network.named_parameters():
                assert p.grad is not None and p.grad.isfinite().all(), f"{cell.overrides}: {name}"
            optimizer.step()
        trained += 1
    assert trained > 40
