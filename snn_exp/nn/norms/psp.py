"""PSP normalization, which this framework was built to examine.

Shapes: T steps, B batch, C channels, H W space, N any feature dimensions (C alone, or C, H, W).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from snn_exp.nn.distributed import batch_mean
from snn_exp.nn.norms.norm import NORMS, Norm, Site
from snn_exp.registry import Fraction, Positive


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

    placements: ClassVar[tuple[str, ...]] = ("psp",)
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
        # the axes of the mean over [T, B, C, ...], and the shape of its running moment
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
        return {
            "channel": self.with_space("T,B"),
            "neuron": "T,B",
            "channel_step": self.with_space("B"),
            "sample": self.with_space("C"),
        }[self.over]

    def forward(self, psp_TBN: Tensor) -> Tensor:
        """Divide by batch moments in training, by running ones in eval (over=sample: always by the sample's own)."""
        if self.over == "channel_step":
            self.refuse_other_num_steps(psp_TBN, instead="norm.over=channel")
        if self.over == "sample":
            moment = psp_TBN.square().mean(self._axes, keepdim=True)
        elif self.training:
            moment = batch_mean(psp_TBN.square(), self._axes)
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
        weight = torch.where(self.num_batches == 0, moment.new_ones(()), moment.new_full((), self.momentum))
        self.moment.lerp_(moment.to(self.moment.dtype), weight.to(self.moment.dtype))
        self.num_batches += 1


@NORMS.register("psp_stream")
class PSPStreamNorm(PSPNorm):
    """PSP normalization of the neurons' input as well as of their output.

    PSP normalization bounds Var(u) of each weight layer, but in pre-activation blocks the stream that adds them
    up still grows with depth, and the firing rate with it. Here the stream is divided by the root of its
    second raw moment as well, before each neuron that reads it; elsewhere it is the weights' output that is.

    Equation:
        psp_hat = psp / sqrt(E[psp^2] + eps),  x_hat = x / sqrt(E[x^2] + eps), x the neuron's input
        axes and running moments as in `PSPNorm`

    Shapes:
        x, x_hat: [T, B, N]

    Args:
        over: the values that share one moment, as in `PSPNorm`.

    Raises:
        UserError: as `PSPNorm`.

    Source: ours, after Ikegawa et al. 2022; it folds as a pre-activation batch norm without shift does.

    Example:
        >>> PSPStreamNorm.placements
        ('psp', 'current')
    """

    placements = ("psp", "current")
