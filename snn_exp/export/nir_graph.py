"""A network as a NIR graph: the NIR nodes of its parts, and what NIR cannot represent.

Shapes: T steps, B batch, C channels, H W space, N any feature dimensions (C alone, or C, H, W).

NIR's neurons are differential equations. One step of ours is one step of Euler's forward method over DT seconds, in
this order: the current, the membrane, the spike, the reset. Membranes are written relative to v_reset, so that they
start at 0 and are reset to 0. A spike is v > v_threshold there and h >= v_threshold here, so the file has
the next number below it.

    ours                                        NIR
    if        h = v + x                         IF       v' = R I                      R = 1 / DT
    lif, plif h = v + (x - v) / tau             LIF      tau v' = (v_leak - v) + R I   tau = tau DT, R = 1
              h = v - v / tau + x                                                      tau = tau DT, R = tau
    cuba_lif  i = c i + x                       CubaLIF  tau_syn I' = -I + w_in S      tau_syn = DT / (1 - c)
                                                                                       w_in = 1 / (1 - c)
              h = d v + i                                tau_mem v' = -v + R I         with d likewise
    s2nn      s = H(x - v_threshold)            Threshold
    synapse   psp = d psp + s                   LI       tau v' = -v + R I             with d likewise; I where d = 1
              alpha                             two LI in a row
    a folded threshold passed from above        R, w_in or a Scale in front is negative

Several edges into a node are summed, and so residual networks are graphs; a sum that several parts read stands in a
Scale by 1. The classifier is linear and comes before the mean over time: logits = mean over the steps of the output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from snn_exp.errors import UserError
from snn_exp.export.fold import Folded
from snn_exp.export.reading import require
from snn_exp.nn.graph import data_flow, innermost_kind, part_at
from snn_exp.nn.layers import ChannelBias, TimeFolded
from snn_exp.nn.networks import MaxPool, MeanOverTimeAndSpace, Network
from snn_exp.nn.neurons import IF, LIF, PLIF, S2NN, CubaLIF, IntegratingNeuron, Neuron
from snn_exp.nn.norms import NoNorm, Norm
from snn_exp.nn.shortcuts import PoolDup
from snn_exp.nn.synapses import AlphaSynapse, ExponentialSynapse

DT = 1e-4  # seconds per step: the usual default of programs that read NIR
PACKAGES = ("nir", "h5py")
INSTEAD = "type --format onnx, which can"

NodeNames = tuple[str, ...]  # nodes whose sum is a value


@torch.no_grad()
def write_nir(network: Network, in_shape: Sequence[int], num_steps: int, path: Path, said: Mapping[str, str]) -> None:
    """Write the network after the encoding, in the precision of its parameters.

    Args:
        network: in eval; without norms.
        in_shape: (C, H, W) of one sample at one step.
        num_steps: T.
        path: the file.
        said: the file's description of itself.

    Raises:
        UserError: a part that NIR cannot represent, or a package is not installed.
    """
    require("nir", *PACKAGES)
    network = network.network if isinstance(network, Folded) else network
    graph = _Writing(network, next(network.parameters()).dtype)
    graph.walk(in_shape, num_steps)
    import nir

    metadata = {"dt": DT, "num_steps": num_steps, "logits": "mean over the steps of the output", **said}
    nir.write(str(path), nir.NIRGraph(graph.nodes, graph.edges, metadata))


class _Writing:
    """Nodes and edges as they come."""

    def __init__(self, network: Network, dtype: torch.dtype) -> None:
        self.network = network
        self.dtype = dtype
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []

    def walk(self, in_shape: Sequence[int], num_steps: int) -> None:
        """Write every part and operation of the forward, in its order."""
        import nir

        flow = data_flow(self.network)
        ShapeProp(fx.GraphModule(self.network, flow)).propagate(torch.zeros(num_steps, 1, *in_shape, dtype=self.dtype))
        values: dict[fx.Node, NodeNames] = {}
        for node in flow.nodes:
            read = [values[source] for source in node.all_input_nodes]
            name = str(node.name)
            if node.op == "placeholder":
                values[node] = self.add("input", nir.Input(np.array(in_shape)), ())
            elif node.op == "output":
                self.add("output", nir.Output(np.array(_shape(node.all_input_nodes[0]))), *read)
            elif (part := part_at(self.network, node)) is not None:
                values[node] = self.part(name, str(node.target), part, node, *read)
            else:
                values[node] = self.operation(name, node, read)

    def add(self, name: str, node: Any, *reads: NodeNames) -> NodeNames:
        """Add a node that reads the sum of the given nodes."""
        self.nodes[name] = node
        self.edges += [(source, name) for value in reads for source in value]
        return (name,)

    def operation(self, name: str, node: fx.Node, read: list[NodeNames]) -> NodeNames:
        """Write an operation: a sum, a factor, the flattening of pixels."""
        import nir

        kind = getattr(node.target, "__name__", node.target)
        numbers = [a for a in node.args if isinstance(a, int | float)]
        if kind == "add" and not numbers:
            total = tuple(source for value in read for source in value)
            if len(node.users) == 1:
                return total
            return self.add(name, nir.Scale(self.constant(1.0, _shape(node))), total)
        if kind == "mul" and len(numbers) == 1:
            return self.add(name, nir.Scale(self.constant(numbers[0], _shape(node))), *read)
        if kind == "flatten" and node.args[1:] == (2,):
            return self.add(name, nir.Flatten(np.array(_shape(node.all_input_nodes[0])), 0, -1), *read)
        block = innermost_kind(self.network, node).__name__
        raise UserError(
            f"{block} has an operation ({kind}) that NIR cannot represent: between parts it has sums and constant "
            f"factors alone; {INSTEAD}"
        )

    def part(self, name: str, label: str, part: nn.Module, node: fx.Node, read: NodeNames) -> NodeNames:
        """Write the nodes of one part."""
        if isinstance(part, Norm) and not isinstance(part, NoNorm):
            raise _unfolded(label, part)
        if isinstance(part, nn.Identity | Norm):
            return read
        before, behind = _shape(node.all_input_nodes[0]), _shape(node)
        for kinds, write in self.writers().items():
            if isinstance(part, kinds):
                return write(name, label, part, before, behind, read)
        raise UserError(f"{label} is a {type(part).__name__}, which NIR cannot represent; {INSTEAD}")

    def writers(self) -> dict[Any, Callable[..., NodeNames]]:
        """Return the method that writes each kind of part."""
        return {
            nn.Conv2d: self.conv,
            nn.Linear: self.linear,
            ChannelBias: self.channel_bias,
            PoolDup: self.pool_dup,
            MaxPool: self.max_pool,
            MeanOverTimeAndSpace: self.mean,
            ExponentialSynapse: self.exponential,
            AlphaSynapse: self.alpha,
            Neuron: self.neuron,
        }

    # --- weights and pooling ---------------------------------------------------------------------------

    def conv(
        self, name: str, label: str, part: nn.Conv2d, before: NodeNames, behind: NodeNames, read: NodeNames
    ) -> NodeNames:
        """Write Conv2d, with the weights as they are used."""
        weight = _effective(part)
        bias = torch.zeros(len(weight)) if part.bias is None else part.bias
        return self.convolution(name, before, weight, bias, part.stride, part.padding, read)

    def convolution(
        self, name: str, before: Any, weight: Tensor, bias: Tensor, stride: Any, padding: Any, read: NodeNames
    ) -> NodeNames:
        """Write Conv2d from torch's Conv2d."""
        import nir

        stride, padding = (tuple(int(size) for size in sizes) for sizes in (stride, padding))
        node = nir.Conv2d(tuple(before[1:]), self.array(weight), stride, padding, (1, 1), 1, self.array(bias))
        return self.add(name, node, read)

    def linear(
        self, name: str, label: str, part: nn.Linear, before: NodeNames, behind: NodeNames, read: NodeNames
    ) -> NodeNames:
        """Write Linear or Affine, with the weights as they are used."""
        import nir

        weight = self.array(_effective(part))
        bias = None if part.bias is None else self.array(part.bias)
        return self.add(name, nir.Linear(weight) if bias is None else nir.Affine(weight, bias), read)

    def channel_bias(
        self, name: str, label: str, part: ChannelBias, before: Any, behind: Any, read: NodeNames
    ) -> NodeNames:
        """Write Conv2d, or Affine, with the identity for weights, since NIR has no constant."""
        import nir

        channels = before[0]
        identity = torch.eye(channels)
        bias = part.bias.flatten().expand(channels)
        if len(before) == 1:
            return self.add(name, nir.Affine(self.array(identity), self.array(bias)), read)
        return self.convolution(name, before, identity[..., None, None], bias, (1, 1), (0, 0), read)

    def pool_dup(self, name: str, label: str, part: PoolDup, before: Any, behind: Any, read: NodeNames) -> NodeNames:
        """Write AvgPool2d, then a Conv2d that repeats channels."""
        import nir

        if part.pool != "avg":
            raise UserError(
                f"{label} takes the largest of several counts of spikes, which NIR cannot represent; {INSTEAD}"
            )
        _require_whole_windows(label, before, part.stride)
        size = np.array([part.stride, part.stride])
        pooled = self.add(f"{name}_pool", nir.AvgPool2d(size, size, np.array([0, 0])), read)
        repeated = torch.eye(before[0]).repeat(part.repeats, 1)[..., None, None]
        return self.convolution(
            name, (before[0], *behind[1:]), repeated, torch.zeros(behind[0]), (1, 1), (0, 0), pooled
        )

    def max_pool(self, name: str, label: str, part: MaxPool, before: Any, behind: Any, read: NodeNames) -> NodeNames:
        """Write SumPool2d, then a Threshold, which passes where there is any spike."""
        import nir

        _require_whole_windows(label, before, 2)
        size = np.array([2, 2])
        summed = self.add(f"{name}_sum", nir.SumPool2d(size, size, np.array([0, 0])), read)
        return self.add(name, nir.Threshold(self.constant(0.5, behind)), summed)

    def mean(self, name: str, label: str, part: nn.Module, before: Any, behind: Any, read: NodeNames) -> NodeNames:
        """Write AvgPool2d over all of space; the mean over time is left to the reader of the output."""
        import nir

        if len(before) == 1:
            return read
        size = np.array(before[1:])
        pooled = self.add(f"{name}_space", nir.AvgPool2d(size, size, np.array([0, 0])), read)
        return self.add(name, nir.Flatten(np.array([before[0], 1, 1]), 0, -1), pooled)

    # --- parts with dynamics -----------------------------------------------------------------------------

    def exponential(self, name: str, label: str, part: Any, before: Any, behind: Any, read: NodeNames) -> NodeNames:
        """Write LI, or I where nothing decays."""
        return self.add(name, self.trace(part.decay, behind), read)

    def alpha(self, name: str, label: str, part: AlphaSynapse, before: Any, behind: Any, read: NodeNames) -> NodeNames:
        """Write two LI in a row."""
        if part.sampling != "immediate":
            raise UserError(
                f"{label} responds one step late (synapse.sampling={part.sampling}), which the steps of NIR "
                f"cannot represent; {INSTEAD}"
            )
        d = math.exp(-1 / part.tau_s)
        first = self.add(f"{name}_first", self.trace(d, behind), read)
        return self.add(name, self.trace(d, behind, math.e * d / part.tau_s), first)

    def trace(self, decay: float, shape: Any, gain: float = 1.0) -> Any:
        """Write y = decay y + gain x."""
        import nir

        if decay == 1:
            return nir.I(self.constant(gain / DT, shape))
        tau, r, leak = (self.constant(value, shape) for value in (DT / (1 - decay), gain / (1 - decay), 0.0))
        return nir.LI(tau, r, leak)

    def neuron(self, name: str, label: str, neuron: Neuron, before: Any, behind: Any, read: NodeNames) -> NodeNames:
        """Write IF, LIF, CubaLIF or Threshold."""
        import nir

        if isinstance(neuron.membrane_norm, Norm):
            raise _unfolded(f"{label}.membrane_norm", neuron.membrane_norm)
        if type(neuron) not in (IF, LIF, PLIF, CubaLIF, S2NN):
            raise UserError(
                f"{label} is a {type(neuron).__name__}, which NIR cannot represent: of our neurons it has if, lif, "
                f"plif, cuba_lif and s2nn; {INSTEAD}"
            )
        if isinstance(neuron, IntegratingNeuron) and neuron.reset != "hard":
            raise UserError(
                f"{label} subtracts its threshold when it fires (neuron.reset=soft), and NIR's neurons are set to "
                f"v_reset; {INSTEAD}"
            )
        sign, threshold = self.firing(neuron, behind)
        if isinstance(neuron, S2NN):
            if (sign < 0).any():
                read = self.add(f"{name}_sign", nir.Scale(sign), read)
            return self.add(name, nir.Threshold(threshold), read)
        if isinstance(neuron, IF):
            return self.add(name, nir.IF(self.scaled(sign, 1 / DT), threshold), read)
        if isinstance(neuron, LIF):
            tau = 1 / float(neuron.leak())
            node = nir.LIF(
                self.constant(tau * DT, behind), self.scaled(sign, 1 if neuron.decay_input else tau),
                self.constant(0.0, behind), threshold,
            )  # fmt: skip
            return self.add(name, node, read)
        assert isinstance(neuron, CubaLIF)
        for key in ("current_decay", "voltage_decay"):
            if getattr(neuron, key) == 1:
                raise UserError(f"{label} has neuron.{key}=1, an infinite time constant, which NIR lacks; {INSTEAD}")
        current, voltage = 1 / (1 - neuron.current_decay), 1 / (1 - neuron.voltage_decay)
        node = nir.CubaLIF(
            self.constant(current * DT, behind), self.constant(voltage * DT, behind), self.constant(voltage, behind),
            self.constant(0.0, behind), threshold, w_in=self.scaled(sign, current),
        )  # fmt: skip
        return self.add(name, node, read)

    def firing(self, neuron: Neuron, shape: Any) -> tuple[Any, Any]:
        """Return sign and threshold per feature, relative to v_reset, so that it fires where sign v > threshold."""
        folded = neuron.folded_threshold
        threshold = neuron.v_threshold if folded is None else folded.threshold
        sign = torch.ones_like(threshold) if folded is None else folded.sign
        if isinstance(neuron, IntegratingNeuron):
            threshold = threshold - neuron.v_reset
        whole = self.array((sign * threshold).expand(tuple(shape)))
        return self.array(sign.expand(tuple(shape))), np.nextafter(whole, -np.inf, dtype=whole.dtype)

    # --- numbers ---------------------------------------------------------------------------------------

    def array(self, tensor: Tensor) -> Any:
        """Convert to an array in the precision of the network."""
        return np.ascontiguousarray(tensor.detach().to(self.dtype).numpy())

    def constant(self, value: float, shape: Any) -> Any:
        """Repeat a value for every feature."""
        return self.array(torch.full(tuple(shape), float(value), dtype=torch.float64))

    def scaled(self, array: Any, factor: float) -> Any:
        """Multiply and keep the precision."""
        return (array * factor).astype(array.dtype)


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Return (C, ...) of one sample at one step; (K,) of the logits."""
    shape = tuple(node.meta["tensor_meta"].shape)
    return shape[2:] if len(shape) > 2 else shape[1:]


def _effective(part: Any) -> Tensor:
    weight: Tensor = part.effective_weight() if isinstance(part, TimeFolded) else part.weight
    return weight


def _require_whole_windows(label: str, before: Sequence[int], stride: int) -> None:
    if any(size % stride for size in before[1:]):
        raise UserError(
            f"{label} pools {before[1]} x {before[2]} values by {stride}, with windows that reach over the edge, which "
            f"NIR cannot represent; {INSTEAD}"
        )


def _unfolded(label: str, norm: Norm) -> UserError:
    return UserError(
        f"{label} is a {type(norm).__name__}, and NIR has no norms; type --format nir --folded, which folds them into "
        f"weights and thresholds"
    )
