"""The data flow of a network, traced from its own forward, so that a new block needs no change here."""

from __future__ import annotations

from torch import fx, nn

from snn_exp.nn.blocks import Block
from snn_exp.nn.networks import Network


def data_flow(network: Network) -> fx.Graph:
    """Trace parts and operations in the order of the forward; blocks and chains are opened, all else is one node."""
    return _Tracer().trace(network)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, nn.Sequential | Block | Network)


def part_at(network: nn.Module, node: fx.Node) -> nn.Module | None:
    """Return the part that a node calls; None if it is an operation, the input or the output."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def innermost_kind(network: nn.Module, node: fx.Node) -> type[nn.Module]:
    """Return the class of the part that a node calls, or of the block around an operation."""
    kinds: list[type[nn.Module]] = [type(network), *(kind for _, kind in node.meta.get("nn_module_stack", {}).values())]
    return kinds[-1]
