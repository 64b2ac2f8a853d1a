"""A run before anyone trains it: its config as text, its network and its layers as tables."""

from __future__ import annotations

from itertools import zip_longest
from statistics import median
from typing import Any

import torch
import yaml
from rich.table import Table
from torch import Tensor, nn

from snn_exp.config import schemas
from snn_exp.config.experiment import NEUTRAL_GROUPS, ExperimentConfig, resolve
from snn_exp.data.datamodule import DataModule
from snn_exp.errors import UserError
from snn_exp.escaping import add_row
from snn_exp.metrics.operations import dense_macs
from snn_exp.training import auto
from snn_exp.training.build import build_data, build_task, initialise
from snn_exp.training.classifier import Classifier
from snn_exp.training.layer_statistics import NUM_SAMPLES, Layers, probe

MOST_DEAD = "most dead channels in a layer"


def config_text(config: ExperimentConfig) -> str:
    """Return the resolved config as YAML, headed by the run id."""
    body = yaml.safe_dump(_in_full(config), sort_keys=False, default_flow_style=None, width=120)
    return f"# run {config.run_id}: {config.label}\n{body}"


def _in_full(config: ExperimentConfig) -> dict[str, Any]:
    """Return the resolved config with what is not stored: an augmentation that is the data set's, neutral choices."""
    plain = config.to_plain()
    unstored = {group: dict(getattr(config, group)) for group in NEUTRAL_GROUPS}
    return {"dataset": plain["dataset"], "augment": dict(config.augment), **unstored, **plain}


def build(config: ExperimentConfig) -> tuple[Classifier, DataModule]:
    """Build the task as `train` would start it, and its data."""
    torch.set_num_threads(auto.threads(config).value)
    torch.manual_seed(config.seed)
    data = build_data(config)
    task = build_task(config, data)
    initialise(task, config, data)
    return task, data


def untrained_layers(task: Classifier, data: DataModule) -> Layers:
    """Return the statistics of every layer on one batch of validation samples."""
    return probe(task, *data.some_validation_samples(NUM_SAMPLES), trained=False)


def layers_table(layers: Layers) -> Table:
    """Return a table with one row per layer of the untrained network (see training/layer_statistics.py)."""
    table = Table(title="untrained, one validation batch", title_justify="left")
    for heading in ("layer", "firing rate", "dead channels", "Var(u)", "theory", "|dL/dW|"):
        table.add_column(heading, justify="right")
    curves = [layers[q] for q in ("firing_rate", "dead_channels", "variance", "variance_theory", "gradient_norm")]
    for number, values in enumerate(zip_longest(*curves), 1):
        add_row(table, str(number), *("" if value is None else f"{value:.4g}" for value in values))
    return table


def inits_table(config: ExperimentConfig) -> Table:
    """Return a table with one row per initialisation: rates, variances and gradients before training.

    Of each curve over the layers it has the first value, the median, and the last (see training/layer_statistics.py).
    An initialisation that the config refuses has its reason instead.
    """
    table = Table(title="initialisations, untrained, one validation batch: first / median / last", title_justify="left")
    for heading in ("init", "firing rate", "Var(u)", "|dL/dW|", MOST_DEAD):
        table.add_column(heading, justify="left" if heading == "init" else "right")
    for name in schemas.load()["init"]:
        try:
            found = untrained_layers(*build(resolve({**config.to_plain(), "init": {"name": name}})))
        except UserError as refusal:
            add_row(table, name, str(refusal))
            continue
        curves = [found[quantity] for quantity in ("firing_rate", "variance", "gradient_norm")]
        ends = (f"{c[0]:.3g} / {median(c):.3g} / {c[-1]:.3g}" if c else "" for c in curves)
        add_row(table, name, *ends, f"{max(found['dead_channels'], default=0):.3g}")
    return table


def network_table(task: Classifier, data: DataModule) -> Table:
    """Return a table with one row per layer: output [T, B, ...] for one sample, parameters, dense MACs, all steps."""
    task.eval()
    x_TBCHW = task.encoding(torch.zeros(1, *data.dataset.sample_shape))
    macs = dense_macs(task.network, x_TBCHW)
    shapes = _output_shapes(task.network, x_TBCHW)
    table = Table(title=f"{type(task.network).__name__}, one sample", title_justify="left")
    for heading in ("layer", "part", "output", "parameters", "MACs dense"):
        table.add_column(heading, justify="right" if heading in ("parameters", "MACs dense") else "left")
    for name, module in task.network.named_modules():
        if name in shapes:
            parameters = sum(p.numel() for p in module.parameters())
            add_row(table, name, type(module).__name__, str(shapes[name]), f"{parameters:,}", f"{macs.get(name, 0):,}")
    total = sum(p.numel() for p in task.network.parameters())
    table.add_section()
    add_row(table, "total", "", "", f"{total:,}", f"{macs['']:,}")
    return table


def _output_shapes(network: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the output shape of every part that computes something, in the order in which they are called."""
    shapes: dict[str, tuple[int, ...]] = {}

    def hook(name: str) -> object:
        def record(module: nn.Module, inputs: object, output: Tensor) -> None:
            shapes[name] = tuple(output.shape)

        return record

    # the weights' own modules (norm, quantization) and torch's inside ours are parts of a layer, not layers
    layers = {
        name: module
        for name, module in network.named_modules()
        if name and not name.endswith(("weight_norm", "weight_quant", ".bn", ".layer_norm", ".group_norm"))
        and not isinstance(module, nn.Sequential)
    }  # fmt: skip
    outer = {name[:index] for name in layers for index, letter in enumerate(name) if letter == "."}
    handles = [m.register_forward_hook(hook(n)) for n, m in layers.items() if n not in outer]
    with torch.no_grad():
        network(x)
    for handle in handles:
        handle.remove()
    return shapes
