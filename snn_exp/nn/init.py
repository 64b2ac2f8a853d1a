"""Initialisations: what is done to the weights before training, beyond the layers' own draw.

Shapes: T steps, B batch, C channels, H W space.

A layer draws its weights from N(0, gain^2 / fan_in) when it is made. An initialisation changes their size from there:
by one factor per layer, or per channel of a layer's input. The classifier keeps torch's own draw unless it is named.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snn_exp.nn.blocks import Block
from snn_exp.nn.layers import Conv2d, Linear, TimeFolded
from snn_exp.nn.networks import MeanOverTimeAndSpace, Network
from snn_exp.nn.neurons import Neuron
from snn_exp.registry import Positive, Registry

INITS: Registry[Init] = Registry("init", traits=("reads_a_batch", "sets_weights", "for_spikes"))


class Init(ABC):
    """Base class of initialisations.

    Its traits tell a config what it can be combined with:

        reads_a_batch  it measures the first training batch, as the first step of training sees it
        sets_weights   it changes the size of weights, which a weight norm or a sign would undo
        for_spikes     it is derived for neurons that emit 0 and 1
    """

    reads_a_batch: ClassVar[bool] = True
    sets_weights: ClassVar[bool] = True
    for_spikes: ClassVar[bool] = False
    version: ClassVar[int] = 1

    def initialise(self, network: Network, x_TBCHW: Tensor | None) -> None:
        """Set the weights of a network; everything else, such as running statistics, stays as it is.

        Args:
            network: just made.
            x_TBCHW: the first training batch, encoded; None where it is not read.
        """
        twin = copy.deepcopy(network).train()  # in which norms see the batch
        with torch.no_grad():
            self.apply(twin, x_TBCHW)
            for weight, found in zip(network.parameters(), twin.parameters(), strict=True):
                weight.copy_(found)

    @abstractmethod
    def apply(self, network: Network, x_TBCHW: Tensor | None) -> None:
        """Set the weights of a network in training mode, in place."""


@INITS.register("kaiming")
class KaimingInit(Init):
    """The layers' own draw: variance 1 over fan-in, smaller in a block's last weights where its scaling says so.

    Equation:
        W ~ N(0, gain^2 / fan_in),  gain 1, or that of the block's branch scaling

    Source: He et al. 2015, without the factor 2 of relu; He et al. 2016 for where the branches add up.

    Example:
        >>> KaimingInit().reads_a_batch
        False
    """

    reads_a_batch = False
    sets_weights = False

    def initialise(self, network: Network, x_TBCHW: Tensor | None) -> None:
        pass

    def apply(self, network: Network, x_TBCHW: Tensor | None) -> None:
        pass


@INITS.register("spiking")
class SpikingInit(Init):
    """Weights larger by the share of neurons that fire: a variance that holds through depth, without data.

    The membrane of the layer before is taken as standard normal, which this draw makes it in a chain. For binary spikes
    P is their second raw moment, so this is PSP normalization's factor as a constant.

    Equation:
        Var(W) = gain^2 / (fan_in P(u > v_threshold)),  u ~ N(0, 1), of each layer that reads spikes

    Source: Micheli et al. 2024, arXiv 2410.00580; there up to 100 layers without a norm.

    Example:
        >>> round(SpikingInit.firing_share(1.0), 4)
        0.1587
    """

    reads_a_batch = False
    for_spikes = True

    @staticmethod
    def firing_share(v_threshold: float) -> float:
        """Compute P(u > v_threshold) of a standard normal u."""
        return 0.5 * math.erfc(v_threshold / math.sqrt(2))

    def apply(self, network: Network, x_TBCHW: Tensor | None) -> None:
        neurons = [module for module in network.modules() if isinstance(module, Neuron)]
        share = self.firing_share(float(neurons[0].v_threshold.mean()))
        for layer in weight_layers(network)[1:]:
            _rescale(layer, share**-0.5)


@INITS.register("psp")
class PSPInit(Init):
    """PSP normalization's moment, measured once and frozen into the weights that read it.

    Layer by layer, on the first training batch, each layer seeing what those before it make of it with their new
    weights: at the first step the network is the one of norm=psp, and then the moments stay while that norm's move.

    Equation:
        W_ij <- W_ij / sqrt(m_j + eps),  m_j = E[psp_j^2] over T, B, H, W, per channel j of the layer's input

    Args:
        eps: added to the moment, as in norm=psp.

    Raises:
        UserError: eps is not positive.

    Source: ours: Ikegawa et al. 2022 (PSP normalization) as data-dependent initialisation, in the way of Mishkin and
        Matas 2016 (LSUV).

    Example:
        >>> PSPInit().eps
        1e-05
    """

    def __init__(self, *, eps: Positive = 1e-5) -> None:
        self.eps = eps

    def apply(self, network: Network, x_TBCHW: Tensor | None) -> None:
        assert x_TBCHW is not None

        def divide(layer: Any, psp_TBN: Tensor) -> None:
            moment_C = psp_TBN.square().mean([axis for axis in range(psp_TBN.dim()) if axis != 2])
            _rescale(layer, torch.rsqrt(moment_C + self.eps).view(1, -1, *(1 for _ in layer.weight.shape[2:])))

        readers: dict[nn.Module, nn.Module] = {layer: layer for layer in weight_layers(network)[1:]}
        if _reads_spikes(network):  # a norm would stand before the mean, which passes a factor per channel on
            pools = [module for module in network.modules() if isinstance(module, MeanOverTimeAndSpace)]
            classifier = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
            readers |= dict.fromkeys(pools[-1:], classifier)
        with _before(readers, divide):
            network(x_TBCHW)


@INITS.register("lsuv")
class LSUVInit(Init):
    """Layer-sequential unit variance: orthogonal weights, then each layer scaled on the first training batch.

    Every layer but the classifier, the first included, has an output of variance gain^2 there: 1, or less in a block's
    last weights where its scaling says so.

    Equation:
        W orthogonal;  W <- W gain / sqrt(Var(u)),  u = W x over T, B and all units, layer by layer

    Args:
        orthogonal: start from orthogonal matrices, as the paper does; else from the layers' own draw.

    Source: Mishkin and Matas 2016, arXiv 1511.06422; one pass is exact, since u is linear in W.

    Example:
        >>> LSUVInit().orthogonal
        True
    """

    def __init__(self, *, orthogonal: bool = True) -> None:
        self.orthogonal = orthogonal

    def apply(self, network: Network, x_TBCHW: Tensor | None) -> None:
        assert x_TBCHW is not None
        layers = weight_layers(network)
        if self.orthogonal:
            for layer in layers:
                nn.init.orthogonal_(layer.weight)
                _rescale(layer, 1.0)

        def scale(layer: Any, inputs: object, u: Tensor) -> Tensor | None:
            variance = u.var()
            if not variance > 0:  # nothing fires before it
                return None
            factor: Tensor = layer.weight_quant.gain * variance.rsqrt()
            _rescale(layer, factor)
            return u * factor

        handles = [layer.register_forward_hook(scale) for layer in layers]
        try:
            network(x_TBCHW)
        finally:
            for handle in handles:
                handle.remove()


def weight_layers(network: nn.Module) -> list[Conv2d | Linear]:
    """Return the weight layers but the classifier, in order; the first reads the data, the others spikes."""
    return [module for module in network.modules() if isinstance(module, Conv2d | Linear)]


def _rescale(layer: Any, factor: Tensor | float) -> None:
    layer.weight.mul_(factor)
    if isinstance(layer, TimeFolded):
        layer.weight_quant.start(layer.weight_norm(layer.weight))


def _reads_spikes(network: nn.Module) -> bool:
    """Return whether the classifier reads spikes or their counts, averaged, and not a real stream."""
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    readout: Any = getattr(network, "readout", None)
    return (
        not blocks
        or blocks[-1].stream != "real"
        or (readout is not None and any(isinstance(module, Neuron) for module in readout.modules()))
    )


@contextmanager
def _before(readers: dict[nn.Module, nn.Module], act: Callable[[Any, Tensor], None]) -> Iterator[None]:
    """Act on a module with the input of another, just before that computes."""

    def hook(reader: nn.Module) -> Any:
        return lambda module, inputs: act(reader, inputs[0])

    handles = [module.register_forward_pre_hook(hook(reader)) for module, reader in readers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
