"""The passes on a GPU: launches of passes.py.

Products and sums are not contracted and a neuron's forward does not divide, so that in float32 and float64 it should
fire bitwise as the plain one on the same device; ilif and qrelu divide, and may round a level otherwise there.
Checked in Triton's interpreter; never run on a GPU.
"""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from snn_exp.nn.kernels.build import Unavailable
from snn_exp.nn.kernels.forms import Form
from snn_exp.nn.kernels.layout import Layout, computed_in

TILE = 512  # values of a program at a step: four per thread, 16 bytes of float32
LINE = 32  # values side by side that are read together: a cache line of float32
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


def triton_version() -> str:
    """Return Triton's name and version.

    Raises:
        Unavailable: there is no Triton, or no GPU for it.
    """
    try:
        import triton
    except ImportError:
        raise Unavailable(
            "on a GPU the fused kernels are Triton's, and it is not installed (torch brings it on Linux)"
        ) from None
    if not torch.cuda.is_available():
        raise Unavailable("on a GPU the fused kernels are Triton's, and torch finds no GPU for CUDA or ROCm")
    return f"Triton {triton.__version__}"


def kernels() -> ModuleType:
    """Import passes.py, which needs Triton."""
    from snn_exp.nn.kernels import passes

    return passes


def pass_on_gpu(
    direction: Literal["forward", "backward"],
    form: Form,
    numbers: dict[str, float],
    *,
    x: Tensor,
    threshold: Tensor,
    leak: Tensor | float,
    **others: Any,
) -> None:
    """Run one pass; the tensors are those of FireCall, and a null pointer there is None here."""
    neuron = {
        "threshold": threshold, "threshold_stride": int(threshold.numel() > 1), "v_reset": numbers["v_reset"],
        "decay": numbers["decay"], "leak": 0.0 if form.learns_leak else leak,
        "learned_leak": leak if form.learns_leak else None, "statistics": others["statistics"],
        "NORMED": others["statistics"] is not None, "LEARNS_LEAK": form.learns_leak, "DYNAMICS": form.dynamics,
        "RESET": form.reset, "EMITS": form.emits, "LEVELS": form.levels,
    }  # fmt: skip
    with torch.cuda.device_of(x):  # Triton launches on the current one
        if direction == "forward":
            _forward(form, numbers, neuron, x, **others)
        else:
            _backward(form, numbers, neuron, x, **others)


@dataclasses.dataclass(frozen=True)
class _Tiles:
    """The division of a step's [R, C] values, R pairs of a sample and a position, among programs.

    Args:
        grid: programs along R and C.
        place: strides of the values, an argument of all kernels but one.
        shape: of a tile, and the dtype of the computation.
        num_values: of a channel.
    """

    grid: tuple[int, int]
    place: dict[str, int]
    shape: dict[str, Any]
    num_values: int

    @classmethod
    def of(cls, x: Tensor) -> _Tiles:
        """Choose tiles that read whole cache lines and hold, for each channel, as many rows as that leaves room for."""
        num_steps, batch, channels, size, channels_last = Layout.of(x)
        num_rows = batch * size
        cols = min(_power_of_two(LINE if channels_last else -(-LINE // size)), _power_of_two(channels))
        rows = TILE // cols
        place = {
            "num_steps": num_steps, "step": batch * channels * size, "channels": channels, "size": size,
            "rows": num_rows, "stride_c": 1 if channels_last else size, "stride_s": channels if channels_last else 1,
        }  # fmt: skip
        language = kernels().tl
        number = language.float64 if computed_in(x) == torch.float64 else language.float32
        grid = -(-num_rows // rows), -(-channels // cols)
        return cls(grid, place, {"F": number, "ROWS": rows, "COLS": cols}, num_steps * num_rows)

    def sums(self, x: Tensor, num_sums: int) -> Tensor:
        """Allocate one number of each kind per program and channel."""
        return x.new_empty(num_sums, self.grid[0], self.place["channels"], dtype=computed_in(x))


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least n."""
    return 1 << (number - 1).bit_length()


def _forward(
    form: Form,
    numbers: dict[str, float],
    neuron: dict[str, Any],
    x: Tensor,
    *,
    s: Tensor,
    statistics: Tensor | None,
    **norm: Any,
) -> None:
    tiles = _Tiles.of(x)
    if statistics is not None:
        _take_statistics(tiles, x, statistics, numbers, **norm)
    kernels().fire[tiles.grid](x, s, **tiles.place, **neuron, **tiles.shape, **OPTIONS)


def _take_statistics(tiles: _Tiles, x: Tensor, statistics: Tensor, numbers: dict[str, float], **norm: Any) -> None:
    # Triton's own sums, not torch's, whose variance of bfloat16 is rounded to bfloat16
    sums = tiles.sums(x, 2)
    kernels().moments[tiles.grid](x, sums, **tiles.place, **tiles.shape, **OPTIONS)
    kernels().settle[(tiles.grid[1],)](
        x, sums, statistics=statistics, num_sums=tiles.grid[0], channels=tiles.place["channels"],
        stride_c=tiles.place["stride_c"], num_values=float(tiles.num_values), eps=numbers["eps"],
        momentum=numbers["momentum"], **norm, **tiles.shape, **OPTIONS,
    )  # fmt: skip


def _backward(
    form: Form,
    numbers: dict[str, float],
    neuron: dict[str, Any],
    x: Tensor,
    *,
    grad_s: Tensor,
    grad_x: Tensor,
    grad_threshold: Tensor | None,
    grad_leak: Tensor | None,
    grad_gain: Tensor | None,
    grad_bias: Tensor | None,
    statistics: Tensor | None,
) -> None:
    tiles = _Tiles.of(x)
    v_before = grad_x if grad_x.dtype == computed_in(x) else torch.empty_like(grad_x, dtype=computed_in(x))
    sums = tiles.sums(x, 4)
    surrogate = {name: numbers[name] for name in ("peak", "width", "alpha", "beta")}
    kernels().back[tiles.grid](
        x, grad_s, grad_x, v_before, sums, **tiles.place, **neuron, **surrogate,
        SURROGATE=kernels().surrogate_of(form.surrogate), DETACHED=form.detached,
        LEARNS_THRESHOLD=form.learns_threshold, **tiles.shape, **OPTIONS,
    )  # fmt: skip
    for found, gradient in zip(sums, (grad_threshold, grad_leak, grad_bias, grad_gain), strict=True):
        if gradient is not None:
            by_channel = found.sum(0, dtype=torch.float64)
            gradient.copy_((by_channel if gradient.numel() > 1 else by_channel.sum()).view_as(gradient))
    if statistics is not None:
        kernels().through_statistics[tiles.grid](
            x, grad_x, statistics, grad_bias, grad_gain, **tiles.place, num_values=float(tiles.num_values),
            **tiles.shape, **OPTIONS,
        )  # fmt: skip
