"""K networks of one shape joined into one, which computes in one pass what they compute in K.

Shapes: K networks, T steps, B batch, C channels, N any feature dimensions (C alone, or C, H, W).

The channels of the networks follow each other: a module that treats all channels alike stays as it is, with its tensors
joined; a convolution has K groups. The networks' own tensors become views of the joined ones, so that an
optimizer of either is one of both.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from snn_exp.nn.blocks import Block
from snn_exp.nn.layers import Conv2d, Linear
from snn_exp.nn.networks import MaxPool, MeanOverTimeAndSpace, Network
from snn_exp.nn.neurons import (
    IF,
    LIF,
    S2NN,
    SRM,
    IntegerLIF,
    MultiThreshold,
    QuantizedReLU,
    ReLU,
    RSign,
    Sign,
    Ternary,
)
from snn_exp.nn.norms import (
    AnyDimBatchNorm,
    BatchNorm,
    NoNorm,
    Norm,
    PSPNorm,
    PSPStreamNorm,
    ThresholdDependentBatchNorm,
)
from snn_exp.nn.shortcuts import PoolDup, RPReLU
from snn_exp.nn.surrogates import Surrogate
from snn_exp.nn.synapses import Synapse
from snn_exp.nn.weights import FewBitWeights, StandardizedWeights, WeightNorm, WeightQuant

# The exact classes whose tensors have one value per channel, and the axis of their channels.
CHANNEL_AXIS: dict[type[nn.Module], int] = {
    **dict.fromkeys((Conv2d, Linear, nn.Linear, AnyDimBatchNorm, StandardizedWeights, RPReLU, IF, LIF, SRM), 0),
    **dict.fromkeys((S2NN, Sign, RSign, ReLU, QuantizedReLU, MultiThreshold, IntegerLIF, Ternary), 0),
    FewBitWeights: 0,
    **dict.fromkeys((PSPNorm, PSPStreamNorm), 2),
}
# What treats every channel alike, or does nothing but call its parts: these exactly, and of those kinds whatever is
# ours; a guest's may do something else.
CHANNELWISE = (NoNorm, BatchNorm, ThresholdDependentBatchNorm, PoolDup, MaxPool, MeanOverTimeAndSpace)
CHANNELWISE_KINDS = (nn.Sequential, Network, Block, Surrogate, Synapse, WeightNorm, WeightQuant)


def what_cannot_be_stacked(network: nn.Module) -> str | None:
    """Return the first part that mixes channels or has a tensor without one value per channel; None if there is none.

    Example:
        >>> what_cannot_be_stacked(nn.Sequential(nn.LayerNorm(3)))
        'LayerNorm'
    """
    return next((type(module).__name__ for module in network.modules() if not _can_be_stacked(module)), None)


def _can_be_stacked(module: nn.Module) -> bool:
    if isinstance(module, Norm) and "C" in module.statistics_over:
        return False
    if type(module) in CHANNEL_AXIS:
        return all(p.dim() > 0 for p in module.parameters(recurse=False))
    return not any(True for _ in _own_tensors(module)) and (
        type(module) in CHANNELWISE or (isinstance(module, CHANNELWISE_KINDS) and _is_ours(module))
    )


def _is_ours(module: nn.Module) -> bool:
    return type(module).__module__.startswith(("snn_exp.", "torch."))


@dataclasses.dataclass(frozen=True)
class Joined:
    """A tensor of the stack, and the tensors of the networks, which are views of it.

    Args:
        whole: the stack's.
        views: one per network.
        axis: along which they are concatenated.
    """

    whole: Tensor
    views: list[Tensor]
    axis: int

    def parts(self, tensor: Tensor) -> Sequence[Tensor]:
        """Split a tensor of the same shape as the whole in the same way."""
        return tensor.chunk(len(self.views), self.axis)


class Stack:
    """Networks side by side.

    Args:
        networks: of one config but for the seed, each on the same device and in the same dtype; from here on their
            tensors are views of those of the stack.

    Example:
        >>> from snn_exp.config.compose import compose
        >>> from snn_exp.training.build import DataSpec, assemble
        >>> seen = DataSpec((1, 8, 8), 10, 0.0, 1.0)
        >>> networks = [assemble(compose(["method=s2nn_bn", f"seed={k}"]), seen).network for k in range(3)]
        >>> [tuple(logits.shape) for logits in Stack(networks)([torch.rand(1, 4, 1, 8, 8)] * 3)]
        [(4, 10), (4, 10), (4, 10)]
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self.whole = copy.deepcopy(networks[0])
        self.joined: list[Joined] = []
        self._counters: list[Tensor] = []
        for name, module in list(self.whole.named_modules()):
            self._widen(module, [network.get_submodule(name) for network in networks])
        for module in list(self.whole.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, Linear | nn.Linear):
                    setattr(module, name, _GroupedLinear(child, len(networks)))
                elif isinstance(child, PoolDup):
                    setattr(module, name, _GroupedPoolDup(child, len(networks)))

    @torch.no_grad()
    def _widen(self, module: nn.Module, theirs: Sequence[nn.Module]) -> None:
        if isinstance(module, Conv2d):
            module.groups = len(theirs)
        for name, tensor in _own_tensors(module):
            views = [getattr(part, name) for part in theirs]
            if tensor.dim() == 0:  # what is the same for all, or counts batches
                self._counters += [] if tensor.is_floating_point() else views
                continue
            axis = CHANNEL_AXIS[type(module)]
            whole = torch.cat([view.detach() for view in views], axis)
            for view, part in zip(views, whole.chunk(len(views), axis), strict=True):
                view.data = part
            setattr(module, name, nn.Parameter(whole) if isinstance(tensor, nn.Parameter) else whole)
            self.joined.append(Joined(getattr(module, name), views, axis))

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the logits [B, classes] of each network on its own input [T, B, C, ...], in training."""
        logits: Tensor = self.whole(torch.cat(list(inputs), 2))
        with torch.no_grad():
            for counter in self._counters:
                counter += 1
        return logits.chunk(len(inputs), 1)

    def hand_on_gradients(self) -> None:
        """Give every network its part of the gradients, and clear them here."""
        for joined in self.joined:
            if joined.whole.grad is not None:
                for view, part in zip(joined.views, joined.parts(joined.whole.grad), strict=True):
                    view.grad = part
                joined.whole.grad = None


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
        if tensor is not None:
            yield name, tensor


class _GroupedLinear(nn.Module):
    """K linear maps, each of its part of the last axis: [..., K I] -> [..., K O].

    Args:
        linear: with the weights of all, [K O, I].
        num_groups: K.
    """

    def __init__(self, linear: Linear | nn.Linear, num_groups: int) -> None:
        super().__init__()
        self.linear = linear
        self.num_groups = num_groups

    def forward(self, x: Tensor) -> Tensor:
        weight = self.linear.effective_weight() if isinstance(self.linear, Linear) else self.linear.weight
        grouped = weight.unflatten(0, (self.num_groups, -1))
        y: Tensor = torch.einsum("...ki,koi->...ko", x.unflatten(-1, (self.num_groups, -1)), grouped).flatten(-2)
        if self.linear.bias is not None:
            y = y + self.linear.bias
        return y


class _GroupedPoolDup(nn.Module):
    """A pooling shortcut that repeats the channels of each of K groups behind themselves.

    Args:
        shortcut: of one network.
        num_groups: K.
    """

    def __init__(self, shortcut: PoolDup, num_groups: int) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.num_groups = num_groups

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        grouped = x_TBCHW.unflatten(2, (self.num_groups, -1)).transpose(1, 2).flatten(1, 2)
        repeated = self.shortcut(grouped).unflatten(1, (self.num_groups, -1))
        y_TBCHW: Tensor = repeated.transpose(1, 2).flatten(2, 3)
        return y_TBCHW
