"""Residual blocks: two weight layers and the shortcut around them.

Shapes: T steps, B batch, C channels, H W space.
Symbols: x the real stream, s spikes, n a neuron, psp the synapse and a psp norm if one is chosen, W weights.

A block's traits state its stream and what a config may combine it with:

    stream           its output: "real" values, "spikes" {0, 1}, or "counts" {0, 1, 2, ...} of spikes
    needs_spikes     it combines spikes by logic or counts them, so the neuron must emit 0 and 1
    default_readout  the meaning of network.readout=null
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from snn_exp.nn.layers import Conv2d, PartFactories
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.norms import Norm
from snn_exp.nn.shapes import FeatureShape
from snn_exp.nn.shortcuts import PoolDup, RPReLU
from snn_exp.registry import Fraction, Registry

Shortcut = Literal["avgpool_dup", "conv"]
SpikeShortcut = Literal["conv", "maxpool_dup"]  # those that pass spikes on where spikes come in
BranchScaling = Literal["inverse_sqrt", "none"]
StreamActivation = Literal["none", "rprelu"]


@dataclass(frozen=True)
class BlockSite:
    """The position of one block in its network, as `Site` is that of a norm: in no config.

    Args:
        parts: the factories.
        in_shape: (C, H, W) of one sample at one step.
        out_channels: C'.
        stride: step in space of the first weight layer.
        num_blocks: number of blocks in the network.
    """

    parts: PartFactories
    in_shape: FeatureShape
    out_channels: int
    stride: int
    num_blocks: int

    @property
    def out_shape(self) -> FeatureShape:
        """Return (C', H', W')."""
        return (self.out_channels, *(math.ceil(size / self.stride) for size in self.in_shape[1:]))

    def conv1(self, gain: float = 1.0) -> Conv2d:
        """Build the first weight layer, which changes the shape."""
        return self.parts.conv(self.in_shape, self.out_channels, stride=self.stride, gain=gain)

    def conv2(self, gain: float = 1.0) -> Conv2d:
        """Build the second weight layer."""
        return self.parts.conv(self.out_shape, self.out_channels, gain=gain)

    def shortcut(self, kind: Shortcut | SpikeShortcut) -> nn.Module | None:
        """Build the shortcut where the shape changes; None is the identity."""
        if self.stride == 1 and self.in_shape[0] == self.out_channels:
            return None
        if kind == "conv":
            return self.parts.conv(self.in_shape, self.out_channels, kernel_size=1, stride=self.stride)
        pool: Literal["avg", "max"] = "avg" if kind == "avgpool_dup" else "max"
        return PoolDup(pool, self.stride, repeats=self.out_channels // self.in_shape[0])

    def branch_gain(self, scaling: BranchScaling, branches_a_block: int = 1) -> float:
        """Return the factor by which the last weights of a branch start smaller."""
        return 1 / math.sqrt(branches_a_block * self.num_blocks) if scaling == "inverse_sqrt" else 1.0

    def stream_activation(self, kind: StreamActivation) -> RPReLU | None:
        """Build the activation that acts on the stream after an addition."""
        return RPReLU(self.out_channels) if kind == "rprelu" else None


class Block(nn.Module, ABC):
    """Two weight layers and the shortcut around them: [T, B, C, H, W] -> [T, B, C', H', W'].

    Args:
        site: its position.
    """

    stream: ClassVar[str] = "real"
    needs_spikes: ClassVar[bool] = False
    num_sums: ClassVar[int] = 0  # additions of streams per value of its output
    default_readout: ClassVar[str] = "membrane"
    # whether the current norm is on the stream, before the neuron that reads it; else after the weights
    normalizes_stream: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def __init__(self, site: BlockSite) -> None:
        super().__init__()
        self.out_shape = site.out_shape
        self.shortcut_norm: Norm | None = None
        self.shortcut_neuron: Neuron | None = None

    @property
    def shares_filter(self) -> bool:
        """Return whether a convolution in the shortcut adds straight to another weight layer's output.

        Then one filter on the sum serves both: W1 (eps * s1) + W2 (eps * s2) = eps * (W1 s1 + W2 s2).
        """
        norm = self.shortcut_norm
        return self.shortcut_neuron is None and (not isinstance(norm, Norm) or norm.folds)  # no Norm once it is folded

    @abstractmethod
    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Compute the stream after the block."""


RESIDUALS: Registry[Block] = Registry("residual", traits=("stream", "needs_spikes", "default_readout"))


@RESIDUALS.register("pre")
class PreActivationBlock(Block):
    """Pre-activation: the identity path carries a real, membrane-like stream, untouched.

    Equation:
        a(stream_decay x + W2 psp(n(norm(W1 psp(n(norm(x))))))), a the identity or RPReLU

    Shapes:
        x: [T, B, C, H, W] -> [T, B, C', H', W']

    Args:
        shortcut: where the size changes, avgpool_dup carries x, pooled, its channels repeated; conv is a
            strided 1x1 convolution of the same filtered spikes that W1 reads.
        branch_scaling: inverse_sqrt starts W2 smaller by 1 / sqrt(number of branches in the network).
        stream_decay: factor on the shortcut; below 1 the stream stops growing with depth.
        activation: applied to the stream after each addition; rprelu is ReActNet's.

    Raises:
        UserError: an unknown shortcut, branch_scaling or activation, or stream_decay outside [0, 1].

    Source: He et al. 2016, in spiking form as in Ikegawa et al. 2022; scaling and decay are our choice.

    Example:
        >>> RESIDUALS["pre"].stream
        'real'
    """

    num_sums = 1

    def __init__(
        self,
        site: BlockSite,
        *,
        shortcut: Shortcut = "avgpool_dup",
        branch_scaling: BranchScaling = "inverse_sqrt",
        stream_decay: Fraction = 1.0,
        activation: StreamActivation = "none",
    ) -> None:
        super().__init__(site)
        self.stream_decay = stream_decay
        self.activation1 = site.parts.activation(site.in_shape)
        self.conv1 = site.conv1()
        self.activation2 = site.parts.activation(self.out_shape)
        self.conv2 = site.conv2(site.branch_gain(branch_scaling))
        self.shortcut = site.shortcut(shortcut)
        self.stream_activation = site.stream_activation(activation)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        psp = self.activation1(x_TBCHW)
        branch: Tensor = self.conv2(self.activation2(self.conv1(psp)))
        around = _shortcut_value(self.shortcut, x_TBCHW, psp)
        x = branch + (around if self.stream_decay == 1 else self.stream_decay * around)
        return _maybe(self.stream_activation, x)


def _shortcut_value(shortcut: nn.Module | None, stream: Tensor, weights_input: Tensor) -> Tensor:
    if shortcut is None:
        return stream
    value: Tensor = shortcut(weights_input if isinstance(shortcut, Conv2d) else stream)
    return value


@RESIDUALS.register("bireal")
class BiRealBlock(Block):
    """Pre-activation with a shortcut around every weight layer.

    Equation:
        x <- a(x + W1 psp(n(norm(x))));  x <- a(x + W2 psp(n(norm(x)))), a the identity or RPReLU

    Shapes:
        x: [T, B, C, H, W] -> [T, B, C', H', W']

    Args:
        shortcut: where the size changes, avgpool_dup carries x, pooled, its channels repeated; conv is a
            strided 1x1 convolution of the same filtered spikes that W1 reads.
        branch_scaling: inverse_sqrt starts W1 and W2 smaller by 1 / sqrt(number of branches in the network).
        activation: applied to the stream after each addition; rprelu is ReActNet's.

    Raises:
        UserError: an unknown shortcut, branch_scaling or activation.

    Source: Liu et al. 2018 (Bi-Real Net), with the norm before the activation; the scaling is our choice.

    Example:
        >>> RESIDUALS["bireal"].stream
        'real'
    """

    num_sums = 2

    def __init__(
        self,
        site: BlockSite,
        *,
        shortcut: Shortcut = "avgpool_dup",
        branch_scaling: BranchScaling = "inverse_sqrt",
        activation: StreamActivation = "none",
    ) -> None:
        super().__init__(site)
        gain = site.branch_gain(branch_scaling, branches_a_block=2)
        self.activation1 = site.parts.activation(site.in_shape)
        self.conv1 = site.conv1(gain)
        self.activation2 = site.parts.activation(self.out_shape)
        self.conv2 = site.conv2(gain)
        self.shortcut = site.shortcut(shortcut)
        self.stream_activation1 = site.stream_activation(activation)
        self.stream_activation2 = site.stream_activation(activation)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        psp = self.activation1(x_TBCHW)
        x = _maybe(self.stream_activation1, self.conv1(psp) + _shortcut_value(self.shortcut, x_TBCHW, psp))
        return _maybe(self.stream_activation2, x + self.conv2(self.activation2(x)))


@RESIDUALS.register("ms")
class MembraneShortcutBlock(Block):
    """Membrane shortcut: as pre, with the norm after the weights, so that the stream itself is never normalized.

    A branch starts at 0: the second norm's learned gain does, so that every block begins as its shortcut.
    Where that norm has none, or has another placement, W2 starts smaller by 1 / sqrt(number of blocks).

    Equation:
        x + norm(W2 psp(n(norm(W1 psp(n(x))))))

    Shapes:
        x: [T, B, C, H, W] -> [T, B, C', H', W']

    Args:
        shortcut: where the size changes, avgpool_dup carries x, pooled, its channels repeated; conv is a
            strided 1x1 convolution of the same filtered spikes that W1 reads, then the norm.

    Raises:
        UserError: an unknown shortcut.

    Source: Hu et al. 2024 (MS-ResNet), which reads spikes out; the shortcut and the scaling are our choice.

    Example:
        >>> RESIDUALS["ms"].default_readout
        'spikes'
    """

    default_readout = "spikes"
    normalizes_stream = False
    num_sums = 1

    def __init__(
        self,
        site: BlockSite,
        *,
        shortcut: Shortcut = "avgpool_dup",
    ) -> None:
        super().__init__(site)
        self.activation1 = site.parts.activation(site.in_shape, normalized=False)
        self.conv1 = site.conv1()
        self.activation2 = site.parts.activation(self.out_shape)
        # the branch and the shortcut are summed before the next neuron fires
        self.norm2 = site.parts.norm_at("current", self.out_shape, num_summands=2)
        gain = 1.0 if _starts_at_zero(self.norm2) else site.branch_gain("inverse_sqrt")
        self.conv2 = site.conv2(gain)
        self.shortcut = site.shortcut(shortcut)
        is_conv = isinstance(self.shortcut, Conv2d)
        self.shortcut_norm = site.parts.norm_at("current", self.out_shape, num_summands=2) if is_conv else None

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        psp = self.activation1(x_TBCHW)
        branch = _maybe(self.norm2, self.conv2(self.activation2(self.conv1(psp))))
        return branch + _maybe(self.shortcut_norm, _shortcut_value(self.shortcut, x_TBCHW, psp))


def _starts_at_zero(norm: Norm | None) -> bool:
    """Set the learned gain of a norm (named weight, as in torch) to 0; return False where there is none."""
    named = norm.named_parameters() if norm is not None else ()
    gains = [parameter for name, parameter in named if name.rpartition(".")[2] == "weight"]
    for gain in gains:
        nn.init.zeros_(gain)
    return bool(gains)


class _WeightsFirst(Block):
    """Base class of post, sew_* and none: filter, weights, norm, neuron, twice; spikes flow between blocks."""

    stream = "spikes"
    default_readout = "spikes"
    normalizes_stream = False
    num_summands: ClassVar[int] = 1  # of the sum that the second neuron reads

    def __init__(self, site: BlockSite) -> None:
        super().__init__(site)
        parts = site.parts
        self.filter1 = parts.filter(site.in_shape)
        self.conv1 = site.conv1()
        self.norm1 = parts.norm_at("current", self.out_shape)
        self.neuron1 = parts.neuron(self.out_shape)
        self.filter2 = parts.filter(self.out_shape)
        self.conv2 = site.conv2()
        self.norm2 = parts.norm_at("current", self.out_shape, num_summands=self.num_summands)
        self.neuron2 = parts.neuron(self.out_shape)

    def _current(self, psp_TBCHW: Tensor) -> Tensor:
        """Compute the input of the second neuron, without a shortcut."""
        s = self.neuron1(_maybe(self.norm1, self.conv1(psp_TBCHW)))
        return _maybe(self.norm2, self.conv2(self.filter2(s)))


def _maybe(module: nn.Module | None, x: Tensor) -> Tensor:
    y: Tensor = x if module is None else module(x)
    return y


@RESIDUALS.register("post")
class PostActivationBlock(_WeightsFirst):
    """Post-activation, the Spiking ResNet: the shortcut carries spikes, and a neuron fires on the sum.

    Equation:
        n(norm(W2 psp(n(norm(W1 psp(s))))) + s)

    Shapes:
        s: [T, B, C, H, W] -> [T, B, C', H', W']

    Args:
        shortcut: where the size changes, avgpool_dup carries s, pooled, its channels repeated; conv is a
            strided 1x1 convolution of the same filtered spikes that W1 reads, then the norm.

    Raises:
        UserError: an unknown shortcut.

    Source: He et al. 2016 in spiking form; the contrast of Ikegawa et al. 2022.

    Example:
        >>> RESIDUALS["post"].stream
        'spikes'
    """

    num_summands = 2
    num_sums = 1

    def __init__(
        self,
        site: BlockSite,
        *,
        shortcut: Shortcut = "avgpool_dup",
    ) -> None:
        super().__init__(site)
        self.shortcut = site.shortcut(shortcut)
        is_conv = isinstance(self.shortcut, Conv2d)
        self.shortcut_norm = (
            site.parts.norm_at("current", self.out_shape, num_summands=self.num_summands) if is_conv else None
        )

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        psp = self.filter1(x_TBCHW)
        around = _maybe(self.shortcut_norm, _shortcut_value(self.shortcut, x_TBCHW, psp))
        s: Tensor = self.neuron2(self._current(psp) + around)
        return s


class _SpikeElementWise(_WeightsFirst):
    """SEW: the block's spikes and those of the shortcut are combined after the neuron, element by element.

    Nothing is summed before a neuron fires, so the norms have one summand.

    Args:
        shortcut: where the size changes, conv is a strided 1x1 convolution of the same filtered spikes that
            W1 reads, then the norm and a neuron; maxpool_dup carries s, max-pooled, its channels repeated.
    """

    needs_spikes = True

    def __init__(
        self,
        site: BlockSite,
        *,
        shortcut: SpikeShortcut = "conv",
    ) -> None:
        super().__init__(site)
        self.shortcut = site.shortcut(shortcut)
        is_conv = isinstance(self.shortcut, Conv2d)
        self.shortcut_norm = site.parts.norm_at("current", self.out_shape) if is_conv else None
        self.shortcut_neuron = site.parts.neuron(self.out_shape) if is_conv else None

    @abstractmethod
    def combine(self, a: Tensor, s: Tensor) -> Tensor:
        """Compute g(a, s): a the block's spikes, s those of the shortcut."""

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        psp = self.filter1(x_TBCHW)
        around = _maybe(self.shortcut_norm, _shortcut_value(self.shortcut, x_TBCHW, psp))
        return self.combine(self.neuron2(self._current(psp)), _maybe(self.shortcut_neuron, around))


@RESIDUALS.register("sew_add")
class SpikeElementWiseAdd(_SpikeElementWise):
    """SEW with ADD: the stream counts spikes; it grows with depth and is no longer binary.

    Equation:
        a + s,  a = n(norm(W2 psp(n(norm(W1 psp(s))))))

    Shapes:
        s: [T, B, C, H, W] -> [T, B, C', H', W']

    Args: those of every SEW block.

    Raises:
        UserError: an unknown shortcut.

    Source: Fang et al. 2021 (SEW-ResNet); max pooling around is our choice.

    Example:
        >>> RESIDUALS["sew_add"].stream
        'counts'
    """

    stream = "counts"
    num_sums = 1

    def combine(self, a: Tensor, s: Tensor) -> Tensor:
        return a + s


@RESIDUALS.register("sew_and")
class SpikeElementWiseAnd(_SpikeElementWise):
    """SEW with AND: a spike passes where both have one.

    Equation:
        a s,  a = n(norm(W2 psp(n(norm(W1 psp(s))))))

    Shapes:
        s: [T, B, C, H, W] -> [T, B, C', H', W']

    Args: those of every SEW block.

    Raises:
        UserError: an unknown shortcut.

    Source: Fang et al. 2021 (SEW-ResNet); max pooling around is our choice.

    Example:
        >>> RESIDUALS["sew_and"].stream
        'spikes'
    """

    def combine(self, a: Tensor, s: Tensor) -> Tensor:
        return a * s


@RESIDUALS.register("sew_iand")
class SpikeElementWiseIAnd(_SpikeElementWise):
    """SEW with IAND: a spike passes where the block has none.

    Equation:
        s (1 - a),  a = n(norm(W2 psp(n(norm(W1 psp(s))))))

    Shapes:
        s: [T, B, C, H, W] -> [T, B, C', H', W']

    Args: those of every SEW block.

    Raises:
        UserError: an unknown shortcut.

    Source: Fang et al. 2021 (SEW-ResNet); max pooling around is our choice.

    Example:
        >>> RESIDUALS["sew_iand"].stream
        'spikes'
    """

    def combine(self, a: Tensor, s: Tensor) -> Tensor:
        return s * (1 - a)


@RESIDUALS.register("none")
class PlainBlock(_WeightsFirst):
    """No shortcut: two layers of a plain chain.

    Equation:
        n(norm(W2 psp(n(norm(W1 psp(s))))))

    Shapes:
        s: [T, B, C, H, W] -> [T, B, C', H', W']

    Source: the control.

    Example:
        >>> RESIDUALS["none"].stream
        'spikes'
    """

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        s: Tensor = self.neuron2(self._current(self.filter1(x_TBCHW)))
        return s
