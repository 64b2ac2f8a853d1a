"""Statistics of every layer on one batch: firing, variance, gradients, dead channels; before and after training.

Shapes: T steps, B batch, C channels, N any feature dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.data.datamodule import DataModule
from snn_exp.nn.layers import Conv2d, Linear
from snn_exp.nn.networks import outputs_of
from snn_exp.nn.neurons import Neuron
from snn_exp.training.classifier import Classifier

NUM_SAMPLES = 32
DIGITS = 4  # significant, of what is stored

Layers = dict[str, list[float]]


def probe_validation(task: Classifier, data: DataModule, *, trained: bool = False) -> Layers:
    """Return what the first validation samples show of every layer; see `probe`."""
    x, y_B = data.some_validation_samples(NUM_SAMPLES)
    return probe(task.cpu(), x.to(next(task.parameters()).dtype), y_B, trained=trained)


def probe(task: Classifier, x: Tensor, y_B: Tensor, *, trained: bool) -> Layers:
    """Return a curve over the layers for each quantity; the task is left unchanged.

    Definition:
        firing_rate     share of non-zero outputs of each neuron layer
        dead_channels   share of its channels that stay silent over the whole batch
        variance        Var(u), u = sum_j w_j psp_j, the output of each hidden weight layer
        variance_theory the mean over units of sum_j w_j^2: the value of Var(u) for independent inputs of second
                        moment 1 and zero-mean weights, as PSP normalization provides them
        gradient_norm   |dL/dW| of each hidden weight layer, L the cross-entropy of the batch

    Neuron layers and weight layers stand in the order in which the network holds them.

    Args:
        task: network, encoding and classes.
        x: pixels [B, C, H, W], or frames [B, T, C, H, W].
        y_B: classes.
        trained: use running statistics; an untrained network has none yet and uses those of the batch.
    """
    task = copy.deepcopy(task).train(not trained)
    weight_layers = hidden_weight_layers(task.network)
    neurons = [module for module in task.network.modules() if isinstance(module, Neuron)]
    task.zero_grad()
    torch.manual_seed(task.seed)  # of a random encoding
    with outputs_of([*weight_layers, *neurons]) as outputs:
        functional.cross_entropy(task(x), y_B).backward()
    weights = [layer.effective_weight().detach().flatten(1) for layer in weight_layers]
    return {
        "firing_rate": _rounded(_share(outputs[n].detach() != 0) for n in neurons),
        "dead_channels": _rounded(_share(_by_channel(outputs[n] == 0).all(1)) for n in neurons),
        "variance": _rounded(float(outputs[layer].detach().var()) for layer in weight_layers),
        "variance_theory": _rounded(float(w.square().sum(1).mean()) for w in weights),
        "gradient_norm": _rounded(float(_gradient(layer).norm()) for layer in weight_layers),
    }


def hidden_weight_layers(network: nn.Module) -> list[Conv2d | Linear]:
    """Return the weight layers that read spikes, in order: all but the first, which reads the data."""
    return [module for module in network.modules() if isinstance(module, Conv2d | Linear)][1:]


def _by_channel(x_TBN: Tensor) -> Tensor:
    """Reshape [T, B, C, ...] to [C, everything else]."""
    return x_TBN.movedim(2, 0).flatten(1)


def _share(x: Tensor) -> float:
    return float(x.float().mean())


def _gradient(layer: Conv2d | Linear) -> Tensor:
    gradient = layer.weight.grad
    return torch.zeros(()) if gradient is None else gradient


def _rounded(values: Iterator[float]) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]
