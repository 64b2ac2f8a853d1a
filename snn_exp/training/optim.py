"""Optimization: an optimizer, its schedule over all steps, and gradient clipping."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Interval
from torch import nn
from torch.optim import lr_scheduler

from snn_exp.registry import Below, Count, Fraction, Limit, NonNegative, Positive, Registry

Decay = Annotated[float, Interval(ge=0, lt=1)]

OPTIMS: Registry[Optim] = Registry("optim")


class Optim(ABC):
    """Base class of all optimizers.

    Weight decay acts on parameters of two or more axes: weights, and per-channel parameters of a neuron
    ([C, 1, 1], such as a threshold, which at lr 0.005 and weight_decay 0.001 shrinks by 5e-6 of itself per step). It
    does not act on gains, biases and time constants.

    Args:
        lr: the highest learning rate.
        weight_decay: pull of the weights towards zero.
        batch_size: samples per step, over all devices.
        schedule: constant; cosine (linear warm-up, then a cosine to 0); onecycle (torch's OneCycleLR, which also moves
            the momentum, or beta1, from 0.95 to 0.85 and back).
        warmup: share of all steps spent on the warm-up of cosine.
        clip_norm: largest norm of the gradient; 0 disables clipping.
        loss: ce, the cross-entropy of the logits, which are the mean over the steps; tet (temporal efficient
            training, Deng et al. 2022), the mean over the steps of the cross-entropy of each, and a pull of all logits.
        tet_weight: share of that pull in the loss.
        tet_target: the value to which it pulls the logits.
        label_smoothing: share of the target spread over all classes.
        rate_penalty: weight, in the loss, of the mean output of the neuron layers (their firing rate).
        width_schedule: how the width of the surrogates goes from the first epoch to the last.
        width_end: factor on that width in the last epoch; 1 with a constant schedule.
        teacher_weight: share of the loss that compares with the teacher, if there is one; the rest is cross-entropy.
        teacher_temperature: softens both distributions of that comparison.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        *,
        lr: Annotated[Positive, Limit(1000, "the first step throws all weights away")] = 5e-3,
        weight_decay: Annotated[NonNegative, Limit(1000, "the first step throws all weights away")] = 1e-3,
        batch_size: Annotated[Count, Limit(1_000_000, "no data set here has as many samples")] = 32,
        schedule: Literal["constant", "cosine", "onecycle"] = "onecycle",
        warmup: Fraction = 0.1,
        clip_norm: NonNegative = 5.0,
        loss: Literal["ce", "tet"] = "ce",
        tet_weight: Fraction = 0.05,
        tet_target: Positive = 1.0,
        label_smoothing: Fraction = 0.0,
        rate_penalty: NonNegative = 0.0,
        width_schedule: Literal["constant", "linear", "cosine"] = "constant",
        width_end: Positive = 1.0,
        teacher_weight: Fraction = 0.5,
        teacher_temperature: Positive = 4.0,
    ) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.schedule = schedule
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.loss = loss
        self.tet_weight = tet_weight
        self.tet_target = tet_target
        self.label_smoothing = label_smoothing
        self.rate_penalty = rate_penalty
        self.width_schedule = width_schedule
        self.width_end = width_end
        self.teacher_weight = teacher_weight
        self.teacher_temperature = teacher_temperature

    def width_factor(self, epoch: int, num_epochs: int) -> float:
        """Return the factor on the surrogates' width in an epoch.

        Equation:
            1 + (width_end - 1) g(epoch / (num_epochs - 1)),  g(p) = p (linear), (1 - cos(pi p)) / 2 (cosine)

        Example:
            >>> annealed = AdamW(width_schedule="linear", width_end=0.5)
            >>> [annealed.width_factor(epoch, 3) for epoch in range(3)]
            [1.0, 0.75, 0.5]
        """
        if self.width_schedule == "constant":
            return 1.0
        progress = epoch / max(1, num_epochs - 1)
        if self.width_schedule == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return 1 + (self.width_end - 1) * progress

    @abstractmethod
    def make_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Make the torch optimizer over parameter groups."""

    def build(self, network: nn.Module, num_steps: int) -> tuple[torch.optim.Optimizer, lr_scheduler.LRScheduler]:
        """Build optimizer and schedule for a network and a number of steps."""
        weights = [p for p in network.parameters() if p.dim() >= 2]
        others = [p for p in network.parameters() if p.dim() < 2]
        optimizer = self.make_optimizer(
            [{"params": weights, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        )
        return optimizer, self._make_schedule(optimizer, num_steps)

    def _make_schedule(self, optimizer: torch.optim.Optimizer, num_steps: int) -> lr_scheduler.LRScheduler:
        if self.schedule == "onecycle":
            return lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=num_steps + 1)
        if self.schedule == "constant":
            return lr_scheduler.ConstantLR(optimizer, factor=1.0)
        num_warmup = max(1, round(self.warmup * num_steps))
        warmup = lr_scheduler.LinearLR(optimizer, start_factor=1 / num_warmup, total_iters=num_warmup)
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, num_steps - num_warmup))
        return lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[num_warmup])


@OPTIMS.register("adamw")
class AdamW(Optim):
    """AdamW; torch's own.

    Definition:
        torch.optim.AdamW with decoupled weight decay

    Args:
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of squared gradients.

    Raises:
        UserError: a parameter out of its range.

    Source: Loshchilov and Hutter 2019.

    Example:
        >>> optimizer, _ = AdamW(lr=0.01).build(nn.Linear(2, 2), num_steps=10)
        >>> [group["weight_decay"] for group in optimizer.param_groups]
        [0.001, 0.0]
    """

    def __init__(self, *, beta1: Decay = 0.9, beta2: Decay = 0.999, **common: Any) -> None:
        super().__init__(**common)
        self.betas = (beta1, beta2)

    def make_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, fused=_fused(groups))


@OPTIMS.register("sgd")
class SGD(Optim):
    """Stochastic gradient descent with momentum; torch's own.

    Definition:
        torch.optim.SGD

    Args:
        momentum: decay of the velocity.
        nesterov: look ahead along the velocity.

    Raises:
        UserError: a parameter out of its range.

    Source: Sutskever et al. 2013.

    Example:
        >>> optimizer, _ = SGD(lr=0.1).build(nn.Linear(2, 2), num_steps=10)
        >>> optimizer.param_groups[0]["nesterov"]
        True
    """

    constraints = (
        Below(
            "0",
            "momentum",
            "{nesterov} looks ahead along the velocity and {momentum} keeps none; type optim.nesterov=false, or "
            "optim.momentum=0.9",
            when="nesterov",
        ),
    )

    def __init__(self, *, momentum: Fraction = 0.9, nesterov: bool = True, **common: Any) -> None:
        super().__init__(**common)
        self.momentum = momentum
        self.nesterov = nesterov

    def make_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=_fused(groups))


def _fused(groups: list[dict[str, Any]]) -> bool | None:
    """Choose the fused optimizer on a CPU, where torch would loop over the weights; elsewhere torch chooses.

    A fused step refuses to clip scaled gradients, which 16-mixed on a GPU has.
    """
    return True if all(p.device.type == "cpu" for group in groups for p in group["params"]) else None
