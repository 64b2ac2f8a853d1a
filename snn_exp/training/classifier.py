"""A network with its encoding: pixels in, logits out, evaluated without anything that trains.

Shapes: T steps, B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from snn_exp.nn.distributed import share_of
from snn_exp.nn.encodings import Encoding
from snn_exp.nn.networks import Network
from snn_exp.training.optim import Optim
from snn_exp.training.predictions import Predictions

Batch = tuple[Tensor, Tensor]


class Classifier(nn.Module):
    """A network that classifies what its encoding makes of pixels; `training.task.Classification` is one in training.

    Args:
        network: [T, B, C, H, W] -> logits [B, K].
        encoding: pixels [B, C, H, W] or frames [B, T, C, H, W] -> [T, B, C, H, W].
        optim: optimizer, schedule and loss terms that it is trained with.
        num_classes: K.
        seed: of the run.
    """

    def __init__(self, network: Network, encoding: Encoding, optim: Optim, num_classes: int, seed: int) -> None:
        super().__init__()
        self.network = network
        self.encoding = encoding
        self.optim = optim
        self.num_classes = num_classes
        self.seed = seed
        self.class_names: tuple[str, ...] = ()  # of a loaded run; empty where they are called 0 to K - 1
        self._kept: Predictions | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, K] of pixels in [0, 1], or of frames; of this process's share of them."""
        logits: Tensor = self.network(share_of(self.encoding(x), axis=1))
        return logits

    def encoded(self, x_BCHW: Tensor, batch_idx: int) -> Tensor:
        """Encode a batch for evaluation, with the same result on every call."""
        seed_all_draws(x_BCHW.device, mixed(self.seed, batch_idx))
        x_TBCHW: Tensor = self.encoding(x_BCHW)
        return x_TBCHW

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the logits [B, K] of a batch, the same on every call."""
        logits_BK: Tensor = self.network(self.encoded(batch[0], batch_idx))
        if self._kept is not None:
            self._kept.add(logits_BK, batch[1])
        return logits_BK

    @contextmanager
    def keeping_predictions(self) -> Iterator[Predictions]:
        """Keep the logits and labels of what is evaluated inside the block."""
        self._kept = kept = Predictions()
        try:
            yield kept
        finally:
            self._kept = None


def seed_all_draws(device: torch.device, seed: int) -> None:
    """Seed as torch.manual_seed, which on a CPU would also format a stack trace per kind of device not in use."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def mixed(seed: int, index: int) -> int:
    """Mix two numbers into one seed, without the collisions of a sum.

    Example:
        >>> mixed(0, 0)
        12345
    """
    return (seed * 1_000_003 + index * 7_919 + 12_345) % (2**63)
