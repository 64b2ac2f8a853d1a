"""Normalizations: each says where it sits and which values share one statistic.

Shapes: T steps, B batch, C channels, H W space, N any feature dimensions (C alone, or C, H, W).

Placements, the word for where a norm stands in a layer; a norm names one or more and stands at each of them:

    psp       on the filtered spikes, before the weights
    current   around the weights, before the neuron
    membrane  inside the neuron, just before it fires, step by step
    spike     on the spikes, before the synapse

`statistics_over` names the axes of the sum, such as "T,B,H,W": the values that share one statistic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.dynamics import over_time
from snn_exp.errors import UserError
from snn_exp.registry import Count, Fraction, Positive, Registry

FeatureShape = tuple[int, ...]

NORMS: Registry[Norm] = Registry("norm", traits=("placements",))


@dataclass(frozen=True)
class Site:
    """Where one norm stands: what the framework knows and no config says.

    Args:
        shape: (C, ...) of one sample at one step.
        num_steps: T, for norms that keep statistics step by step.
        placement: one of the placements that the norm names.
        v_threshold: threshold of the neurons, for norms that scale to it.
        num_summands: branches whose sum the norm's output is a part of before the next neuron fires.
    """

    shape: FeatureShape
    num_steps: int = 1
    placement: str = "current"
    v_threshold: float = 1.0
    num_summands: int = 1


class Norm(nn.Module, ABC):
    """What all normalizations share: [T, B, N] -> [T, B, N], or [B, N] -> [B, N] at the placement `membrane`.

    Args:
        site: where the norm stands.
    """

    placements: ClassVar[tuple[str, ...]] = ("current",)
    version: ClassVar[int] = 1

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.feature_shape = site.shape
        self.num_steps = site.num_steps

    def affine_C(self) -> tuple[Tensor, Tensor] | None:
        """(scale, shift) where in eval y = scale x + shift per channel; None where it does something else."""
        return None

    @property
    @abstractmethod
    def statistics_over(self) -> str:
        """The axes whose values share one statistic, such as "T,B,H,W"."""

    def extra_repr(self) -> str:
        return f"{tuple(self.feature_shape)}, statistics over {self.statistics_over or 'nothing'}"


@NORMS.register("none")
class NoNorm(Norm):
    """No normalization.

    Equation:
        y = x

    Shapes:
        x, y: [T, B, N]

    Source: the control.

    Example:
        >>> NoNorm(Site((3,)))(torch.ones(1, 1, 3))
        tensor([[[1., 1., 1.]]])
    """

    @property
    def statistics_over(self) -> str:
        return ""

    def forward(self, x_TBN: Tensor) -> Tensor:
        """The input."""
        return x_TBN


@NORMS.register("bn")
class BatchNorm(Norm):
    """Batch normalization over time, batch and space; torch's own, with time folded into the batch.

    Equation:
        y = gamma (x - mu) / sqrt(var + eps) + beta, mu and var per channel over (T, B, H, W)

    Shapes:
        x, y: [T, B, N]

    Args:
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.

    Raises:
        UserError: eps is not positive or momentum outside [0, 1].

    Source: Ioffe and Szegedy 2015; torch.nn.BatchNorm2d.

    Example:
        >>> y = BatchNorm(Site((3,)))(torch.randn(4, 32, 3) * 5 + 1)
        >>> bool(y.mean().abs() < 1e-5)
        True
    """

    def __init__(self, site: Site, *, eps: Positive = 1e-5, momentum: Fraction = 0.1) -> None:
        super().__init__(site)
        self.bn = _AnyDimBatchNorm(site.shape[0], eps=eps, momentum=momentum)

    @property
    def statistics_over(self) -> str:
        return "T,B" + _space(self.feature_shape)

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Batch statistics in training, running ones in eval."""
        return over_time(self.bn, x_TBN)

    def affine_C(self) -> tuple[Tensor, Tensor]:
        mean_C, var_C = self.bn.running_mean, self.bn.running_var
        assert mean_C is not None and var_C is not None
        scale_C = self.bn.weight * torch.rsqrt(var_C + self.bn.eps)
        return scale_C, self.bn.bias - mean_C * scale_C


