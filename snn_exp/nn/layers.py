"""Layers: weights over time, and the modules before them.

Shapes: T steps, B batch, C channels, H W space, N any feature dimensions (C alone, or C, H, W).

The order of the modules is decided here once, from the placement that a norm states:

    activation   [current norm] neuron [spike norm] synapse [psp norm]     where a real stream flows between blocks
    filter       [spike norm] synapse [psp norm]                           where spikes do
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.nn.neurons import NEURONS, Neuron
from snn_exp.nn.norms import NORMS, Norm, Site
from snn_exp.nn.shapes import FeatureShape
from snn_exp.nn.stepwise import over_time
from snn_exp.nn.surrogates import SURROGATES
from snn_exp.nn.synapses import SYNAPSES, IdentitySynapse, Synapse
from snn_exp.nn.weights import WEIGHT_NORMS, WEIGHT_QUANTS, NoWeightNorm, NoWeightQuant, WeightNorm, WeightQuant
from snn_exp.registry import PartConfig

UNQUANTIZED: PartConfig = {"name": "none"}
UNIFORM_GAIN = 1 / math.sqrt(3)  # of torch's own draw, which is uniform within 1 / sqrt(fan_in)


@dataclass(frozen=True)
class PartFactories:
    """Factories of a network's parts: each call gives a new part.

    Args:
        make_neuron: feature shape -> neuron.
        make_norm: site -> norm.
        make_synapse: -> synapse.
        make_weight_norm: number of output units, gain -> weight norm.
        make_weight_quant: gain -> weight quantization.
        make_end_quant: likewise, of the first layer and the classifier.
        placements: of the norm.
        num_steps: T.
        v_threshold: of the neurons; 1 where they have none.
    """

    make_neuron: Callable[[FeatureShape], Neuron]
    make_norm: Callable[[Site], Norm]
    make_synapse: Callable[[], Synapse]
    make_weight_norm: Callable[[int, float], WeightNorm]
    make_weight_quant: Callable[[float], WeightQuant]
    make_end_quant: Callable[[float], WeightQuant]
    placements: tuple[str, ...]
    num_steps: int
    v_threshold: float

    def norm_at(self, placement: str, shape: FeatureShape, *, num_summands: int = 1) -> Norm | None:
        """Make the norm if it has this placement, else None."""
        if placement not in self.placements:
            return None
        return self.make_norm(Site(shape, self.num_steps, placement, self.v_threshold, num_summands))

    def neuron(self, shape: FeatureShape) -> Neuron:
        """Make a neuron, with a norm on its membrane if that is the norm's placement."""
        neuron = self.make_neuron(shape)
        neuron.membrane_norm = self.norm_at("membrane", shape)
        return neuron

    def filter(self, shape: FeatureShape) -> nn.Module:
        """Build the modules between spikes and the weights that read them: spike norm, synapse, psp norm."""
        return named_chain(
            spike_norm=self.norm_at("spike", shape),
            synapse=self.make_synapse(),
            psp_norm=self.norm_at("psp", shape),
        )

    def activation(self, shape: FeatureShape, *, normalized: bool = True) -> nn.Module:
        """Build current norm, neuron and filter, which precede weights that read a real stream.

        Args:
            shape: (C, ...) of one sample at one step.
            normalized: False where the stream was normalized before, after the weights.
        """
        return named_chain(
            norm=self.norm_at("current", shape) if normalized else None,
            neuron=self.neuron(shape),
            filter=self.filter(shape),
        )

    def classifier(self, num_features: int, num_classes: int) -> nn.Linear:
        """Make the last weight layer, of torch's own kind unless it is quantized."""
        quant = self.make_end_quant(UNIFORM_GAIN)
        if isinstance(quant, NoWeightQuant):
            return nn.Linear(num_features, num_classes)
        return Classifier(num_features, num_classes, quant)

    def conv(self, shape: FeatureShape, out_channels: int, **options: Any) -> Conv2d:
        """Make a hidden convolution, its weights normalized and quantized as chosen."""
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
    """Make the factories from resolved config groups.

    Example:
        >>> parts = make_part_factories(
        ...     neuron={"name": "lif"}, surrogate={"name": "atan"}, synapse={"name": "identity"},
        ...     norm={"name": "bn"}, weight_norm={"name": "none"}, weight_quant={"name": "none"}, num_steps=4)
        >>> [name for name, _ in parts.activation((8, 4, 4)).named_children()]
        ['norm', 'neuron']
    """
    return PartFactories(
        make_neuron=lambda shape: NEURONS.make(neuron, shape, SURROGATES.make(surrogate), num_steps),
        make_norm=lambda site: NORMS.make(norm, site),
        make_synapse=lambda: SYNAPSES.make(synapse),
        make_weight_norm=lambda num_units, gain: WEIGHT_NORMS.make(weight_norm, num_units, gain),
        make_weight_quant=lambda gain: WEIGHT_QUANTS.make(weight_quant, gain),
        make_end_quant=lambda gain: WEIGHT_QUANTS.make(weight_quant if weight_quant.get("ends") else UNQUANTIZED, gain),
        placements=NORMS[str(norm["name"])].placements,
        num_steps=num_steps,
        v_threshold=float(neuron.get("v_threshold") or 1.0),
    )


