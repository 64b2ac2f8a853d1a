"""A trained network without its norms.

Shapes: T steps, B batch, C channels, H W space, N any feature dimensions, K classes.

With its running statistics a norm is one scale and shift per channel, y = scale x + shift, which its
neighbours can take over:

    the weights that make x      W <- scale W, bias <- scale bias + shift      a bias is added after the padding
    the weights that read y      bias <- bias + W shift, W <- W scale          a shift only where nothing is padded
    the neuron that reads y      threshold, reset and refractory response / scale, and shift / scale is added to x;
                                 without dynamics: threshold <- (threshold - shift) / scale, and nothing is added
    the neuron around it         threshold <- (threshold - shift) / scale; a reset still subtracts the old one

The first of these that exists takes it. A negative scale makes a neuron fire from below. The
neighbours of a norm are found in the data flow.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from snn_exp.errors import UserError
from snn_exp.nn.graph import data_flow, part_at
from snn_exp.nn.layers import ChannelBias, TimeFolded
from snn_exp.nn.networks import MeanOverTimeAndSpace, Network
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.norms import NoNorm, Norm

WEIGHT_LAYERS = (nn.Conv2d, nn.Linear)


@dataclasses.dataclass(frozen=True)
class Fold:
    """The fate of one part.

    Args:
        part: the norm, or the weights that were made plain.
        into: the parts that took it over.
        how: weights, threshold, or plain.
    """

    part: str
    into: tuple[str, ...]
    how: str


class Folded(Network):
    """A network without its norms; it only evaluates.

    Args:
        network: the folded network.
        folds: the fate of its norms.
    """

    def __init__(self, network: Network, folds: Iterable[Fold]) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.folds = tuple(folds)
        self.eval()

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        logits: Tensor = self.network(x_TBCHW)
        return logits

    def segments(self) -> list[nn.Module]:
        return self.network.segments()

    def train(self, mode: bool = True) -> Folded:
        """Refuse training; the network only evaluates.

        Raises:
            UserError: it is put into training mode.
        """
        if mode:
            raise UserError(
                "a folded network cannot be trained further, since its norms are part of its weights and thresholds; "
                "train the run that it was folded from, and fold that again"
            )
        return super().train(False)


@torch.no_grad()
def fold(network: Network) -> Folded:
    """Build the network that computes the same function in eval, without norms and with plain weights.

    Args:
        network: is left as it is.

    Raises:
        UserError: a norm that nothing can take over, or nothing to fold.
    """
    network = copy.deepcopy(network).eval()
    folds = [*_make_plain(network), *_fold_membrane_norms(network)]  # a neuron is rescaled as it then is
    for node in data_flow(network).nodes:
        norm = part_at(network, node)
        if isinstance(norm, Norm):
            if not isinstance(norm, NoNorm):
                folds.append(_fold_norm(network, node, norm))
            else:
                network.set_submodule(node.target, nn.Identity())
    if not folds:
        raise UserError("the network has no norm and its weights are plain, so there is nothing to fold")
    return Folded(network, folds)


def _readers(network: nn.Module, node: fx.Node) -> list[fx.Node]:
    """List the nodes that read a value; a mean passes a scale and a shift on unchanged."""
    readers = []
    for user in node.users:
        is_mean = isinstance(part_at(network, user), MeanOverTimeAndSpace)
        readers += _readers(network, user) if is_mean else [user]
    return readers


def _make_plain(network: Network) -> Iterator[Fold]:
    for name, layer in network.named_modules():
        if isinstance(layer, TimeFolded) and not layer.is_plain:
            layer.make_plain()
            yield Fold(name, (name,), "plain")


def _fold_membrane_norms(network: Network) -> Iterator[Fold]:
    neurons = {name: module for name, module in network.named_modules() if isinstance(module, Neuron)}
    for name, neuron in neurons.items():
        if isinstance(neuron.membrane_norm, Norm):
            part = f"{name}.membrane_norm"
            scale, shift = _for_neuron(part, neuron.membrane_norm, name, neuron)
            folded = neuron.firing_on(scale, shift)
            folded.membrane_norm = None
            network.set_submodule(name, folded)
            yield Fold(part, (name,), "threshold")


def _fold_norm(network: Network, node: fx.Node, norm: Norm) -> Fold:
    """Fold one norm into its neighbours and leave nothing, or a constant, in its place."""
    part = str(node.target)
    scale_C, shift_C = _affine_C(part, norm)
    (source,) = node.all_input_nodes
    readers = _readers(network, node)
    modules = [part_at(network, reader) for reader in readers]
    left: nn.Module = nn.Identity()
    how = "weights"
    if isinstance(maker := part_at(network, source), WEIGHT_LAYERS) and len(source.users) == 1:
        readers = [source]
        _scale_outputs(maker, scale_C, shift_C)
    elif modules and all(isinstance(m, nn.Linear if shift_C.any() else WEIGHT_LAYERS) for m in modules):
        for module in modules:
            _scale_inputs(module, scale_C, shift_C)
    elif len(modules) == 1 and isinstance(neuron := modules[0], Neuron):
        how, name = "threshold", str(readers[0].target)
        scale, shift = _for_neuron(part, norm, name, neuron)
        if neuron.single_step:  # its membrane is its input
            folded: Neuron | None = neuron.firing_on(scale, shift)
        else:
            folded, left = neuron.rescaled(scale), ChannelBias(shift / scale)
        if folded is None:
            raise UserError(f"{part} cannot be folded: {name} after it is a {why_not_rescaled(neuron)}")
        network.set_submodule(name, folded)
    else:
        raise UserError(
            f"{part} cannot be folded: its readers are neither weights alone nor a single neuron, so nothing can take "
            f"over its scale and shift"
        )
    network.set_submodule(part, left)
    return Fold(part, tuple(str(reader.target) for reader in readers), how)


def why_not_rescaled(neuron: Neuron) -> str:
    """Say what a neuron is that cannot take over the scale of a norm, and what to declare in its class."""
    kind = type(neuron).__name__
    if neuron.scales_with_input is None:
        return (
            f"{kind}, which does not declare its attributes in membrane units, and with v_threshold alone divided by a "
            f"factor it fires otherwise; if its membrane is linear in its input, name all such attributes in its "
            f'class, such as scales_with_input = ("v_threshold", "v_reset"): dividing all of them by a must give for x '
            f"the spikes that there were for a x"
        )
    return f"{kind}, whose membrane is not linear in its input, so no threshold makes up for the scale"


def _affine_C(part: str, norm: Norm) -> tuple[Tensor, Tensor]:
    affine_C = norm.affine_C()
    if affine_C is None:
        raise UserError(
            f"{part} cannot be folded: {type(norm).__name__}, with statistics over {norm.statistics_over}, is not "
            f"one fixed scale and shift per channel, which is all that weights and thresholds can take over"
        )
    return affine_C


def _for_neuron(part: str, norm: Norm, name: str, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """Return a norm's scale and shift, in the shape in which a neuron takes them."""
    scale_C, shift_C = _affine_C(part, norm)
    if neuron.emits == "real":
        raise UserError(
            f"{part} cannot be folded: {name} after it is a {type(neuron).__name__}, which passes the size of its "
            f"input on and has no threshold to take over the scale"
        )
    if (scale_C == 0).any():
        raise UserError(
            f"{part} cannot be folded: its scale is 0 in channel {int((scale_C == 0).nonzero()[0])}, where its "
            f"output no longer depends on its input, which no threshold can reproduce"
        )
    shape = (-1, *(1 for _ in norm.feature_shape[1:]))
    return scale_C.view(shape), shift_C.view(shape)


def _scale_outputs(layer: Any, scale_C: Tensor, shift_C: Tensor) -> None:
    """Change the weights so that y = scale (W x + bias) + shift."""
    bias_C = shift_C if layer.bias is None else layer.bias * scale_C + shift_C
    layer.bias = nn.Parameter(bias_C)
    layer.weight.mul_(scale_C.view(-1, *(1 for _ in layer.weight.shape[1:])))


def _scale_inputs(layer: Any, scale_C: Tensor, shift_C: Tensor) -> None:
    """Change the weights so that y = W (scale x + shift) + bias."""
    if shift_C.any():
        constant = layer.weight @ shift_C
        layer.bias = nn.Parameter(constant if layer.bias is None else layer.bias + constant)
    layer.weight.mul_(scale_C.view(1, -1, *(1 for _ in layer.weight.shape[2:])))
