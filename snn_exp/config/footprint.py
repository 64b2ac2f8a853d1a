"""Estimate the size of a training step: the shapes that a config leads to, and the least memory they take. No torch.

Shapes: T steps, B batch, C channels, H W space.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

GIB = 2**30
LIMIT = 1024 * GIB  # more than a machine has on which one person trains

# bytes of what a layer keeps for the backward pass
_BYTES = {"64-true": 8, "32-true": 4, "bf16-mixed": 2, "16-mixed": 2}


@dataclasses.dataclass(frozen=True)
class Footprint:
    """The least memory of a training step, in bytes.

    Args:
        activations: kept by every layer for the backward pass: the outputs of its weights and of its neuron.
        weights: with their gradients and the optimizer's moments.
        samples: the data set.
    """

    activations: int
    weights: int
    samples: int

    @property
    def total(self) -> int:
        """Return the sum of all three, in bytes."""
        return self.activations + self.weights + self.samples

    def __str__(self) -> str:
        parts = {"activations": self.activations, "weights": self.weights, "samples": self.samples}
        return ", ".join(f"{name} {in_gib(size)}" for name, size in parts.items())


def in_gib(size: int) -> str:
    """Return a size in GiB.

    Example:
        >>> in_gib(3 * 2**29), in_gib(5 * 2**40)
        ('1.5 GiB', '5,120 GiB')
    """
    gib = size / GIB
    return f"{gib:,.0f} GiB" if gib >= 10 else f"{gib:.1f} GiB"


def sample_shape(dataset: Mapping[str, Any], image_shape: Sequence[int] | None) -> tuple[int, int, int] | None:
    """Return (C, H, W) of one step of a sample; None where only the files know it.

    Args:
        dataset: the resolved group.
        image_shape: the trait of that data set.
    """
    if image_shape is None:  # pictures of one's own are of the size that they are resized to
        size, color = dataset.get("size"), dataset.get("color")
        return ({"gray": 1, "rgb": 3}[color], size, size) if size and color else None
    c, h, w = image_shape
    return (c, h, w) if h else (c, int(dataset["size"]), int(dataset["size"]))


def maps(shape: tuple[int, int, int], width: int, num_stages: int) -> Iterator[tuple[int, int, int]]:
    """Yield (C, H, W) of the layers of each stage, or of all layers where there are no maps.

    Example:
        >>> list(maps((1, 9, 9), width=4, num_stages=3)), list(maps((1, 9, 9), width=4, num_stages=0))
        ([(4, 9, 9), (8, 5, 5), (16, 3, 3)], [(4, 1, 1)])
    """
    _, h, w = shape
    if num_stages == 0:
        yield width, 1, 1
    for stage in range(num_stages):
        yield width * 2**stage, -(-h // 2**stage), -(-w // 2**stage)


def least(c: Mapping[str, Any], shape: tuple[int, int, int], num_stages: int, num_samples: int) -> Footprint:
    """Return the least memory that a training step takes.

    Args:
        c: the resolved config, group -> values.
        shape: (C, H, W) of one step of a sample.
        num_stages: the trait of the network.
        num_samples: training samples.
    """
    trainer, num_steps = c["trainer"], c["encoding"]["num_steps"]
    stages = list(maps(shape, c["network"]["width"], num_stages))
    num_layers = c["depth"]["num_layers"] / len(stages)  # of each stage
    values = num_layers * sum(channels * h * w for channels, h, w in stages)
    # checkpointed, the input of each block of two layers remains
    kept = 0.5 if trainer["checkpoint_activations"] else 2
    kernel = 9 if num_stages else 1
    # the first layer of a stage reads fewer channels than it gives
    weights = max(0.0, num_layers - 0.5) * kernel * sum(channels**2 for channels, _, _ in stages)
    moments = 2 if c["optim"]["name"] == "adamw" else 1
    whole = 8 if trainer["precision"] == "64-true" else 4
    batch_size = min(c["optim"]["batch_size"], num_samples)
    has_time = c["encoding"]["name"] == "frames"
    return Footprint(
        activations=int(kept * _BYTES[trainer["precision"]] * num_steps * batch_size * values),
        weights=int((2 + moments) * whole * weights),
        samples=num_samples * shape[0] * shape[1] * shape[2] * (2 * num_steps if has_time else 1),
    )


def machine_memory() -> int | None:
    """Return the memory that this process may use, in bytes; None where the system does not say."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        granted = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return physical
    return min(physical, int(granted)) if granted.isdigit() else physical
