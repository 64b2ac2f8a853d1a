"""Conversion of a folded network to int8: one graph, whose parts are replaced by those of layers.py.

Shapes: T steps, which is 1, B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from snn_exp.errors import UserError
from snn_exp.export.fold import WEIGHT_LAYERS, Folded
from snn_exp.export.int8.layers import (
    S_MAX,
    ChannelsLast,
    Fire,
    IntegerRectified,
    IntegerSpikes,
    IntegerWeights,
    MeanLast,
    Rectify,
)
from snn_exp.nn.graph import data_flow, part_at
from snn_exp.nn.networks import MaxPool, MeanOverTimeAndSpace, Network, outputs_of
from snn_exp.nn.neurons import Neuron


class Deployed(nn.Module):
    """A folded network ready for inference: one graph, channels last, sums in place, weights in int8 where possible.

    Args:
        graph: the graph that it computes.
        num_hidden: weight layers between the first and the last.
        num_integer: those of them in int8.
    """

    def __init__(self, graph: fx.GraphModule, num_hidden: int, num_integer: int) -> None:
        super().__init__()
        self.graph = graph
        self.num_hidden = num_hidden
        self.num_integer = num_integer
        self.requires_grad_(False).eval()

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Compute logits [B, K] of [1, B, C, H, W]."""
        assert len(x_TBCHW) == 1, "single-step neurons have one step"
        logits: Tensor = self.graph(x_TBCHW)
        return logits

    @property
    def num_bytes(self) -> int:
        """Return the bytes of weights, scales, thresholds and biases."""
        return sum(t.numel() * t.element_size() for t in self.graph.state_dict().values())


def integer(folded: Folded, calibration: Iterable[Tensor] = ()) -> Deployed:
    """Convert a folded network to int8.

    Args:
        folded: a folded network of single-step neurons that emit spikes, or of ReLU; is left as it is.
        calibration: input [1, B, C, H, W] on which the size of ReLUs' outputs is found; spikes need none.

    Raises:
        UserError: its neurons have a state or emit signs, or no hidden layer reads a neuron.
    """
    network = folded.network
    neurons = {name: module for name, module in network.named_modules() if isinstance(module, Neuron)}
    for name, neuron in neurons.items():
        _require_single_step(name, neuron)
    scales = dict.fromkeys(neurons, 1.0)
    if any(neuron.emits == "real" for neuron in neurons.values()):
        scales = _scales(network, neurons, calibration)
    deployed = _deploy(network, scales)
    if deployed.num_integer == 0:
        raise UserError(
            "the network has no hidden weight layer that reads a neuron and nothing else, so none can be in int8; "
            "choose a run with residual=bireal, pre, ms or post, or network=vgg"
        )
    return deployed


def floating(folded: Folded) -> Deployed:
    """Build the same graph with all weights in float32, the baseline of int8."""
    return _deploy(folded.network, {})


def _require_single_step(name: str, neuron: Neuron) -> None:
    kind = type(neuron).__name__
    if not neuron.single_step:
        raise UserError(
            f"{name} is a {kind}, which has a state over several steps, and int8 is for single-step neurons; choose a "
            f"run with neuron=s2nn or neuron=relu"
        )
    if neuron.emits in ("signs", "ternary"):
        raise UserError(
            f"{name} is a {kind}, which emits signs, and the int8 kernels read unsigned numbers; choose a run with "
            f"neuron=s2nn or neuron=relu"
        )
    if neuron.emits == "levels":
        raise UserError(
            f"{name} is a {kind}, which emits levels, and int8 has thresholds for one level alone; choose a run with "
            f"neuron=s2nn or neuron=relu"
        )


@torch.no_grad()
def _scales(network: Network, neurons: dict[str, Neuron], calibration: Iterable[Tensor]) -> dict[str, float]:
    largest = dict.fromkeys(neurons, 0.0)
    seen = False
    for x_TBCHW in calibration:
        seen = True
        with outputs_of(neurons.values()) as outputs:
            network(x_TBCHW)
        largest = {name: max(largest[name], float(outputs[neuron].max())) for name, neuron in neurons.items()}
    if not seen:
        raise UserError("a ReLU network needs calibration data for int8, and none were given")
    return {name: value / S_MAX if value > 0 else 1.0 for name, value in largest.items()}


