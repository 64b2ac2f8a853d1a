"""Layers: weights over time, and the residual blocks made of them.

Shapes: T steps, B batch, C channels, H W space, N any feature dimensions (C alone, or C, H, W).

What stands where is decided here once, from the placement that a norm states:

    activation   [current norm] neuron [spike norm] synapse [psp norm]     before the weights (pre, bireal)
    filter       [spike norm] synapse [psp norm]                           before the weights (post, none)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.dynamics import over_time
from snn_exp.neurons import NEURONS, Neuron
from snn_exp.norms import NORMS, Norm, Site
from snn_exp.registry import PartConfig, Registry
from snn_exp.surrogates import SURROGATES
from snn_exp.synapses import SYNAPSES, IdentitySynapse, Synapse
from snn_exp.weights import WEIGHT_NORMS, WEIGHT_QUANTS, NoWeightNorm, NoWeightQuant, WeightNorm, WeightQuant

FeatureShape = tuple[int, ...]


@dataclass(frozen=True)
class PartFactories:
    """What a network is made of: each call gives a new part.

    Args:
        make_neuron: feature shape -> neuron.
        make_norm: site -> norm.
        make_synapse: -> synapse.
        make_weight_norm: number of output units, gain -> weight norm.
        make_weight_quant: gain -> weight quantization.
        placements: where the norm stands.
        num_steps: T.
        v_threshold: of the neurons; 1 where they have none.
    """

    make_neuron: Callable[[FeatureShape], Neuron]
    make_norm: Callable[[Site], Norm]
    make_synapse: Callable[[], Synapse]
    make_weight_norm: Callable[[int, float], WeightNorm]
    make_weight_quant: Callable[[float], WeightQuant]
    placements: tuple[str, ...]
    num_steps: int
    v_threshold: float

    def norm_at(self, placement: str, shape: FeatureShape, *, num_summands: int = 1) -> Norm | None:
        """The norm if it stands there, else None."""
        if placement not in self.placements:
            return None
        return self.make_norm(Site(shape, self.num_steps, placement, self.v_threshold, num_summands))

    def neuron(self, shape: FeatureShape) -> Neuron:
        """A neuron, with a norm on its membrane if that is where the norm stands."""
        neuron = self.make_neuron(shape)
        neuron.membrane_norm = self.norm_at("membrane", shape)
        return neuron

    def filter(self, shape: FeatureShape) -> nn.Module:
        """What stands between spikes and the weights that read them: spike norm, synapse, psp norm."""
        return named_chain(
            spike_norm=self.norm_at("spike", shape),
            synapse=self.make_synapse(),
            psp_norm=self.norm_at("psp", shape),
        )

    def activation(self, shape: FeatureShape) -> nn.Module:
        """Current norm, neuron and filter: what stands before the weights of a pre-activation block."""
        return named_chain(
            norm=self.norm_at("current", shape),
            neuron=self.neuron(shape),
            filter=self.filter(shape),
        )

    def conv(self, shape: FeatureShape, out_channels: int, **options: Any) -> Conv2d:
        """A hidden convolution: its weights are normalized and quantized as chosen."""
        return Conv2d(
            shape[0],
            out_channels,
            make_weight_norm=self.make_weight_norm,
            make_weight_quant=self.make_weight_quant,
            **options,
        )


def make_part_factories(
    *,
    neuron: PartConfig,
    surrogate: PartConfig,
    synapse: PartConfig,
    norm: PartConfig,
    weight_norm: PartConfig,
    weight_quant: PartConfig,
    num_steps: int,
) -> PartFactories:
    """Factories out of resolved config groups.

    Example:
        >>> parts = make_part_factories(
        ...     neuron={"name": "lif"}, surrogate={"name": "atan"}, synapse={"name": "identity"},
        ...     norm={"name": "bn"}, weight_norm={"name": "none"}, weight_quant={"name": "none"}, num_steps=4)
        >>> [name for name, _ in parts.activation((8, 4, 4)).named_children()]
        ['norm', 'neuron']
    """
    return PartFactories(
        make_neuron=lambda shape: NEURONS.make(neuron, shape, SURROGATES.make(surrogate)),
        make_norm=lambda site: NORMS.make(norm, site),
        make_synapse=lambda: SYNAPSES.make(synapse),
        make_weight_norm=lambda num_units, gain: WEIGHT_NORMS.make(weight_norm, num_units, gain),
        make_weight_quant=lambda gain: WEIGHT_QUANTS.make(weight_quant, gain),
        placements=NORMS[str(norm["name"])].placements,
        num_steps=num_steps,
        v_threshold=float(neuron.get("v_threshold") or 1.0),
    )


def named_chain(**modules: nn.Module | None) -> nn.Sequential:
    """A Sequential of what is there; what does nothing is left out."""
    return nn.Sequential(
        OrderedDict(
            (name, module)
            for name, module in modules.items()
            if module is not None
            and not isinstance(module, IdentitySynapse)
            and not (isinstance(module, nn.Sequential) and len(module) == 0)
        )
    )


class TimeFolded:
    """Weights shared by all steps: time is folded into the batch and unfolded again."""

    weight: Tensor
    weight_norm: WeightNorm
    weight_quant: WeightQuant

    def _dress_weight(
        self,
        gain: float,
        make_weight_norm: Callable[[int, float], WeightNorm],
        make_weight_quant: Callable[[float], WeightQuant],
    ) -> None:
        nn.init.normal_(self.weight, std=gain / math.sqrt(self.weight[0].numel()))
        self.weight_norm = make_weight_norm(self.weight.shape[0], gain)
        self.weight_quant = make_weight_quant(gain)

    def effective_weight(self) -> Tensor:
        """The weight as used: normalized, then quantized."""
        weight: Tensor = self.weight_quant(self.weight_norm(self.weight))
        return weight

    @property
    def is_plain(self) -> bool:
        """Whether the weight is used as it is stored."""
        return isinstance(self.weight_norm, NoWeightNorm) and isinstance(self.weight_quant, NoWeightQuant)

    @torch.no_grad()
    def make_plain(self) -> None:
        """Stores the weight as it is used; from here on it is neither normalized nor quantized."""
        self.weight.copy_(self.effective_weight())
        self.weight_norm, self.weight_quant = NoWeightNorm(), NoWeightQuant()


class Conv2d(TimeFolded, nn.Conv2d):
    """A convolution over [T, B, C, H, W], without bias, padded to keep the size.

    Equation:
        y[t] = W_q * x[t],  W_q = weight_quant(weight_norm(W)),  W ~ N(0, gain^2 / fan_in)

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: odd.
        stride: step in space.
        gain: standard deviation of sqrt(fan_in) W at initialisation.
        make_weight_norm: as in `PartFactories`; none by default.
        make_weight_quant: as in `PartFactories`; none by default.

    Example:
        >>> import torch
        >>> Conv2d(3, 8, stride=2)(torch.zeros(4, 2, 3, 8, 8)).shape
        torch.Size([4, 2, 8, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        gain: float = 1.0,
        make_weight_norm: Callable[[int, float], WeightNorm] = NoWeightNorm,
        make_weight_quant: Callable[[float], WeightQuant] = NoWeightQuant,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self._dress_weight(gain, make_weight_norm, make_weight_quant)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """All steps at once."""
        weight = self.effective_weight()
        return over_time(lambda x: functional.conv2d(x, weight, self.bias, self.stride, self.padding), x_TBCHW)


class Linear(TimeFolded, nn.Linear):
    """A linear map of the last axis of [T, B, F], without bias; weights as in `Conv2d`.

    Example:
        >>> import torch
        >>> Linear(3, 8)(torch.zeros(4, 2, 3)).shape
        torch.Size([4, 2, 8])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        gain: float = 1.0,
        make_weight_norm: Callable[[int, float], WeightNorm] = NoWeightNorm,
        make_weight_quant: Callable[[float], WeightQuant] = NoWeightQuant,
    ) -> None:
        super().__init__(in_features, out_features, bias=False)
        self._dress_weight(gain, make_weight_norm, make_weight_quant)

    def forward(self, x_TBF: Tensor) -> Tensor:
        """All steps at once."""
        return functional.linear(x_TBF, self.effective_weight(), self.bias)


class AvgPoolDup(nn.Module):
    """A shortcut without weights: average pooling in space, channels repeated.

    Unlike padding with zeros it keeps the variance of every channel of the stream.

    Example:
        >>> import torch
        >>> AvgPoolDup(stride=2, repeats=2)(torch.zeros(1, 2, 8, 5, 5)).shape
        torch.Size([1, 2, 16, 3, 3])
    """

    def __init__(self, stride: int, repeats: int) -> None:
        super().__init__()
        self.stride = stride
        self.repeats = repeats

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """[T, B, C, H, W] -> [T, B, repeats C, ceil(H / stride), ceil(W / stride)]."""
        pooled = over_time(lambda x: functional.avg_pool2d(x, self.stride, ceil_mode=True), x_TBCHW)
        return pooled.repeat(1, 1, self.repeats, 1, 1)


Shortcut = Literal["avgpool_dup", "conv"]
BranchScaling = Literal["inverse_sqrt", "none"]


class Block(nn.Module, ABC):
    """Two weight layers and what goes around them: [T, B, C, H, W] -> [T, B, C', H', W'].

    Args:
        parts: the factories.
        in_shape: (C, H, W) of one sample at one step.
        out_channels: C'.
        stride: step in space of the first weight layer.
        num_blocks: number of blocks in the network.
    """

    stream: ClassVar[str] = "real"  # what flows between blocks: "real" values or "spikes"
    version: ClassVar[int] = 1

    def __init__(
        self, parts: PartFactories, in_shape: FeatureShape, out_channels: int, stride: int, num_blocks: int
    ) -> None:
        super().__init__()
        self.out_shape = (out_channels, *(math.ceil(size / stride) for size in in_shape[1:]))

    @abstractmethod
    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """The stream after the block."""


RESIDUALS: Registry[Block] = Registry("residual", traits=("stream",))


def _make_shortcut(
    shortcut: Shortcut, parts: PartFactories, in_shape: FeatureShape, out_channels: int, stride: int
) -> nn.Module | None:
    """None is the identity."""
    if stride == 1 and in_shape[0] == out_channels:
        return None
    if shortcut == "avgpool_dup":
        return AvgPoolDup(stride, repeats=out_channels // in_shape[0])
    return parts.conv(in_shape, out_channels, kernel_size=1, stride=stride)


def _branch_gain(scaling: BranchScaling, num_branches: int) -> float:
    return 1 / math.sqrt(num_branches) if scaling == "inverse_sqrt" else 1.0


@RESIDUALS.register("pre")
class PreActivationBlock(Block):
    """Pre-activation: the identity path carries a real, membrane-like stream, untouched.

    Equation:
        x + W2 psp(n(norm(W1 psp(n(norm(x))))))

    Shapes:
        x: [T, B, C, H, W] -> [T, B, C', H', W']

    Args:
        shortcut: where the size changes, avgpool_dup carries x, pooled, its channels repeated; conv is a
            strided 1x1 convolution of the same filtered spikes that W1 reads.
        branch_scaling: inverse_sqrt starts W2 smaller by 1 / sqrt(number of branches in the network).

    Raises:
        UserError: an unknown shortcut or branch_scaling.

    Source: He et al. 2016, in spiking form as in Ikegawa et al. 2022; the scaling is our choice.

    Example:
        >>> RESIDUALS["pre"].stream
        'real'
    """

    def __init__(
        self,
        parts: PartFactories,
        in_shape: FeatureShape,
        out_channels: int,
        stride: int,
        num_blocks: int,
        *,
        shortcut: Shortcut = "avgpool_dup",
        branch_scaling: BranchScaling = "inverse_sqrt",
    ) -> None:
        super().__init__(parts, in_shape, out_channels, stride, num_blocks)
        self.activation1 = parts.activation(in_shape)
        self.conv1 = parts.conv(in_shape, out_channels, stride=stride)
        self.activation2 = parts.activation(self.out_shape)
        self.conv2 = parts.conv(self.out_shape, out_channels, gain=_branch_gain(branch_scaling, num_blocks))
        self.shortcut = _make_shortcut(shortcut, parts, in_shape, out_channels, stride)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        psp = self.activation1(x_TBCHW)
        branch: Tensor = self.conv2(self.activation2(self.conv1(psp)))
        return branch + _shortcut_value(self.shortcut, x_TBCHW, psp)


def _shortcut_value(shortcut: nn.Module | None, stream: Tensor, weights_input: Tensor) -> Tensor:
    if shortcut is None:
        return stream
    value: Tensor = shortcut(weights_input if isinstance(shortcut, Conv2d) else stream)
    return value


@RESIDUALS.register("bireal")
class BiRealBlock(Block):
    """Pre-activation with a shortcut around every weight layer.

    Equation:
        x <- x + W1 psp(n(norm(x)));  x <- x + W2 psp(n(norm(x)))

    Shapes:
        x: [T, B, C, H, W] -> [T, B, C', H', W']

    Args:
        shortcut: where the size changes, avgpool_dup carries x, pooled, its channels repeated; conv is a
            strided 1x1 convolution of the same filtered spikes that W1 reads.
        branch_scaling: inverse_sqrt starts W1 and W2 smaller by 1 / sqrt(number of branches in the network).

    Raises:
        UserError: an unknown shortcut or branch_scaling.

    Source: Liu et al. 2018 (Bi-Real Net), with the norm before the activation; the scaling is our choice.

    Example:
        >>> RESIDUALS["bireal"].stream
        'real'
    """

    def __init__(
        self,
        parts: PartFactories,
        in_shape: FeatureShape,
        out_channels: int,
        stride: int,
        num_blocks: int,
        *,
        shortcut: Shortcut = "avgpool_dup",
        branch_scaling: BranchScaling = "inverse_sqrt",
    ) -> None:
        super().__init__(parts, in_shape, out_channels, stride, num_blocks)
        gain = _branch_gain(branch_scaling, 2 * num_blocks)
        self.activation1 = parts.activation(in_shape)
        self.conv1 = parts.conv(in_shape, out_channels, stride=stride, gain=gain)
        self.activation2 = parts.activation(self.out_shape)
        self.conv2 = parts.conv(self.out_shape, out_channels, gain=gain)
        self.shortcut = _make_shortcut(shortcut, parts, in_shape, out_channels, stride)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        psp = self.activation1(x_TBCHW)
        x = self.conv1(psp) + _shortcut_value(self.shortcut, x_TBCHW, psp)
        out: Tensor = x + self.conv2(self.activation2(x))
        return out


class _WeightsFirst(Block):
    """The course of post and none: filter, weights, norm, neuron, twice; spikes flow between blocks."""

    stream = "spikes"

    def __init__(
        self, parts: PartFactories, in_shape: FeatureShape, out_channels: int, stride: int, num_blocks: int
    ) -> None:
        super().__init__(parts, in_shape, out_channels, stride, num_blocks)
        self.filter1 = parts.filter(in_shape)
        self.conv1 = parts.conv(in_shape, out_channels, stride=stride)
        self.norm1 = parts.norm_at("current", self.out_shape)
        self.neuron1 = parts.neuron(self.out_shape)
        self.filter2 = parts.filter(self.out_shape)
        self.conv2 = parts.conv(self.out_shape, out_channels)
        self.norm2 = parts.norm_at("current", self.out_shape)
        self.neuron2 = parts.neuron(self.out_shape)

    def _current(self, psp_TBCHW: Tensor) -> Tensor:
        """The input of the second neuron, without a shortcut."""
        s = self.neuron1(_maybe(self.norm1, self.conv1(psp_TBCHW)))
        return _maybe(self.norm2, self.conv2(self.filter2(s)))


def _maybe(module: nn.Module | None, x: Tensor) -> Tensor:
    y: Tensor = x if module is None else module(x)
    return y


@RESIDUALS.register("post")
class PostActivationBlock(_WeightsFirst):
    """Post-activation, the Spiking ResNet: spikes go around, and the sum is fired again.

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

    def __init__(
        self,
        parts: PartFactories,
        in_shape: FeatureShape,
        out_channels: int,
        stride: int,
        num_blocks: int,
        *,
        shortcut: Shortcut = "avgpool_dup",
    ) -> None:
        super().__init__(parts, in_shape, out_channels, stride, num_blocks)
        self.shortcut = _make_shortcut(shortcut, parts, in_shape, out_channels, stride)
        is_conv = isinstance(self.shortcut, Conv2d)
        self.shortcut_norm = parts.norm_at("current", self.out_shape) if is_conv else None

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        psp = self.filter1(x_TBCHW)
        around = _maybe(self.shortcut_norm, _shortcut_value(self.shortcut, x_TBCHW, psp))
        s: Tensor = self.neuron2(self._current(psp) + around)
        return s


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
