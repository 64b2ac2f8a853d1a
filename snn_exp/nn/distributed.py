"""One batch, several processes: each computes on its share, and a statistic of the batch is one of all shares.

With one process its share is the whole batch, and all of this is bitwise torch's own.

Shapes: N any dimensions, one of them the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def num_processes() -> int:
    """Return the number of processes that train this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def share_of(x_N: Tensor, axis: int) -> Tensor:
    """Return this process's samples of a batch; where they don't divide, the first processes get one more.

    Example:
        >>> share_of(torch.arange(3), 0)
        tensor([0, 1, 2])
    """
    return x_N if num_processes() == 1 else x_N.tensor_split(num_processes(), axis)[dist.get_rank()]


def gathered(value: Tensor) -> list[Tensor]:
    """Return the value that each process has, in the order of the processes.

    Example:
        >>> gathered(torch.tensor(3))
        [tensor(3)]
    """
    if num_processes() == 1:
        return [value]
    found = [torch.empty_like(value) for _ in range(num_processes())]
    dist.all_gather(found, value.contiguous())
    return found


def batch_mean(x_N: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Compute the mean over axes, the batch among them, and over the shares of all processes; the axes are kept.

    Example:
        >>> batch_mean(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (0,))
        tensor([[2., 3.]])
    """
    mean = x_N.mean(axes, keepdim=True)
    return mean if num_processes() == 1 else _over_processes(mean, x_N.numel() // mean.numel())[0]


def batch_moments(x_N: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, int | Tensor]:
    """Compute mean and biased variance as in `batch_mean`, and the number of values that each is over.

    Example:
        >>> batch_moments(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (0,))
        (tensor([[2., 3.]]), tensor([[1., 1.]]), 2)
    """
    if num_processes() == 1:
        var, mean = torch.var_mean(x_N, axes, correction=0, keepdim=True)
        return mean, var, x_N.numel() // mean.numel()
    own = x_N.mean(axes, keepdim=True)
    num_values = x_N.numel() // own.numel()
    mean, total = _over_processes(own, num_values)
    var, _ = _over_processes((x_N - mean).square().mean(axes, keepdim=True), num_values)
    return mean, var, total


def _over_processes(mean: Tensor, num_values: int) -> tuple[Tensor, Tensor]:
    """Average the processes' means, each over its own share; return the mean and the number of all values."""
    wide = mean.flatten().to(torch.promote_types(mean.dtype, torch.float32))  # half precision cannot count
    sums: Tensor = _Sum.apply(torch.cat([wide * num_values, wide.new_tensor([num_values])]))
    return (sums[:-1] / sums[-1]).to(mean.dtype).view_as(mean), sums[-1].detach()


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient, since each one's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(gradient)
        return total
