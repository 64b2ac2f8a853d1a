"""Networks out of factories: [T, B, C, H, W] in, logits [B, K] out.

Shapes: T steps, B batch, C channels, H W space, F features, K classes.

A network's traits tell a config which depths exist: num_layers = layers_offset + layers_step n, n >= 1,
counting every weight layer of the longest path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional

from snn_exp.errors import UserError
from snn_exp.nn.blocks import RESIDUALS, Block, BlockSite
from snn_exp.nn.layers import Conv2d, Linear, PartFactories, named_chain
from snn_exp.nn.shapes import FeatureShape
from snn_exp.nn.stepwise import over_time
from snn_exp.registry import Count, Limit, PartConfig, Registry

Width = Annotated[Count, Limit(16_384, "the weights between two layers take a GiB or more")]
MakeBlock = Callable[[PartFactories, FeatureShape, int, int, int], Block]


class Network(nn.Module, ABC):
    """A classifier over time.

    Args:
        parts: the factories.
        in_shape: (C, H, W) of one sample at one step.
        num_classes: K.
        num_layers: weight layers of the longest path.
        residual: the resolved group `residual`.
    """

    layers_step: ClassVar[int] = 1
    layers_offset: ClassVar[int] = 2
    has_blocks: ClassVar[bool] = False
    # stage s has 2^s width channels on maps of 1 / 2^s the side; 0: no maps, width units per layer; None: not known
    num_stages: ClassVar[int | None] = None
    version: ClassVar[int] = 1

    @abstractmethod
    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Compute logits [B, K]."""

    @abstractmethod
    def segments(self) -> list[nn.Module]:
        """List the consecutive modules that make up the depth: between them a single tensor flows."""


NETWORKS: Registry[Network] = Registry("network", traits=("layers_step", "layers_offset", "has_blocks", "num_stages"))


class MeanOverTimeAndSpace(nn.Module):
    """[T, B, C, ...] -> [B, C]."""

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Compute the mean over T and every axis after C."""
        return x_TBN.flatten(3).mean((0, 3)) if x_TBN.dim() > 3 else x_TBN.mean(0)


@NETWORKS.register("resnet")
class ResNet(Network):
    """A residual network of 6n + 2 layers: a stem, three stages of n blocks, a classifier.

    Definition:
        conv3x3(C -> width); n blocks each of width, 2 width, 4 width channels, the second and third
        stage at half the size; readout; linear. The stem and the classifier are quantized only by
        weight_quant=int with ends.

    Shapes:
        x: [T, B, C, H, W], logits: [B, K]

    Args:
        width: channels of the first stage.
        readout: membrane (norm, mean over space and T, linear), spikes (a neuron and its filter first, as
            in the blocks), or null, which is spikes for residual=ms and membrane else. Where spikes or their
            counts flow between the blocks (residual=post, sew_*, none), the readout reads them.

    Raises:
        UserError: num_layers is not 6n + 2, or width < 1.

    Source: He et al. 2016, the CIFAR form.

    Example:
        >>> ResNet.layers_offset + 3 * ResNet.layers_step
        20
    """

    layers_step = 6
    has_blocks = True
    num_stages = 3

    def __init__(
        self,
        parts: PartFactories,
        in_shape: FeatureShape,
        num_classes: int,
        num_layers: int,
        residual: PartConfig,
        *,
        width: Width = 16,
        readout: Literal["membrane", "spikes"] | None = None,
    ) -> None:
        super().__init__()
        blocks_a_stage, rest = divmod(num_layers - self.layers_offset, self.layers_step)
        if rest or blocks_a_stage < 1:
            raise UserError(f"a resnet has 6n + 2 layers, not {num_layers}; type depth=d8 or depth=d20")
        kind = RESIDUALS[str(residual["name"])]
        real_stream = kind.stream == "real"
        shape: FeatureShape = (width, *in_shape[1:])
        self.stem = named_chain(
            conv=Conv2d(
                in_shape[0], width, make_weight_norm=parts.make_weight_norm, make_weight_quant=parts.make_end_quant
            ),
            norm=None if kind.normalizes_stream else parts.norm_at("current", shape),
            neuron=None if real_stream else parts.neuron(shape),
        )
        stages = []
        for stage, channels in enumerate((width, 2 * width, 4 * width)):
            blocks: list[Block] = []
            for index in range(blocks_a_stage):
                stride = 2 if stage > 0 and index == 0 else 1
                block = RESIDUALS.make(residual, BlockSite(parts, shape, channels, stride, 3 * blocks_a_stage))
                blocks.append(block)
                shape = block.out_shape
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        if not real_stream:
            self.readout: nn.Module = parts.filter(shape)
        elif (readout or kind.default_readout) == "spikes":
            self.readout = parts.activation(shape, normalized=kind.normalizes_stream)
        else:
            self.readout = named_chain(norm=parts.norm_at("current", shape))
        self.pool = MeanOverTimeAndSpace()
        self.classifier = parts.classifier(shape[0], num_classes)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(self.readout(self.stages(self.stem(x_TBCHW)))))
        return logits

    def segments(self) -> list[nn.Module]:
        return [block for stage in self.stages.children() for block in stage.children()]


class MaxPool(nn.Module):
    """Max pooling in space, step by step: spikes stay spikes.

    Example:
        >>> import torch
        >>> MaxPool()(torch.zeros(4, 2, 3, 5, 5)).shape
        torch.Size([4, 2, 3, 3, 3])
    """

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Pool [T, B, C, H, W] to [T, B, C, ceil(H / 2), ceil(W / 2)]."""
        return over_time(lambda x: functional.max_pool2d(x, 2, ceil_mode=True), x_TBCHW)


