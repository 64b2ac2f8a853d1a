"""What `auto` is in `trainer.num_threads` and `trainer.channels_last`: rules, each with its measurement.

Each answers for one resolved config, when its run starts; a value that was given stays. No torch.
"""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar

from snn_exp.config import footprint
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.config.schemas import trait_of
from snn_exp.config.sizes import sample_shape

V = TypeVar("V")

# Multiplications of a layer and step from which a second thread was measured to pay: 0.54 to 0.63 of the time of one
# (benchmarks/scaling.md, "Two threads"; the smaller of its two shapes: 8x8, 64 channels, a batch of 32)
MACS_FOR_TWO = 32 * 64 * 64 * 9 * 8 * 8
MOST_THREADS = 2  # more were not measured


# Where channels-last maps were measured to be faster on the fused passes: at 8x8 up to 32 channels in the first stage
# (0.83 to 0.98 of the time; 1.05 and 1.07 at 64), at 28x28 up to 64 (0.78 to 0.88), the most that was tried
LAYOUT_PAGE = "benchmarks/layout.md"
MOST_CHANNELS = 32
LARGE_MAP, MOST_CHANNELS_OF_LARGE = 28 * 28, 64


@dataclasses.dataclass(frozen=True)
class Chosen(Generic[V]):
    """An answer.

    Args:
        value: what a run uses.
        why: the reason, in words.
    """

    value: V
    why: str


def num_threads(config: ExperimentConfig, cores: int, *, on_a_gpu: bool) -> Chosen[int]:
    """Return the number of CPU threads of a run's process.

    Args:
        config: of the run.
        cores: that the process may use, as `processor.num_cores` counts them; several processes of a run share them.
        on_a_gpu: whether it computes there.
    """
    trainer = config.trainer
    if trainer.num_threads != "auto":
        return Chosen(trainer.num_threads, f"trainer.num_threads={trainer.num_threads}")
    if on_a_gpu:
        return Chosen(1, "a GPU computes")
    share = max(1, cores // trainer.devices)
    if share == 1:
        if trainer.devices > 1:
            return Chosen(1, f"each of {trainer.devices} processes has 1 of {cores} cores")
        return Chosen(1, "the process has 1 core")
    macs = _macs_of_a_layer(config)
    if macs is None:
        return Chosen(1, "the size of its layers is not known before the data are read")
    words = f"a layer has {macs / 1e6:.0f} million multiplications per step"
    if macs < MACS_FOR_TWO:
        return Chosen(1, f"{words}, and a second thread is known to pay from {MACS_FOR_TWO / 1e6:.0f}")
    return Chosen(min(share, MOST_THREADS), f"{words}, and a process has {share} cores, see benchmarks/scaling.md")


def channels_last(config: ExperimentConfig, kernels: str, *, on_a_gpu: bool) -> Chosen[bool]:
    """Return whether the maps of a run lie channels-last.

    Args:
        config: of the run.
        kernels: that it uses: reference, fused or events.
        on_a_gpu: whether it computes there.
    """
    given = config.trainer.channels_last
    if given != "auto":
        return Chosen(given, f"trainer.channels_last={str(given).lower()}")
    if kernels == "events":
        return Chosen(True, "convolutions by events read maps of this format")
    if on_a_gpu:
        return Chosen(False, "not measured on a GPU")
    if kernels == "reference":
        return Chosen(False, "measured on the fused passes alone")
    stages = _stages(config)
    if stages is None:
        return Chosen(False, "the size of its maps is not known before the data are read")
    channels, height, width = stages[0]
    if height * width == 1:
        return Chosen(False, "it has no maps")
    most = MOST_CHANNELS_OF_LARGE if height * width >= LARGE_MAP else MOST_CHANNELS
    return Chosen(
        channels <= most,
        f"its first maps have {channels} channels of {height}x{width}, where it is known to be faster up to {most}, "
        f"see {LAYOUT_PAGE}",
    )


def _macs_of_a_layer(config: ExperimentConfig) -> float | None:
    """Return the multiplications of a forward pass of a convolution of the first stage, as many as in the others."""
    stages = _stages(config)
    if stages is None:
        return None
    channels, height, width = stages[0]
    kernel = 9 if height * width > 1 else 1
    return float(config.num_steps * int(config.optim["batch_size"] or 1) * kernel * channels**2 * height * width)


def _stages(config: ExperimentConfig) -> list[tuple[int, int, int]] | None:
    """Return (C, H, W) of the maps of each stage; None where only the data know it."""
    plain = config.to_plain()
    shape, num_stages = sample_shape(plain), trait_of(plain, "network", "num_stages")
    if shape is None or num_stages is None:
        return None
    return list(footprint.maps(shape, int(config.network["width"] or 1), num_stages))
