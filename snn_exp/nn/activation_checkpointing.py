"""Activation checkpointing: activations are recomputed in the backward pass instead of being kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(segments: Iterable[nn.Module]) -> None:
    """Keep only the input of each module from now on, and recompute the rest in the backward pass.

    Gradients, running moments and draws are those of the plain run: the second pass starts from the same
    random state and from the buffers that the first one found, and its writes to them are discarded.
    State kept anywhere but in buffers is not restored. Names in the state_dict stay as they are.

    Args:
        segments: modules of one input, none inside another.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"; torch.utils.checkpoint.

    Example:
        >>> layer = nn.BatchNorm1d(1)
        >>> checkpoint_activations([layer])
        >>> layer(torch.tensor([[0.0], [2.0]], requires_grad=True)).sum().backward()
        >>> layer.running_mean, layer.num_batches_tracked
        (tensor([0.1000]), tensor(1))
    """
    for segment in segments:
        segment.forward = functools.partial(_forward, segment, segment.forward)


def _forward(segment: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(x)
    found = _Buffers(segment)
    y: Tensor = checkpoint(forward, x, use_reentrant=False, context_fn=lambda: (nullcontext(), found))
    return y


class _Buffers:
    """The buffers of a module as they were when this was made: inside `with`, the module has copies of them.

    The present ones are taken out and put back as objects, never written to: autograd counts writes, and
    may have kept one for its backward pass.
    """

    def __init__(self, module: nn.Module) -> None:
        self._found = [
            (owner, name, buffer.clone())
            for owner in module.modules()
            for name, buffer in owner.named_buffers(recurse=False)
        ]

    def __enter__(self) -> None:
        self._present = [getattr(owner, name) for owner, name, _ in self._found]
        for owner, name, found in self._found:
            setattr(owner, name, found.clone())

    def __exit__(self, *exception: object) -> None:
        for (owner, name, _), present in zip(self._found, self._present, strict=True):
            setattr(owner, name, present)
