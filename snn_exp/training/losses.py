"""Losses over time: the logits of each step, and temporal efficient training.

Shapes: T steps, B batch, K classes, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional

from snn_exp.errors import UserError
from snn_exp.nn.networks import MeanOverTimeAndSpace, Network


@contextmanager
def logits_by_step(network: Network) -> Iterator[list[Tensor]]:
    """Collect the logits [T, B, K] of each step of the passes inside the block; their mean over T is what it returns.

    The classifier is linear and stands behind the mean over time and space, so it can be read at every step.

    Raises:
        UserError: the network has no such pair.

    Example:
        >>> import torch
        >>> class Tiny(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.pool, self.classifier = MeanOverTimeAndSpace(), nn.Linear(2, 3)
        ...     def forward(self, x):
        ...         return self.classifier(self.pool(x))
        >>> tiny = Tiny()
        >>> with logits_by_step(tiny) as steps:
        ...     logits = tiny(torch.rand(4, 5, 2))
        >>> torch.allclose(steps[0].mean(0), logits, atol=1e-6)
        True
    """
    pool, classifier = getattr(network, "pool", None), getattr(network, "classifier", None)
    if not isinstance(pool, MeanOverTimeAndSpace) or not isinstance(classifier, nn.Linear):
        raise UserError(
            f"optim.loss=tet reads logits at every step, and {type(network).__name__} has no linear classifier behind "
            f"a mean over time; type optim.loss=ce, or network=resnet"
        )
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor]) -> None:
        (x_TBN,) = inputs
        found.append(classifier(x_TBN.flatten(3).mean(3) if x_TBN.dim() > 3 else x_TBN))

    handle = pool.register_forward_pre_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


def temporal_efficient_training(
    logits_TBK: Tensor, y_B: Tensor, *, weight: float, target: float, label_smoothing: float = 0.0
) -> Tensor:
    """Return the loss of temporal efficient training: every step is to be right, and no logit far from a target.

    Equation:
        (1 - weight) mean_t CE(o_t, y) + weight mean (o_t - target)^2

    Args:
        logits_TBK: o, of each step.
        y_B: classes.
        weight: share of the second term.
        target: of all logits.
        label_smoothing: of the cross-entropy.

    Source: Deng et al. 2022 (TET, ICLR, arXiv 2202.11946).

    Example:
        >>> import torch
        >>> o = torch.zeros(3, 1, 2)
        >>> round(float(temporal_efficient_training(o, torch.tensor([1]), weight=0.5, target=1.0)), 4)
        0.8466
    """
    labels_TB = y_B.expand(len(logits_TBK), -1)
    entropy = functional.cross_entropy(logits_TBK.flatten(0, 1), labels_TB.flatten(), label_smoothing=label_smoothing)
    return (1 - weight) * entropy + weight * (logits_TBK - target).square().mean()
