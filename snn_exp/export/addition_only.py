"""Addition-only inference: the multiplications that remain in a folded network, where, and why.

A hidden weight layer only adds (ACs, no MACs) if all that it reads is in {-1, 0, 1}, or levels that run as spikes in
binary slots, and no filter follows it. The unit of levels goes into the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from torch import fx, nn

from snn_exp.nn.blocks import PreActivationBlock
from snn_exp.nn.graph import data_flow, innermost_kind, part_at
from snn_exp.nn.networks import Network
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.shortcuts import PoolDup, RPReLU
from snn_exp.nn.synapses import Synapse


@dataclasses.dataclass(frozen=True)
class Multiplications:
    """The multiplications of a folded network.

    Args:
        num_hidden: weight layers between the first and the last.
        hidden: those of them that multiply -> why.
        elsewhere: other parts that do -> first layer, shortcut, stream, or readout.
        moves_states: whether neurons have states, whose updates are counted apart.
    """

    num_hidden: int
    hidden: dict[str, str]
    elsewhere: dict[str, str]
    moves_states: bool

    def text(self) -> str:
        """Format the verdict, and the layers it is about.

        Example:
            >>> print(Multiplications(6, {}, {"stem.conv": "first layer", "classifier": "readout"}, False).text())
            AC-only: yes, all 6 hidden weight layers only add
              multiplications elsewhere: stem.conv (first layer), classifier (readout)
        """
        lines = [f"AC-only: yes, all {self.num_hidden} hidden weight layers only add"]
        if self.hidden:
            lines = [f"AC-only: no, {len(self.hidden)} of {self.num_hidden} hidden weight layers multiply"]
        for reason in dict.fromkeys(self.hidden.values()):
            lines.append(f"  these {reason}: {', '.join(part for part, why in self.hidden.items() if why == reason)}")
        elsewhere = [f"{part} ({place})" for part, place in self.elsewhere.items()]
        elsewhere += ["updates of neuron states, counted apart"] if self.moves_states else []
        return "\n".join([*lines, f"  multiplications elsewhere: {', '.join(elsewhere) or 'none'}"])


def multiplications(network: Network, counts: Mapping[str, Mapping[str, float]]) -> Multiplications:
    """Find the multiplications that remain, from the counts.

    Args:
        network: a folded network, so that it has no norm.
        counts: of `operations.SynapticOperations.by_layer` for it on some input.
    """
    weights = [n for n in data_flow(network).nodes if isinstance(part_at(network, n), nn.Conv2d | nn.Linear)]
    first, *hidden, last = weights
    why = {str(node.target): _why(network, node, counts[str(node.target)]) for node in hidden}
    elsewhere = {str(first.target): "first layer"} if _multiplies(counts[str(first.target)]) else {}
    elsewhere |= dict(_scaling_of_the_stream(network))
    # a filter stays where it is only if no weights read it
    behind = [name for name in counts if isinstance(network.get_submodule(name), Synapse)]
    elsewhere |= {name: "readout" for name in (*behind, str(last.target)) if _multiplies(counts[name])}
    return Multiplications(
        num_hidden=len(hidden),
        hidden={part: reason for part, reason in why.items() if reason},
        elsewhere=elsewhere,
        moves_states=any(isinstance(m, Neuron) and not m.single_step for m in network.modules()),
    )


def _multiplies(counts: Mapping[str, float]) -> bool:
    return counts.get("mac", 0) + counts.get("filter_mac", 0) > 0


def _why(network: Network, weights: fx.Node, counts: Mapping[str, float]) -> str:
    """Say why a weight layer multiplies (empty if it does not): what made its input values, and their filter."""
    (source,) = weights.all_input_nodes
    filters = []
    while isinstance(part := part_at(network, source), Synapse | nn.Identity):
        filters += [type(part).__name__] if isinstance(part, Synapse) else []
        (source,) = source.all_input_nodes
    reads = [f"read the output of {innermost_kind(network, source).__name__}"] if counts["mac"] else []
    return " and ".join([*reads, *(f"have {name} after them" for name in filters if counts.get("filter_mac"))])


def _scaling_of_the_stream(network: Network) -> Iterator[tuple[str, str]]:
    """Find the parts that average, scale or rectify the stream around the weight layers, and where."""
    for name, module in network.named_modules():
        averages = isinstance(module, PoolDup) and module.pool == "avg"
        if averages or (isinstance(module, PreActivationBlock) and module.stream_decay != 1):
            yield name, "shortcut"
        elif isinstance(module, RPReLU):
            yield name, "stream"