def named_chain(**modules: nn.Module | None) -> nn.Sequential:
    """Build a Sequential of the given modules, without those that do nothing."""
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
        self.weight_quant.start(self.weight_norm(self.weight))

    def effective_weight(self) -> Tensor:
        """Return the weight as used: normalized, then quantized."""
        weight: Tensor = self.weight_quant(self.weight_norm(self.weight))
        return weight

    @property
    def is_plain(self) -> bool:
        """Return whether the weight is used as it is stored."""
        return isinstance(self.weight_norm, NoWeightNorm) and isinstance(self.weight_quant, NoWeightQuant)

    @torch.no_grad()
    def make_plain(self) -> None:
        """Store the weight as it is used; from here on it is neither normalized nor quantized."""
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
        """Compute all steps at once."""
        weight = self.effective_weight()
        return over_time(
            lambda x: functional.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups),
            x_TBCHW,
        )


@torch.no_grad()
def lay_channels_last(network: nn.Module) -> None:
    """Switch a network's feature maps to channels-last memory format from now on.

    A convolution gives its result the layout of its weight, and elementwise parts keep it. Weights keep their
    values and names.

    Source: torch.channels_last.

    Example:
        >>> layer = Conv2d(3, 8)
        >>> lay_channels_last(layer)
        >>> layer(torch.zeros(1, 2, 3, 4, 4))[0].is_contiguous(memory_format=torch.channels_last)
        True
    """
    for conv in network.modules():
        if isinstance(conv, nn.Conv2d):
            turned = torch.empty_like(conv.weight, memory_format=torch.channels_last)  # of one input channel as well
            conv.weight.data = turned.copy_(conv.weight)


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
        """Compute all steps at once."""
        return functional.linear(x_TBF, self.effective_weight(), self.bias)


class ChannelBias(nn.Module):
    """A constant per channel, which remains of a norm in front of a neuron with dynamics.

    Example:
        >>> ChannelBias(torch.tensor([1.0, 2.0]))(torch.zeros(1, 1, 2))
        tensor([[[1., 2.]]])
    """

    bias: Tensor

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("bias", bias)

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Add the constant."""
        return x_TBN + self.bias


class Classifier(TimeFolded, nn.Linear):
    """torch's linear layer, bias included, with quantized weights.

    Args:
        in_features: of x.
        out_features: classes.
        weight_quant: of its weights.

    Example:
        >>> from snn_exp.nn.weights import FewBitWeights
        >>> Classifier(4, 2, FewBitWeights(bits=2)).effective_weight().unique().numel() <= 2 * 3
        True
    """

    def __init__(self, in_features: int, out_features: int, weight_quant: WeightQuant) -> None:
        super().__init__(in_features, out_features)
        self.weight_norm, self.weight_quant = NoWeightNorm(), weight_quant
        self.weight_quant.start(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        return functional.linear(x, self.effective_weight(), self.bias)
