"""Which part of a network reads which, read off the network's own forward; a new block needs no word here."""

from __future__ import annotations

from torch import fx, nn

from snn_exp.nn.blocks import Block
from snn_exp.nn.networks import Network


def data_flow(network: Network) -> fx.Graph:
    """Parts and operations in the order of the forward; blocks and chains are looked into, all else is one node."""
    return _Tracer().trace(network)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, nn.Sequential | Block | Network)


def part_at(network: nn.Module, node: fx.Node) -> nn.Module | None:
    """The part that a node calls; None if it is an operation, the input or the output."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def innermost_kind(network: nn.Module, node: fx.Node) -> type[nn.Module]:
    """The class of the part that a node calls, or of the block around an operation."""
    kinds: list[type[nn.Module]] = [type(network), *(kind for _, kind in node.meta.get("nn_module_stack", {}).values())]
    return kinds[-1]
