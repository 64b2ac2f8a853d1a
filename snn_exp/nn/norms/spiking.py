"""Normalizations made for spiking networks: they use the threshold, the steps, the membrane or the spikes.

Shapes: T steps, B batch, C channels, H W space, N any feature dimensions (C alone, or C, H, W).
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor, nn

from snn_exp.nn.distributed import batch_moments
from snn_exp.nn.norms.norm import NORMS, Norm, Site
from snn_exp.nn.norms.standard import AnyDimBatchNorm, BatchNorm, standardization_C
from snn_exp.nn.stepwise import State, Stepwise, over_time
from snn_exp.registry import Fraction, Positive


@NORMS.register("tdbn")
class ThresholdDependentBatchNorm(BatchNorm):
    """Threshold-dependent batch normalization: batch normalization to the size of the threshold.

    The product gamma a v_threshold is one learned number per channel, as in batch normalization; only its start
    differs. With a = 1 and v_threshold = 1 the two are the same.

    Equation:
        y = gamma a v_threshold (x - mu) / sqrt(var + eps) + beta, mu and var per channel over (T, B, H, W)
        a = 1 / sqrt(n), n the branches whose sum the next neuron reads

    Shapes:
        x, y: [T, B, N]

    Args: those of batch normalization.

    Raises:
        UserError: eps is not positive or momentum outside [0, 1].

    Source: Zheng et al. 2021, arXiv 2011.05280. That a is 1 in a chain and 1 / sqrt(2) where two branches
        meet is from memory.

    Example:
        >>> ThresholdDependentBatchNorm(Site((2,), v_threshold=0.5, num_summands=4)).bn.weight.tolist()
        [0.25, 0.25]
    """

    def __init__(self, site: Site, **batch_norm: Any) -> None:
        super().__init__(site, **batch_norm)
        nn.init.constant_(self.bn.weight, site.v_threshold / math.sqrt(site.num_summands))


@NORMS.register("bntt")
class BatchNormThroughTime(Norm):
    """Batch normalization through time: an independent one at each step.

    Equation:
        y[t] = gamma_t (x[t] - mu_t) / sqrt(var_t + eps), mu_t and var_t per channel over (B, H, W); no bias

    Shapes:
        x, y: [T, B, N]

    Args:
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.

    Raises:
        UserError: eps is not positive or momentum outside [0, 1].
        UserError: another number of steps than it was made for.

    Source: Kim and Panda 2021, arXiv 2010.01729.

    Example:
        >>> y = BatchNormThroughTime(Site((1,), num_steps=2))(torch.tensor([[[1.0], [3.0]], [[0.0], [8.0]]]))
        >>> y.flatten().round(decimals=3).tolist()
        [-1.0, 1.0, -1.0, 1.0]
    """

    variance_over = "B,H,W"

    def __init__(self, site: Site, *, eps: Positive = 1e-4, momentum: Fraction = 0.1) -> None:
        super().__init__(site)
        self.bn = AnyDimBatchNorm(site.num_steps * site.shape[0], eps=eps, momentum=momentum)
        self.bn.register_parameter("bias", None)

    @property
    def statistics_over(self) -> str:
        return self.with_space("B")

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Normalize with each step's batch statistics in training, its running ones in eval."""
        self.refuse_other_num_steps(x_TBN, instead="norm=bn")
        steps_as_channels = x_TBN.transpose(0, 1).flatten(1, 2)
        y: Tensor = self.bn(steps_as_channels)
        return y.view(x_TBN.transpose(0, 1).shape).transpose(0, 1)


@NORMS.register("tebn")
class TemporalEffectiveBatchNorm(BatchNorm):
    """Temporal effective batch normalization: batch normalization, then a learned factor for each step.

    Equation:
        y[t] = p_t (gamma (x[t] - mu) / sqrt(var + eps) + beta), mu and var per channel over (T, B, H, W)
        p_t learned, starting from 1

    Shapes:
        x, y: [T, B, N]

    Args: those of batch normalization.

    Raises:
        UserError: eps is not positive or momentum outside [0, 1].
        UserError: another number of steps than it was made for.

    Source: Duan et al. 2022, "Temporal Effective Batch Normalization in Spiking Neural Networks".

    Example:
        >>> TemporalEffectiveBatchNorm(Site((2,), num_steps=3)).p.tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(self, site: Site, **batch_norm: Any) -> None:
        super().__init__(site, **batch_norm)
        self.p = nn.Parameter(torch.ones(site.num_steps))

    def affine_C(self) -> None:
        return None  # a factor for each step

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Normalize with batch statistics in training, running ones in eval."""
        self.refuse_other_num_steps(x_TBN, instead="norm=bn")
        return super().forward(x_TBN) * _along_time(self.p, x_TBN).to(x_TBN.dtype)