def _deploy(network: Network, scales: dict[str, float]) -> Deployed:
    """Build the graph with its parts replaced.

    Args:
        network: a folded one.
        scales: neuron -> a; those that are not there stay in float32.
    """
    network = copy.deepcopy(network)
    graph = data_flow(network)
    for node in graph.nodes:
        if isinstance(part_at(network, node), nn.Identity):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
    first, *hidden, _ = [n for n in graph.nodes if isinstance(part_at(network, n), WEIGHT_LAYERS)]
    # uint8 output -> its scale: a neuron that hidden weights read, and a maximum of it
    small: dict[fx.Node, float] = {}
    for node in graph.nodes:
        part = part_at(network, node)
        if isinstance(part, Neuron) and str(node.target) in scales and _is_read(network, node, hidden):
            small[node] = scales[str(node.target)]
        elif isinstance(part, MaxPool) and node.all_input_nodes[0] in small:
            small[node] = small[node.all_input_nodes[0]]
    in_integers = [node for node in hidden if node.all_input_nodes[0] in small]
    _replace_parts(network, graph, small, in_integers)
    _convert_where_floats_are_read(graph, small, in_integers)
    _work_in_place(network, graph, [first, *hidden], small)
    graph.lint()
    return Deployed(fx.GraphModule(network, graph), len(hidden), len(in_integers))


def _is_read(network: Network, node: fx.Node, hidden: list[fx.Node]) -> bool:
    return any(
        user in hidden or (isinstance(part_at(network, user), MaxPool) and _is_read(network, user, hidden))
        for user in node.users
    )


def _replace_parts(network: Network, graph: fx.Graph, small: dict[fx.Node, float], in_integers: list[fx.Node]) -> None:
    for node in list(graph.nodes):
        part: Any = part_at(network, node)
        target = str(node.target)
        if node in in_integers:
            (reader, *others) = node.users
            neuron: Any = part_at(network, reader)
            scale = small[node.all_input_nodes[0]]
            if others or not isinstance(neuron, Neuron) or reader not in small:
                network.set_submodule(target, IntegerWeights(part, scale))
                continue
            if neuron.emits == "real":
                network.set_submodule(target, IntegerRectified(part, scale, small[reader]))
            else:
                network.set_submodule(target, IntegerSpikes(part, *_threshold(neuron)))
            small[node] = small.pop(reader)
            reader.replace_all_uses_with(node)
            graph.erase_node(reader)
        elif isinstance(part, Neuron) and node in small:
            real = part.emits == "real"
            network.set_submodule(target, Rectify(small[node]) if real else Fire(*_threshold(part)))
        elif isinstance(part, nn.Conv2d):
            network.set_submodule(target, ChannelsLast(part))
        elif isinstance(part, MeanOverTimeAndSpace):
            network.set_submodule(target, MeanLast())


def _threshold(neuron: Neuron) -> tuple[Tensor, Tensor]:
    folded = neuron.folded_threshold
    threshold = neuron.v_threshold if folded is None else folded.threshold
    return threshold, torch.ones_like(threshold) if folded is None else folded.sign.expand_as(threshold)


def _convert_where_floats_are_read(graph: fx.Graph, small: dict[fx.Node, float], in_integers: list[fx.Node]) -> None:
    for node, scale in small.items():
        for user in list(node.users):
            if user not in in_integers and user not in small:
                with graph.inserting_before(user):
                    as_float = graph.call_method("float", (node,))
                    as_float = as_float if scale == 1 else graph.call_method("mul_", (as_float, scale))
                user.replace_input_with(node, as_float)


def _work_in_place(network: Network, graph: fx.Graph, weights: list[fx.Node], small: dict[fx.Node, float]) -> None:
    """Add and rectify in place what weights have just written, where nothing else reads it."""
    fresh = {node for node in weights if node not in small and len(node.users) == 1}
    for node in graph.nodes:
        own = next((n for n in node.all_input_nodes if n in fresh), None)
        if own is None:
            continue
        if node.op == "call_function" and node.target is operator.add:
            others = [n for n in node.args if n is not own]
            node.op, node.target, node.args = "call_method", "add_", (own, *others)
        elif isinstance(neuron := part_at(network, node), Neuron) and neuron.emits == "real":
            node.op, node.target = "call_method", "relu_"
        else:
            continue
        if len(node.users) == 1:
            fresh.add(node)