class _AnyDimBatchNorm(nn.modules.batchnorm._BatchNorm):
    """torch's batch norm for [B, C] as well as [B, C, H, W]."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


@NORMS.register("psp")
class PSPNorm(Norm):
    """PSP normalization: divide the postsynaptic potential by the root of its second raw moment.

    Nothing is subtracted, so silence stays 0 and the potential stays non-negative. With zero-mean
    weights independent of psp, Var(u) = N sigma_w^2 E[psp^2]; dividing makes it N sigma_w^2, whatever
    the firing rate and the depth. After relu it is an RMS norm without gain.

    Equation:
        psp_hat = psp / sqrt(m + eps),  m = E[psp^2] over the chosen axes
        running m starts from the first batch, then m <- (1 - momentum) m + momentum m_batch

    Shapes:
        psp, psp_hat: [T, B, N]

    Args:
        over: the values that share one moment: channel (T,B,H,W), neuron (T,B), channel_step (B,H,W),
            or sample (the features of one sample at one step; keeps no running moment).
        eps: the paper's lambda, added to the moment.
        momentum: weight of the newest batch in the running moments.

    Raises:
        UserError: eps is not positive, momentum outside [0, 1], or an unknown `over`.
        UserError: another number of steps than the running moments were made for (over=channel_step).

    Source: Ikegawa et al. 2022, arXiv 2203.01544. Axes, eps and momentum are not known to us; the
        defaults are our choice.

    Example:
        >>> psp = torch.tensor([[[0.0, 2.0]], [[4.0, 2.0]]])
        >>> PSPNorm(Site((2,), num_steps=2))(psp)[:, 0]
        tensor([[0.0000, 1.0000],
                [1.4142, 1.0000]])
    """

    placements = ("psp",)
    moment: Tensor
    num_batches: Tensor

    def __init__(
        self,
        site: Site,
        *,
        over: Literal["channel", "neuron", "channel_step", "sample"] = "channel",
        eps: Positive = 1e-5,
        momentum: Fraction = 0.1,
    ) -> None:
        super().__init__(site)
        self.over = over
        self.eps = eps
        self.momentum = momentum
        space = tuple(range(3, 2 + len(site.shape)))
        ones = (1,) * len(space)
        # the axes of the mean over [T, B, C, ...], and the shape of what is kept of it
        axes, kept = {
            "channel": ((0, 1, *space), (1, 1, site.shape[0], *ones)),
            "neuron": ((0, 1), (1, 1, *site.shape)),
            "channel_step": ((1, *space), (site.num_steps, 1, site.shape[0], *ones)),
            "sample": ((2, *space), ()),
        }[over]
        self._axes = axes
        self.register_buffer("moment", torch.ones(kept))
        self.register_buffer("num_batches", torch.tensor(0))

    @property
    def statistics_over(self) -> str:
        space = _space(self.feature_shape)
        return {"channel": "T,B" + space, "neuron": "T,B", "channel_step": "B" + space, "sample": "C" + space}[
            self.over
        ]

    def forward(self, psp_TBN: Tensor) -> Tensor:
        """Batch moments in training, running ones in eval (over=sample: always the sample's own)."""
        if self.over == "channel_step" and psp_TBN.shape[0] != self.num_steps:
            raise UserError(
                f"psp with over=channel_step keeps moments for {self.num_steps} steps and was given "
                f"{psp_TBN.shape[0]}; use the number of steps it was made for, or norm.over=channel"
            )
        if self.over == "sample" or self.training:
            moment = psp_TBN.square().mean(self._axes, keepdim=True)
            if self.over != "sample":
                self._update(moment.detach())
        else:
            moment = self.moment
        return psp_TBN * torch.rsqrt(moment + self.eps).to(psp_TBN.dtype)

    def affine_C(self) -> tuple[Tensor, Tensor] | None:
        # per neuron or per step there are more moments than channels, unless there is one neuron or one step
        if self.over == "sample" or self.moment.numel() != self.feature_shape[0]:
            return None
        scale_C = torch.rsqrt(self.moment + self.eps).flatten()
        return scale_C, torch.zeros_like(scale_C)

    @torch.no_grad()
    def _update(self, moment: Tensor) -> None:
        # torch.where and not `if`: reading num_batches would wait for the device at every layer
        weight = torch.where(self.num_batches == 0, 1.0, self.momentum).to(moment.dtype)
        self.moment.lerp_(moment.to(self.moment.dtype), weight.to(self.moment.dtype))
        self.num_batches += 1


@NORMS.register("layer")
class LayerNorm(Norm):
    """Layer normalization of all features of one sample at one step; torch's own.

    Equation:
        y = gamma (x - mu) / sqrt(var + eps) + beta, mu and var over (C, H, W)

    Shapes:
        x, y: [T, B, N]

    Args:
        eps: added to the variance.

    Raises:
        UserError: eps is not positive.

    Source: Ba et al. 2016; torch.nn.LayerNorm.

    Example:
        >>> LayerNorm(Site((2,)))(torch.tensor([[[1.0, 3.0]]]))
        tensor([[[-1.0000,  1.0000]]], grad_fn=<NativeLayerNormBackward0>)
    """

    def __init__(self, site: Site, *, eps: Positive = 1e-5) -> None:
        super().__init__(site)
        self.layer_norm = nn.LayerNorm(site.shape, eps=eps)

    @property
    def statistics_over(self) -> str:
        return "C" + _space(self.feature_shape)

    def forward(self, x_TBN: Tensor) -> Tensor:
        """The same in training and eval."""
        y: Tensor = self.layer_norm(x_TBN)
        return y


@NORMS.register("group")
class GroupNorm(Norm):
    """Group normalization: groups of channels of one sample at one step; torch's own.

    Equation:
        y = gamma (x - mu) / sqrt(var + eps) + beta, mu and var over (C / num_groups, H, W)

    Shapes:
        x, y: [T, B, N]

    Args:
        num_groups: number of groups; must divide the number of channels.
        eps: added to the variance.

    Raises:
        UserError: num_groups < 1 or does not divide the number of channels, or eps is not positive.

    Source: Wu and He 2018; torch.nn.GroupNorm.

    Example:
        >>> GroupNorm(Site((4,)), num_groups=2)(torch.tensor([[[1.0, 3.0, 5.0, 7.0]]])).detach()
        tensor([[[-1.0000,  1.0000, -1.0000,  1.0000]]])
    """

    def __init__(self, site: Site, *, num_groups: Count = 8, eps: Positive = 1e-5) -> None:
        super().__init__(site)
        if site.shape[0] % num_groups:
            raise UserError(
                f"norm.num_groups={num_groups} does not divide {site.shape[0]} channels; "
                f"type a divisor, such as norm.num_groups=1"
            )
        self.group_norm = nn.GroupNorm(num_groups, site.shape[0], eps=eps)

    @property
    def statistics_over(self) -> str:
        return "C/num_groups" + _space(self.feature_shape)

    def forward(self, x_TBN: Tensor) -> Tensor:
        """The same in training and eval."""
        return over_time(self.group_norm, x_TBN)


@NORMS.register("rms")
class RMSNorm(Norm):
    """Root-mean-square normalization of all features of one sample at one step; torch's own.

    Equation:
        y = gamma x / sqrt(E[x^2] + eps), the mean over (C, H, W)

    Shapes:
        x, y: [T, B, N]

    Args:
        eps: added to the mean square.

    Raises:
        UserError: eps is not positive.

    Source: Zhang and Sennrich 2019; torch.nn.RMSNorm.

    Example:
        >>> RMSNorm(Site((2,)))(torch.tensor([[[3.0, 3.0]]])).detach()
        tensor([[[1.0000, 1.0000]]])
    """

    def __init__(self, site: Site, *, eps: Positive = 1e-5) -> None:
        super().__init__(site)
        self.weight = nn.Parameter(torch.ones(site.shape))
        self.eps = eps

    @property
    def statistics_over(self) -> str:
        return "C" + _space(self.feature_shape)

    def forward(self, x_TBN: Tensor) -> Tensor:
        """The same in training and eval."""
        return functional.rms_norm(x_TBN, self.feature_shape, self.weight, self.eps)


def _space(feature_shape: FeatureShape) -> str:
    return ",H,W" if len(feature_shape) == 3 else ""
