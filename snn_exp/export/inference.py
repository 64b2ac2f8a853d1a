"""A trained network in the form in which this machine computes it fastest; it only infers.

Shapes: T steps, B batch, C channels, H W space, K classes.

The network is folded where it can be, and becomes one graph in channels-last memory format:

    a neuron that convolutions alone read       one pass over its current, which writes bits and nothing else
    a convolution of spikes, 3x3 or 1x1         sums of four channels looked up in tables, whatever fires, bias included
    the sum of its output and a stream          added where the convolution writes, over the stream where none reads it
    any other neuron with a fused form          one pass, over its current where none but it reads that
    all else                                    as it is

The order of sums is another one, so logits differ by rounding, and in float32 a membrane may come to lie on the other
side of its threshold. Without a C++ compiler the network is folded and nothing else.
"""

from __future__ import annotations

import copy
import operator

import torch
from torch import Tensor, fx, nn

from snn_exp.errors import UserError
from snn_exp.export.fold import fold
from snn_exp.nn.graph import data_flow, part_at
from snn_exp.nn.kernels import (
    ConvolutionByTables,
    FiringBits,
    Unavailable,
    can_be_looked_up,
    fuse,
    inference_form_of,
    is_spikes,
    toolchain,
)
from snn_exp.nn.layers import ChannelBias, Conv2d, lay_channels_last
from snn_exp.nn.networks import Network
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.norms import NoNorm


class Inferring(Network):
    """A network that only infers, as one graph; made by `for_inference`.

    Args:
        graph: that it computes.
        by_tables: the convolutions that look sums up.
        why: the reason, where none does.
    """

    def __init__(self, graph: fx.GraphModule, by_tables: tuple[str, ...], why: str = "") -> None:
        super().__init__()
        self.graph = graph
        self.by_tables = by_tables
        self.why = why
        self.requires_grad_(False).eval()

    @torch.inference_mode()
    def forward(self, x_TBCHW: Tensor) -> Tensor:
        logits: Tensor = self.graph(x_TBCHW)
        return logits

    def segments(self) -> list[nn.Module]:
        return [self.graph]

    def train(self, mode: bool = True) -> Inferring:
        """Refuse training; the network only infers.

        Raises:
            UserError: it is put into training mode.
        """
        if mode:
            raise UserError(
                "a network made for inference cannot be trained; train the one that it was made of, or load the run "
                "without for_inference=True"
            )
        return super().train(False)


@torch.no_grad()
def for_inference(network: Network) -> Inferring:
    """Build the network that infers fastest here; on a CPU, in float32 and float64.

    Args:
        network: trained, folded or not; is left as it is.

    Example:
        >>> from snn_exp.config.compose import compose
        >>> from snn_exp.training.build import DataSpec, assemble
        >>> network = assemble(compose(["method=s2nn_bn"]), DataSpec((1, 8, 8), 10)).network.eval()
        >>> x = torch.rand(1, 4, 1, 8, 8)
        >>> fast = for_inference(network)
        >>> torch.allclose(fast(x), network(x), atol=1e-5)
        True
    """
    try:
        network = fold(network).network
    except UserError:  # nothing to fold, or a norm that nothing can take over
        network = copy.deepcopy(network).requires_grad_(False).eval()
    try:
        toolchain()
    except Unavailable as reason:
        return Inferring(fx.GraphModule(network, data_flow(network)), (), str(reason))
    lay_channels_last(network)
    graph = data_flow(network)
    _leave_out_what_does_nothing(network, graph)
    convolutions = [node for node in graph.nodes if _is_looked_up(network, node)]
    neurons = [node for node in graph.nodes if _fires_for(network, node, convolutions)]
    fuse(network, overwrite=True)  # what follows replaces the neurons that have a pass of their own here
    for node in neurons:
        _fire_bits(network, graph, node)
    for node in convolutions:
        network.set_submodule(str(node.target), ConvolutionByTables(_conv(network, node)))
    _add_where_it_is_written(network, graph, convolutions)
    graph.lint()
    return Inferring(fx.GraphModule(network, graph), tuple(str(node.target) for node in convolutions))


def _leave_out_what_does_nothing(network: Network, graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        if isinstance(part_at(network, node), nn.Identity | NoNorm):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)


def _conv(network: Network, node: fx.Node) -> Conv2d:
    conv = part_at(network, node)
    assert isinstance(conv, Conv2d)
    return conv


def _is_looked_up(network: Network, node: fx.Node) -> bool:
    conv = part_at(network, node)
    return isinstance(conv, Conv2d) and can_be_looked_up(conv) and is_spikes(network, node.all_input_nodes[0])


def _fires_for(network: Network, node: fx.Node, convolutions: list[fx.Node]) -> bool:
    """Return whether a neuron has a pass that writes bits, and convolutions that read them alone read it."""
    neuron = part_at(network, node)
    has_a_pass = isinstance(neuron, Neuron) and neuron.emits == "spikes" and inference_form_of(neuron) is not None
    return has_a_pass and bool(node.users) and all(user in convolutions for user in node.users)


def _fire_bits(network: Network, graph: fx.Graph, node: fx.Node) -> None:
    neuron = part_at(network, node)
    assert isinstance(neuron, Neuron)
    (read,) = node.all_input_nodes
    before = part_at(network, read)
    constant = None
    if isinstance(before, ChannelBias) and len(read.users) == 1:
        constant = before.bias
        node.replace_input_with(read, read.all_input_nodes[0])
        graph.erase_node(read)
    network.set_submodule(str(node.target), FiringBits(neuron, constant))


def _add_where_it_is_written(network: Network, graph: fx.Graph, convolutions: list[fx.Node]) -> None:
    """Let a convolution add its output to the stream, in place where the stream is read for the last time."""
    place = {node: number for number, node in enumerate(graph.nodes)}
    for conv in list(convolutions):
        (add,) = conv.users if len(conv.users) == 1 else (None,)
        if add is None or add.target is not operator.add or len(add.all_input_nodes) != 2:
            continue
        (stream,) = [node for node in add.all_input_nodes if node is not conv]
        part = _by_tables(network, conv)
        own = _is_a_new_tensor(network, stream) and all(place[user] <= place[add] for user in stream.users)
        part.over = own
        with graph.inserting_before(add):
            both = graph.call_module(str(conv.target), (conv.all_input_nodes[0], stream))
        place[both] = place[add]
        add.replace_all_uses_with(both)
        graph.erase_node(add)
        graph.erase_node(conv)


def _by_tables(network: Network, node: fx.Node) -> ConvolutionByTables:
    part = part_at(network, node)
    assert isinstance(part, ConvolutionByTables)
    return part


def _is_a_new_tensor(network: Network, node: fx.Node) -> bool:
    """Return whether a value lies in memory of its own, and not in that of what it was made of."""
    made_anew = (nn.Conv2d, ConvolutionByTables)
    return isinstance(part_at(network, node), made_anew) or node.target is operator.add
