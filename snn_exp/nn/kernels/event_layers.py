"""The convolutions of a network that read spikes, and the way in which each of them computes: by events or densely.

Shapes: T steps, B batch, C channels, H W space.

What a layer reads is known from the data flow: the output of a neuron that emits 0 and 1, and what pooling and logic
make of it. The way is chosen batch by batch, from the rate at which the input fires: it depends on nothing but the
batch, so that an interrupted run goes on as if it had not been interrupted. Where a value is neither 0 nor 1 after all,
the layer computes densely.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, fx, nn

from snn_exp.nn.graph import data_flow, part_at
from snn_exp.nn.kernels.events import DTYPES, KERNEL_SIZES, pack, pack_words, spike_conv2d
from snn_exp.nn.kernels.spike_words import words_of
from snn_exp.nn.layers import Conv2d
from snn_exp.nn.networks import MaxPool, Network
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.norms import NoNorm
from snn_exp.nn.shortcuts import PoolDup
from snn_exp.nn.synapses import IdentitySynapse

MOST_RATE = 0.3  # of a layer that computes by events: faster up to .35, in training, at 16 to 64 channels
PASSING = (nn.Identity, NoNorm, IdentitySynapse, MaxPool)  # what gives spikes for spikes


@dataclasses.dataclass
class Ways:
    """How a layer computed its training batches.

    Args:
        by_events: number of batches by events.
        dense: number of the others.
        rate: at which its input fired, mean of all of them.
    """

    by_events: int = 0
    dense: int = 0
    rate: float = 0.0

    def add(self, by_events: bool, rate: float) -> None:
        """Add a batch."""
        self.by_events += by_events
        self.dense += not by_events
        self.rate += (rate - self.rate) / self.num_batches

    @property
    def num_batches(self) -> int:
        """Return the number of all batches."""
        return self.by_events + self.dense


@dataclasses.dataclass(eq=False)
class _ByEvents:
    """The forward of a convolution that reads spikes."""

    layer: Conv2d
    densely: Callable[[Tensor], Tensor]
    in_eval: bool
    ways: Ways = dataclasses.field(default_factory=Ways)

    def __call__(self, x_TBCHW: Tensor) -> Tensor:
        if not (self.layer.training or self.in_eval) or not _can_be_read(x_TBCHW):
            return self.densely(x_TBCHW)
        s = x_TBCHW.flatten(0, 1)
        words = words_of(x_TBCHW)
        packed = pack(s.detach()) if words is None else pack_words(words, *s.shape[2:])
        by_events = packed.whole and packed.rate <= MOST_RATE
        if self.layer.training:
            self.ways.add(by_events, packed.rate)
        if not by_events:
            return self.densely(x_TBCHW)
        weight, stride = self.layer.effective_weight(), self.layer.stride[0]
        y = spike_conv2d(s, weight, stride, self.layer.groups, bits=packed.bits)
        return y.view(*x_TBCHW.shape[:2], *y.shape[1:])


@torch.no_grad()
def add_where_spikes_are(network: Network, *, in_eval: bool = False) -> None:
    """Make the convolutions of a network that read spikes add only where a spike is, from now on.

    They do so on a CPU, in float32 and float64, on batches that fire at 30 % or less, and in training only unless told:
    in eval the network is bitwise the plain one. Names in the state_dict stay. Channels-last memory format is faster.

    Args:
        network: it may be moved to another device later.
        in_eval: in eval as well, for a network that only infers.

    Example:
        >>> from snn_exp.config.compose import compose
        >>> from snn_exp.training.build import DataSpec, assemble
        >>> network = assemble(compose(["method=lif_bn"]), DataSpec((1, 8, 8), 10, 0.0, 1.0)).network.eval()
        >>> x = torch.rand(4, 2, 1, 8, 8)
        >>> dense = network(x)
        >>> add_where_spikes_are(network, in_eval=True)
        >>> torch.allclose(network(x), dense, atol=1e-5)
        True
    """
    for layer in dict.fromkeys(layers_that_read_spikes(network)):
        _replace_forward(layer, _ByEvents(layer, layer.forward, in_eval))


def layers_that_read_spikes(network: Network) -> Iterator[Conv2d]:
    """Find the convolutions whose input is 0 or 1 and that have a form by events."""
    for node in data_flow(network).nodes:
        layer = part_at(network, node)
        if isinstance(layer, Conv2d) and layer.kernel_size in KERNEL_SIZES and layer.bias is None:
            (read,) = node.all_input_nodes
            if is_spikes(network, read):
                yield layer


def ways_of(network: nn.Module) -> dict[str, Ways]:
    """Return how the layers that read spikes computed the training batches up to now, by name."""
    forwards = {name: vars(module).get("forward") for name, module in network.named_modules()}
    return {name: forward.ways for name, forward in forwards.items() if isinstance(forward, _ByEvents)}


def _replace_forward(layer: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
    layer.forward = forward


def is_spikes(network: Network, node: fx.Node) -> bool:
    """Return whether a value is 0 or 1 wherever it is read from, as far as the data flow says."""
    part = part_at(network, node)
    if isinstance(part, Neuron):
        return part.emits == "spikes"
    is_logic = node.target is operator.mul or (node.target is operator.sub and node.args[0] == 1)
    is_passing = isinstance(part, PASSING) or (isinstance(part, PoolDup) and part.pool == "max")
    # a product with a number has one input
    all_are_given = len(node.all_input_nodes) == (2 if node.target is operator.mul else 1)
    return (is_logic or is_passing) and all_are_given and all(is_spikes(network, n) for n in node.all_input_nodes)


def _can_be_read(x_TBCHW: Tensor) -> bool:
    return x_TBCHW.device.type == "cpu" and x_TBCHW.dtype in DTYPES and not torch.is_autocast_enabled("cpu")