@NORMS.register("tab")
class TemporalAccumulatedBatchNorm(Norm):
    """Temporal accumulated batch normalization: each step is normalized over all steps so far.

    Equation:
        y[t] = p_t^2 (gamma_t (x[t] - mu_t) / sqrt(var_t + eps) + beta_t)
        mu_t and var_t per channel over (1..t, B, H, W);  p_t learned, starting from 1

    Shapes:
        x, y: [T, B, N]

    Args:
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.

    Raises:
        UserError: eps is not positive or momentum outside [0, 1].
        UserError: another number of steps than it was made for.

    Source: Jiang et al. 2024, "TAB: Temporal Accumulated Batch Normalization in Spiking Neural Networks".

    Example:
        >>> norm = TemporalAccumulatedBatchNorm(Site((1,), num_steps=2))
        >>> norm(torch.tensor([[[1.0], [3.0]], [[2.0], [2.0]]])).flatten().round(decimals=3).tolist()
        [-1.0, 1.0, 0.0, 0.0]
    """

    variance_over = "B,H,W"  # of the first step
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, site: Site, *, eps: Positive = 1e-5, momentum: Fraction = 0.1) -> None:
        super().__init__(site)
        self.eps = eps
        self.momentum = momentum
        size = site.num_steps * site.shape[0]  # one axis, so that optimizers know it for a norm's and don't decay it
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.p = nn.Parameter(torch.ones(site.num_steps))
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    @property
    def statistics_over(self) -> str:
        return self.with_space("T<=t,B")

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Normalize with the batch's statistics up to each step in training, running ones in eval."""
        self.refuse_other_num_steps(x_TBN, instead="norm=bn")
        x = x_TBN.to(self.weight.dtype)
        if self.training:
            mean, var, num_values = _moments_so_far(x)
            self._update(mean.detach(), var.detach(), num_values)
        else:
            mean, var = _along_channels(self.running_mean, x), _along_channels(self.running_var, x)
        x_hat = (x - mean) * torch.rsqrt(var + self.eps)
        y = _along_channels(self.weight, x) * x_hat + _along_channels(self.bias, x)
        return (_along_time(self.p.square(), x) * y).to(x_TBN.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, var: Tensor, num_values_per_step: int | Tensor) -> None:
        # as torch's batch norm does, the running variance is the unbiased one
        num_values = num_values_per_step * torch.arange(1, len(var) + 1, device=var.device, dtype=var.dtype)
        unbiased = var * _along_time(num_values / (num_values - 1).clamp(min=1), var)
        self.running_mean.lerp_(mean.flatten(), self.momentum)
        self.running_var.lerp_(unbiased.flatten(), self.momentum)


