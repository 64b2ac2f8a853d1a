"""Normalizations that do not depend on spikes: none, and torch's own.

Shapes: T steps, B batch, C channels, H W space, N any feature dimensions (C alone, or C, H, W).
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.errors import UserError
from snn_exp.nn.distributed import batch_moments, num_processes
from snn_exp.nn.norms.norm import NORMS, Norm, Site
from snn_exp.nn.stepwise import over_time
from snn_exp.registry import Count, Fraction, Limit, Positive


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
        """Return the input."""
        return x_TBN

    def affine_C(self) -> tuple[Tensor, Tensor]:
        return torch.ones(self.feature_shape[0]), torch.zeros(self.feature_shape[0])


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

    variance_over = "T,B,H,W"

    def __init__(self, site: Site, *, eps: Positive = 1e-5, momentum: Fraction = 0.1) -> None:
        super().__init__(site)
        self.bn = AnyDimBatchNorm(site.shape[0], eps=eps, momentum=momentum)

    @property
    def statistics_over(self) -> str:
        return self.with_space("T,B")

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Normalize with batch statistics in training, running ones in eval."""
        return over_time(self.bn, x_TBN)

    def affine_C(self) -> tuple[Tensor, Tensor] | None:
        mean_C, var_C = self.bn.running_mean, self.bn.running_var
        assert mean_C is not None and var_C is not None
        return standardization_C(mean_C, var_C + self.bn.eps, self.bn.weight, self.bn.bias)


def standardization_C(mean_C: Tensor, var_C: Tensor, gain_C: Tensor, bias_C: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale and shift of gain (x - mean) / sqrt(var) + bias."""
    scale_C = gain_C * torch.rsqrt(var_C)
    return scale_C, bias_C - mean_C * scale_C


class AnyDimBatchNorm(nn.modules.batchnorm._BatchNorm):
    """torch's batch norm for [B, C] as well as [B, C, H, W].

    Where several processes share a batch it is normalized with the moments of the whole; torch's own that does so
    needs a GPU.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """Normalize with batch statistics in training, running ones in eval."""
        return self._over_all_shares(input) if self.training and num_processes() > 1 else super().forward(input)

    def _over_all_shares(self, x_BN: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        x = x_BN.to(self.running_mean.dtype)
        mean, var, num_values = batch_moments(x, (0, *range(2, x.dim())))
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_var.lerp_(var.flatten() * (num_values / (num_values - 1)), self.momentum)
        y = (x - mean) * torch.rsqrt(var + self.eps) * self.weight.view_as(mean)
        return (y if self.bias is None else y + self.bias.view_as(mean)).to(x_BN.dtype)


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

    variance_over = "C,H,W"

    def __init__(self, site: Site, *, eps: Positive = 1e-5) -> None:
        super().__init__(site)
        self.layer_norm = nn.LayerNorm(site.shape, eps=eps)

    @property
    def statistics_over(self) -> str:
        return self.with_space("C")

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Normalize, in the same way in training and eval."""
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

    divides_channels = "num_groups"
    variance_over = "C/num_groups,H,W"

    def __init__(
        self,
        site: Site,
        *,
        num_groups: Annotated[Count, Limit(65_536, "no layer has as many channels")] = 8,
        eps: Positive = 1e-5,
    ) -> None:
        super().__init__(site)
        if site.shape[0] % num_groups:
            raise UserError(
                f"norm.num_groups={num_groups} does not divide {site.shape[0]} channels; "
                f"type a divisor, such as norm.num_groups=1"
            )
        self.group_norm = nn.GroupNorm(num_groups, site.shape[0], eps=eps)

    @property
    def statistics_over(self) -> str:
        return self.with_space("C/num_groups")

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Normalize, in the same way in training and eval."""
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
        return self.with_space("C")

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Normalize, in the same way in training and eval."""
        return functional.rms_norm(x_TBN, self.feature_shape, self.weight, self.eps)