@NETWORKS.register("vgg")
class VGG(Network):
    """A plain chain of convolutions in three stages, with max pooling between them.

    Definition:
        num_layers - 1 times (filter, conv3x3, norm, neuron), spread evenly over stages of width, 2 width
        and 4 width channels, max pooling of the spikes between stages; mean over space and T; linear.
        The first convolution and the classifier are quantized only by weight_quant=int with ends.

    Shapes:
        x: [T, B, C, H, W], logits: [B, K]

    Args:
        width: channels of the first stage.

    Raises:
        UserError: num_layers < 4, or width < 1.

    Source: Simonyan and Zisserman 2015, cut to three stages.

    Example:
        >>> VGG.layers_offset + VGG.layers_step
        4
    """

    layers_offset = 3
    num_stages = 3

    def __init__(
        self,
        parts: PartFactories,
        in_shape: FeatureShape,
        num_classes: int,
        num_layers: int,
        residual: PartConfig,
        *,
        width: Width = 16,
    ) -> None:
        super().__init__()
        num_convs = num_layers - 1
        if num_convs < 3:
            raise UserError(f"a vgg has at least 4 layers, not {num_layers}; type depth=d8")
        stage_of = [3 * index // num_convs for index in range(num_convs)]
        layers: list[nn.Module] = []
        shape = in_shape
        for index, stage in enumerate(stage_of):
            channels = width * 2**stage
            if index and stage != stage_of[index - 1]:
                layers.append(MaxPool())
                shape = (shape[0], *((size + 1) // 2 for size in shape[1:]))
            first = index == 0
            out_shape = (channels, *shape[1:])
            layers.append(
                named_chain(
                    filter=None if first else parts.filter(shape),
                    conv=Conv2d(
                        shape[0],
                        channels,
                        make_weight_norm=parts.make_weight_norm,
                        make_weight_quant=parts.make_end_quant if first else parts.make_weight_quant,
                    ),
                    norm=parts.norm_at("current", out_shape),
                    neuron=parts.neuron(out_shape),
                )
            )
            shape = out_shape
        self.layers = nn.Sequential(*layers)
        self.readout = parts.filter(shape)
        self.pool = MeanOverTimeAndSpace()
        self.classifier = parts.classifier(shape[0], num_classes)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(self.readout(self.layers(x_TBCHW))))
        return logits

    def segments(self) -> list[nn.Module]:
        return list(self.layers)


@NETWORKS.register("mlp")
class MLP(Network):
    """A plain chain of fully connected layers.

    Definition:
        pixels in a row; num_layers - 1 times (filter, linear, norm, neuron) of width units; mean over T;
        linear. The first layer and the classifier are quantized only by weight_quant=int with ends.

    Shapes:
        x: [T, B, C, H, W], logits: [B, K]

    Args:
        width: units of a hidden layer; must suit the norm (num_groups divides it).

    Raises:
        UserError: num_layers < 2, or width < 1.

    Source: the textbook model.

    Example:
        >>> MLP.layers_offset + MLP.layers_step
        2
    """

    layers_offset = 1
    num_stages = 0

    def __init__(
        self,
        parts: PartFactories,
        in_shape: FeatureShape,
        num_classes: int,
        num_layers: int,
        residual: PartConfig,
        *,
        width: Width = 128,
    ) -> None:
        super().__init__()
        if num_layers < 2:
            raise UserError(f"an mlp has at least 2 layers, not {num_layers}; type depth=d8")
        num_features = in_shape[0] * in_shape[1] * in_shape[2]
        shape = (width,)
        layers: list[nn.Module] = []
        for index in range(num_layers - 1):
            first = index == 0
            linear = Linear(
                num_features if first else width,
                width,
                make_weight_norm=parts.make_weight_norm,
                make_weight_quant=parts.make_end_quant if first else parts.make_weight_quant,
            )
            layers.append(
                named_chain(
                    filter=None if first else parts.filter(shape),
                    linear=linear,
                    norm=parts.norm_at("current", shape),
                    neuron=parts.neuron(shape),
                )
            )
        self.layers = nn.Sequential(*layers)
        self.readout = parts.filter(shape)
        self.pool = MeanOverTimeAndSpace()
        self.classifier = parts.classifier(width, num_classes)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(self.readout(self.layers(x_TBCHW.flatten(2)))))
        return logits

    def segments(self) -> list[nn.Module]:
        return list(self.layers)


def build_network(
    network: PartConfig,
    parts: PartFactories,
    *,
    in_shape: FeatureShape,
    num_classes: int,
    num_layers: int,
    residual: PartConfig,
) -> Network:
    """Build the network that a config describes, on data of a given shape.

    Raises:
        UserError: no such network, or a depth that it cannot have.
    """
    return NETWORKS.make(network, parts, in_shape, num_classes, num_layers, residual)


@contextmanager
def outputs_of(modules: Iterable[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """Record the latest output of each module inside the block, as part of the graph.

    Example:
        >>> import torch
        >>> pool = MeanOverTimeAndSpace()
        >>> with outputs_of([pool]) as outputs:
        ...     _ = pool(torch.ones(2, 1, 3))
        >>> outputs[pool]
        tensor([[1., 1., 1.]])
    """
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        outputs[module] = output

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
