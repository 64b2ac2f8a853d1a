"""The base of normalizations: their placement, and the values that share one of their statistics.

Shapes: T steps, B batch, C channels, H W space, N any feature dimensions (C alone, or C, H, W).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from snn_exp.errors import UserError
from snn_exp.nn.shapes import FeatureShape
from snn_exp.registry import Registry

NORMS: Registry[Norm] = Registry("norm", traits=("placements", "divides_channels", "variance_over"))


@dataclass(frozen=True)
class Site:
    """The position of one norm in its network, known to the framework and in no config.

    Args:
        shape: (C, ...) of one sample at one step.
        num_steps: T, for norms that keep statistics step by step.
        placement: one of those that the norm names.
        v_threshold: threshold of the neurons, for norms that scale to it.
        num_summands: branches whose sum the norm's output is a part of before the next neuron fires.
    """

    shape: FeatureShape
    num_steps: int = 1
    placement: str = "current"
    v_threshold: float = 1.0
    num_summands: int = 1


class Norm(nn.Module, ABC):
    """Base class of norms: [T, B, N] -> [T, B, N], or [B, N] -> [B, N] at the placement `membrane`.

    Args:
        site: the norm's position.
    """

    placements: ClassVar[tuple[str, ...]] = ("current",)
    divides_channels: ClassVar[str] = ""  # the parameter that must divide the number of channels, if there is one
    variance_over: ClassVar[str] = ""  # the axes whose values it takes a variance of in training: one alone has none
    trains_on_running_statistics: ClassVar[bool] = False  # then a second forward in training differs from the first
    version: ClassVar[int] = 1

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.feature_shape = site.shape
        self.num_steps = site.num_steps

    @property
    @abstractmethod
    def statistics_over(self) -> str:
        """Name the axes whose values share a statistic, such as "T,B,H,W"; "T<=t" is the steps up to a value's own."""

    def affine_C(self) -> tuple[Tensor, Tensor] | None:
        """Return (scale, shift) where in eval y = scale x + shift per channel; None where it does something else."""
        return None

    @property
    def folds(self) -> bool:
        """Return whether, in eval, neighbouring weights or thresholds can absorb it, so that inference pays nothing."""
        return self.affine_C() is not None

    def with_space(self, axes: str) -> str:
        """Append H and W to the axes where the features have them."""
        return axes + ",H,W" if len(self.feature_shape) == 3 else axes

    def refuse_other_num_steps(self, x_TBN: Tensor, instead: str) -> None:
        """Refuse another number of steps, for norms that keep something per step.

        Raises:
            UserError: x has another number of steps than the norm was made for.
        """
        if (given := x_TBN.shape[0]) != self.num_steps:
            raise UserError(
                f"{type(self).__name__} keeps something of its own for each of {self.num_steps} steps and was given "
                f"{given}; type encoding.num_steps={self.num_steps}, or {instead}, which treats all steps alike"
            )

    def extra_repr(self) -> str:
        return f"{tuple(self.feature_shape)}, statistics over {self.statistics_over or 'nothing'}"