@NORMS.register("mpbn")
class MembraneBatchNorm(BatchNorm):
    """Membrane potential batch normalization: one after the weights, and another inside the neuron before it fires.

    On the membrane each step is normalized with its own batch statistics; all steps share one affine map and
    one set of running statistics, which every step moves. The neuron resets and keeps h, not the norm of h.

    Equation:
        after the weights: y = gamma (x - mu) / sqrt(var + eps) + beta, mu and var per channel over (T, B, H, W)
        on the membrane:   s = H(gamma (h - mu) / sqrt(var + eps) + beta - v_threshold), per channel over (B, H, W)

    Shapes:
        x, y: [T, B, N] after the weights, [B, N] on the membrane

    Args: those of batch normalization, for both.

    Raises:
        UserError: eps is not positive or momentum outside [0, 1].

    Source: Guo et al. 2023, arXiv 2308.08359, and the authors' code. Only this form folds into a threshold;
        SpikingJelly resets the norm's output, which does not fold.

    Example:
        >>> norm = MembraneBatchNorm(Site((2,), placement="membrane"))
        >>> norm(torch.tensor([[1.0, 0.0], [3.0, 8.0]])).detach().round(decimals=3)
        tensor([[-1., -1.],
                [ 1.,  1.]])
    """

    placements = ("current", "membrane")
    variance_over = "B,H,W"

    def __init__(self, site: Site, **batch_norm: Any) -> None:
        super().__init__(site, **batch_norm)
        self.on_membrane = site.placement == "membrane"

    @property
    def statistics_over(self) -> str:
        return self.with_space("B") if self.on_membrane else super().statistics_over

    def forward(self, x: Tensor) -> Tensor:
        """Normalize with batch statistics in training, running ones in eval."""
        y: Tensor = self.bn(x) if self.on_membrane else over_time(self.bn, x)
        return y


@NORMS.register("neunorm")
class NeuNorm(Norm, Stepwise):
    """Neuron normalization: each position is inhibited by the recent spikes of all its channels.

    The inhibition reaches each neuron (channel and position) through a weight of its own. The output is not
    spikes, so the weights after it multiply; after signs, whose sum counts nothing, or reals a config refuses it.

    Equation:
        z[t] = k z[t-1] + (1 - k) / F^2 sum_f s_f[t], over the F channels of one position
        y[t] = s[t] - U z[t]

    Shapes:
        s, y: [T, B, N];  z: [B, 1] or [B, 1, H, W];  U: [N]

    Args:
        k: factor per step on z.

    Raises:
        UserError: k outside [0, 1).

    Source: Wu et al. 2019, arXiv 1809.05793; one U per neuron as in SpikingJelly. That U starts from 1 is our choice:
        the paper's start is not known to us.

    Example:
        >>> NeuNorm(Site((2,)), k=0.5)(torch.tensor([[[1.0, 1.0]], [[0.0, 1.0]]]))[:, 0].detach()
        tensor([[ 0.7500,  0.7500],
                [-0.2500,  0.7500]])
    """

    placements = ("spike",)

    def __init__(self, site: Site, *, k: Annotated[float, Interval(ge=0, lt=1)] = 0.9) -> None:
        super().__init__(site)
        self.k = k
        self.U = nn.Parameter(torch.ones(site.shape))

    @property
    def statistics_over(self) -> str:
        return "T<=t,C"

    def initial_state(self, x_BN: Tensor) -> State:
        return (torch.zeros_like(x_BN[:, :1]),)

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        (z,) = state
        z = self.k * z + (1 - self.k) / x_BN.shape[1] ** 2 * x_BN.sum(1, keepdim=True)
        return x_BN - self.U.to(x_BN.dtype) * z, (z,)


