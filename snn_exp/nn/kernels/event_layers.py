"""The convolutions of a network that read spikes, and the way in which each of them computes: by events or densely.

Shapes: T steps, B batch, C channels, H W space.

What a layer reads is known from the data flow: the output of a neuron that emits 0 and 1, and what pooling and logic
make of it. The way is chosen batch by batch, from the rate at which the input fires: it depends on nothing but the
batch, so that an interrupted run goes on as if it had not been interrupted. Where a value is neither 0 nor 1 after all,
the layer computes densely.

In training layers that alone read a synapse or a PSP norm walk over the spikes in front of it (filtered_spikes.py); the
way is that of all which read the same.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, fx, nn

from snn_exp.nn.graph import data_flow, part_at
from snn_exp.nn.kernels.events import DTYPES, KERNEL_SIZES, Packed, pack, pack_words, spike_conv2d
from snn_exp.nn.kernels.filtered import filtered
from snn_exp.nn.kernels.filtered_spikes import MOST_STEPS, TRACES, FilteredSpikes, filtered_conv2d, scale_of
from snn_exp.nn.kernels.forms import Trace, has_a_moment_per_channel, trace_of
from snn_exp.nn.kernels.spike_words import words_of
from snn_exp.nn.layers import Conv2d
from snn_exp.nn.networks import MaxPool, Network
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.norms import NoNorm, PSPNorm
from snn_exp.nn.shortcuts import PoolDup
from snn_exp.nn.synapses import IdentitySynapse, Synapse

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
        packed = _packed(x_TBCHW, words_of(x_TBCHW))
        by_events = packed.whole and packed.rate <= MOST_RATE
        if self.layer.training:
            self.ways.add(by_events, packed.rate)
        if not by_events:
            return self.densely(x_TBCHW)
        weight, stride = self.layer.effective_weight(), self.layer.stride[0]
        y = spike_conv2d(x_TBCHW.flatten(0, 1), weight, stride, self.layer.groups, bits=packed.bits)
        return y.view(*x_TBCHW.shape[:2], *y.shape[1:])


_NAME = "_filtered_spikes"


@dataclasses.dataclass(eq=False)
class _Filter:
    """The forward of a synapse, a PSP norm or both, whose readers are convolutions that take spikes in their place."""

    part: nn.Module
    plainly: Callable[[Tensor], Tensor]
    trace: Trace
    norm: PSPNorm | None
    ways: Ways = dataclasses.field(default_factory=Ways)

    def __call__(self, s_TBCHW: Tensor) -> Tensor:
        if not _is_left_to_the_weights(self.part, s_TBCHW):
            return self.plainly(s_TBCHW)
        words, (num_steps, _, _, height, width) = words_of(s_TBCHW), s_TBCHW.shape
        packed = _packed(s_TBCHW, words)
        by_events = packed.whole and packed.rate <= MOST_RATE
        self.ways.add(by_events, packed.rate)
        if not by_events:
            return filtered(self.trace, self.norm, s_TBCHW)
        scale = None
        if self.norm is not None:
            scale = scale_of(self.norm, self.trace, packed.bits, num_steps, height, width).to(s_TBCHW.dtype)
        handed_on = s_TBCHW.view_as(s_TBCHW)  # the spikes have other readers
        setattr(handed_on, _NAME, FilteredSpikes(packed.bits, words, self.trace, scale))
        return handed_on


@dataclasses.dataclass(eq=False)
class _OfFiltered:
    """The forward of a convolution behind it."""

    layer: Conv2d
    densely: Callable[[Tensor], Tensor]
    ways: Ways

    def __call__(self, x_TBCHW: Tensor) -> Tensor:
        given: FilteredSpikes | None = getattr(x_TBCHW, _NAME, None)
        if given is None:
            return self.densely(x_TBCHW)
        weight, (stride, _) = self.layer.effective_weight(), self.layer.stride
        return filtered_conv2d(x_TBCHW, weight, given, stride, self.layer.groups)


def _leave_to_what_follows(synapse: nn.Module, plainly: Callable[[Tensor], Tensor], s_TBN: Tensor) -> Tensor:
    return s_TBN if _is_left_to_the_weights(synapse, s_TBN) else plainly(s_TBN)


def _is_left_to_the_weights(part: nn.Module, s_TBCHW: Tensor) -> bool:
    return part.training and len(s_TBCHW) <= MOST_STEPS and _can_be_read(s_TBCHW)


def _packed(x_TBCHW: Tensor, words: Tensor | None) -> Packed:
    s = x_TBCHW.flatten(0, 1)
    return pack(s.detach()) if words is None else pack_words(words, *s.shape[2:])


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
    for synapse, norm, layers in list(_filters_that_convolutions_alone_read(network)):
        trace = trace_of(synapse or IdentitySynapse())
        part = norm or synapse
        assert trace is not None and part is not None
        if norm is not None and synapse is not None:
            plainly = functools.partial(_leave_to_what_follows, synapse, synapse.forward)
            _replace_forward(synapse, plainly)
        of_filter = _Filter(part, part.forward, trace, norm)
        _replace_forward(part, of_filter)
        for layer in layers:
            _replace_forward(layer, _OfFiltered(layer, layer.forward, of_filter.ways))


def _filters_that_convolutions_alone_read(
    network: Network,
) -> Iterator[tuple[Synapse | None, PSPNorm | None, list[Conv2d]]]:
    """Find synapses and PSP norms, one behind the other or alone, between spikes and convolutions with a form here."""
    for node in data_flow(network).nodes:
        last, part = node, part_at(network, node)
        synapse = part if isinstance(part, Synapse) and trace_of(part) else None
        norm = part if has_a_moment_per_channel(part) else None
        if synapse is not None:
            if (trace := trace_of(synapse)) is None or trace.name not in TRACES:
                continue
            readers = [part_at(network, reader) for reader in node.users]
            if len(readers) == 1 and has_a_moment_per_channel(readers[0]):
                norm, (last,) = readers[0], node.users
        if (synapse is None and norm is None) or not is_spikes(network, node.all_input_nodes[0]):
            continue
        layers = [part_at(network, reader) for reader in last.users]
        if layers and all(_has_a_form(layer) for layer in layers):
            yield synapse, norm, [layer for layer in layers if isinstance(layer, Conv2d)]


def _has_a_form(layer: nn.Module | None) -> bool:
    return isinstance(layer, Conv2d) and layer.kernel_size in KERNEL_SIZES and layer.bias is None


def layers_that_read_spikes(network: Network) -> Iterator[Conv2d]:
    """Find the convolutions whose input is 0 or 1 and that have a form by events."""
    for node in data_flow(network).nodes:
        layer = part_at(network, node)
        if isinstance(layer, Conv2d) and _has_a_form(layer):
            (read,) = node.all_input_nodes
            if is_spikes(network, read):
                yield layer


def ways_of(network: nn.Module) -> dict[str, Ways]:
    """Return how the layers that read spikes computed the training batches up to now, by name."""
    forwards = {name: vars(module).get("forward") for name, module in network.named_modules()}
    return {name: forward.ways for name, forward in forwards.items() if isinstance(forward, _ByEvents | _OfFiltered)}


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
