"""The time loop of all modules that have a state and move from step to step.

Shapes: T steps, B batch, N any feature dimensions. Time comes first.

No state outlives `forward`, so there is nothing to reset. Whoever wants to split a sequence passes
the state along explicitly with `unroll`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]


def over_time(function: Callable[[Tensor], Tensor], x_TBN: Tensor) -> Tensor:
    """Apply a function without time to all steps at once: time is folded into the batch and unfolded again.

    Example:
        >>> over_time(lambda x_BN: x_BN.sum(1), torch.ones(4, 2, 3)).shape
        torch.Size([4, 2])
    """
    y = function(x_TBN.flatten(0, 1))
    return y.view(*x_TBN.shape[:2], *y.shape[1:])


class Stepwise(nn.Module, ABC):
    """A module with an initial state and a pure step."""

    @abstractmethod
    def initial_state(self, x_BN: Tensor) -> State:
        """Return the state before the first step, on the device and in the dtype of x."""

    @abstractmethod
    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        """Compute one step: input and state in, output and new state out; change nothing else."""

    @final
    def unroll(self, x_TBN: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Compute all steps from a given state, and the state after the last.

        Example:
            >>> from snn_exp.nn.neurons import IF
            >>> x = torch.full((4, 1), 0.6)
            >>> whole, _ = IF().unroll(x)
            >>> first, state = IF().unroll(x[:2])
            >>> second, _ = IF().unroll(x[2:], state)
            >>> torch.equal(whole, torch.cat([first, second]))
            True
        """
        if state is None:
            state = self.initial_state(x_TBN[0])
        outputs = []
        for x_BN in x_TBN.unbind(0):
            y_BN, state = self.step(x_BN, state)
            outputs.append(y_BN)
        return torch.stack(outputs), state

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Compute all steps, from rest."""
        return self.unroll(x_TBN)[0]