@NORMS.register("osr")
class OnlineRenorm(Norm):
    """Online spiking renormalization: running statistics forward, a real batch normalization of the step backward.

    In training as in eval the forward is the running statistics' affine map, so nothing of a later step is
    needed. At each step of training they first move by that step's batch statistics (the first step ever seen
    sets them). r and d carry no gradient, so the gradient is that of a batch normalization of step t, times r.

    Equation:
        mu_r <- (1 - momentum) mu_r + momentum mu_t, var_r likewise;  mu_t and var_t per channel over (B, H, W)
        x_hat[t] = (x[t] - mu_t) / sqrt(var_t + eps)
        y[t] = gamma (r x_hat[t] + d) + beta,  which is  gamma (x[t] - mu_r) / sqrt(var_r + eps) + beta
        r = sqrt((var_t + eps) / (var_r + eps)),  d = (mu_t - mu_r) / sqrt(var_r + eps), both constants to the gradient

    Shapes:
        x, y: [T, B, N]

    Args:
        eps: added to the variance.
        momentum: weight of the newest step in the running statistics.

    Raises:
        UserError: eps is not positive or momentum outside [0, 1].

    Source: Zhu et al. 2024, "Online Stabilization of Spiking Neural Networks", in the form of Ioffe 2017 (batch
        renormalization, unclipped). The authors' code moves the running statistics once per batch by the steps' mean,
        scales the gradient by r^2, and leaves r and d out of gamma's gradient. Their second part, a moving
        threshold, is not here.

    Example:
        >>> norm = OnlineRenorm(Site((1,)), momentum=0.5)
        >>> norm(torch.tensor([[[1.0], [3.0]], [[2.0], [4.0]]])).flatten().round(decimals=3).tolist()
        [-1.0, 1.0, -0.5, 1.5]
    """

    variance_over = "B,H,W"
    trains_on_running_statistics = True
    running_mean: Tensor
    running_var: Tensor
    num_updates: Tensor

    def __init__(self, site: Site, *, eps: Positive = 1e-5, momentum: Fraction = 0.1) -> None:
        super().__init__(site)
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(site.shape[0]))
        self.bias = nn.Parameter(torch.zeros(site.shape[0]))
        self.register_buffer("running_mean", torch.zeros(site.shape[0]))
        self.register_buffer("running_var", torch.ones(site.shape[0]))
        self.register_buffer("num_updates", torch.tensor(0))

    @property
    def statistics_over(self) -> str:
        return self.with_space("T<=t,B")

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Normalize with running statistics; in training they move first, and the gradient is that of a batch norm."""
        x = x_TBN.to(self.weight.dtype)
        if self.training:
            mean, var, _ = _moments(x)
            running_mean, running_var = self._moved_step_by_step(mean.detach(), var.detach())
            r = ((var + self.eps) / (running_var + self.eps)).sqrt().detach()
            d = ((mean - running_mean) / (running_var + self.eps).sqrt()).detach()
            x_hat = (x - mean) * torch.rsqrt(var + self.eps) * r + d
        else:
            mean, var = _along_channels(self.running_mean, x), _along_channels(self.running_var, x)
            x_hat = (x - mean) * torch.rsqrt(var + self.eps)
        return (_along_channels(self.weight, x) * x_hat + _along_channels(self.bias, x)).to(x_TBN.dtype)

    def affine_C(self) -> tuple[Tensor, Tensor]:
        return standardization_C(self.running_mean, self.running_var + self.eps, self.weight, self.bias)

    @torch.no_grad()
    def _moved_step_by_step(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance as each step finds them, in the shape of the steps' own."""
        means, variances = [], []
        for mean_C, var_C in zip(mean.flatten(1), var.flatten(1), strict=True):
            # 1 at the first, without an `if`: reading num_updates would wait for the device at every step
            weight = self.momentum + (1 - self.momentum) * (self.num_updates == 0).to(mean.dtype)
            means.append(self.running_mean.lerp_(mean_C, weight).clone())
            variances.append(self.running_var.lerp_(var_C, weight).clone())
            self.num_updates += 1
        return torch.stack(means).view_as(mean), torch.stack(variances).view_as(var)


def _moments(x_TBN: Tensor) -> tuple[Tensor, Tensor, int | Tensor]:
    """Compute mean and biased variance per step and channel, [T, 1, C, 1, 1], and the number of values of each."""
    return batch_moments(x_TBN, (1, *range(3, x_TBN.dim())))


def _moments_so_far(x_TBN: Tensor) -> tuple[Tensor, Tensor, int | Tensor]:
    """Compute mean and biased variance per channel over the steps so far, [T, 1, C, 1, 1], and the values per step."""
    mean, var, num_values = _moments(x_TBN)
    means = [mean[: t + 1].mean(0) for t in range(len(mean))]
    # within the steps and between them: no square of x is ever subtracted from another
    variances = [(var[: t + 1] + (mean[: t + 1] - means[t]).square()).mean(0) for t in range(len(mean))]
    return torch.stack(means), torch.stack(variances), num_values


def _along_time(v_T: Tensor, x_TBN: Tensor) -> Tensor:
    """Reshape [T] so that it broadcasts against x."""
    return v_T.view(-1, *(1 for _ in x_TBN.shape[1:]))


def _along_channels(v: Tensor, x_TBN: Tensor) -> Tensor:
    """Reshape [C], or [T C], so that it broadcasts against x."""
    return v.view(-1, 1, x_TBN.shape[2], *(1 for _ in x_TBN.shape[3:]))
