"""Samples that a person gives to a trained network: checked against the data that it was trained on.

Shapes: B samples, T steps (of data with time only), C channels, H W space.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snn_exp.data.split import as_float
from snn_exp.errors import UserError

ROUNDING = 1e-6  # by which a pixel may lie beyond 0 or 1


@dataclasses.dataclass(frozen=True)
class SampleCheck:
    """What a trained network reads; as a hook before its forward pass it checks and converts the samples.

    Args:
        run: the run id, for messages.
        in_shape: (C, H, W) of one step.
        num_steps: T of data with time; None for images.
        is_series: the data are series of real values, standardized as the data set does it.

    Example:
        >>> check = SampleCheck("0123456789", (1, 2, 2), None)
        >>> check.checked(np.full((1, 1, 2, 2), 255, dtype=np.uint8)).flatten().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    run: str
    in_shape: tuple[int, ...]
    num_steps: int | None
    is_series: bool = False

    def __call__(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor]:
        """Convert what a module is called with."""
        like = next(module.parameters())
        return (self.checked(given[0]).to(device=like.device, dtype=like.dtype),)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Return (C, H, W), or (T, C, H, W) of data with time."""
        return self.in_shape if self.num_steps is None else (self.num_steps, *self.in_shape)

    def checked(self, given: Any) -> Tensor:
        """Return samples as floats [B, C, H, W] in [0, 1], or counts [B, T, C, H, W].

        Args:
            given: a tensor, or an array of numpy; uint8 pixels are divided by 255.

        Raises:
            UserError: neither of them, of another shape, or with values out of range.
        """
        if not isinstance(given, Tensor | np.ndarray):
            raise UserError(
                f"samples of type {type(given).__name__} cannot be read by run {self.run}, which reads a torch tensor "
                f"or a numpy array of {self._form()}; type numpy.asarray(...) around them"
            )
        if isinstance(given, np.ndarray) and given.dtype.kind not in "uif":
            raise UserError(
                f"samples of numpy's type {given.dtype} cannot be read by run {self.run}, which reads numbers: "
                f"{self._values()}; convert them"
            )
        self._require_shape(tuple(given.shape))
        x = given if isinstance(given, Tensor) else torch.from_numpy(_of_this_machine(given))
        if x.is_complex() or x.dtype == torch.bool:
            raise UserError(f"samples of {x.dtype} cannot be read by run {self.run}; give {self._values()}")
        self._require_range(x)
        return as_float(x)

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        wanted = self.sample_shape
        if shape[1:] == wanted and shape[0] > 0:
            return
        raise UserError(
            f"samples of shape {shape} do not fit run {self.run}, which was trained on {self._form()}; "
            f"{self._mend(shape)}"
        )

    def _mend(self, shape: tuple[int, ...]) -> str:
        """Say what to type."""
        c, h, w = self.in_shape
        if shape == self.sample_shape:
            return "for a single sample type x[None]"
        if self.num_steps is None and c == 1 and shape[1:] == (h, w):
            return "type x[:, None]"
        if self.num_steps is None and shape[1:] == (h, w, c):
            return "its channels come last: type numpy.moveaxis(x, -1, 1)"
        return "give samples of that shape, resized if need be, or load a run of such data"

    def _require_range(self, x: Tensor) -> None:
        if x.is_floating_point() and not bool(x.isfinite().all()):
            raise UserError(f"samples for run {self.run} hold values that are NaN or infinite; give {self._values()}")
        if x.dtype == torch.uint8 or self.is_series:
            return
        least, most = float(x.min()), float(x.max())
        if self.num_steps is None and not x.is_floating_point():
            raise UserError(
                f"pixels of {x.dtype} from {least:g} to {most:g} do not say what white is, and run {self.run} reads "
                f"{self._values()}; type x.astype('uint8') or x / 255"
            )
        if least < -ROUNDING or (self.num_steps is None and most > 1 + ROUNDING):
            raise UserError(
                f"pixels from {least:g} to {most:g} are out of range for run {self.run}, which reads {self._values()}; "
                f"type x / 255, say, or leave out a normalization: the network has its own"
            )

    def _form(self) -> str:
        c, h, w = self.in_shape
        channels = f"{c} channel{'s' if c > 1 else ''}"
        if self.num_steps is None:
            return f"[B, {c}, {h}, {w}], images of {channels} and {h} x {w} pixels"
        if self.is_series:
            return (
                f"[B, {self.num_steps}, {c}, {h}, {w}], series in {self.num_steps} steps of {channels} and {w} points"
            )
        return f"[B, {self.num_steps}, {c}, {h}, {w}], {self.num_steps} frames of {channels} and {h} x {w} pixels"

    def _values(self) -> str:
        if self.is_series:
            return "floats, standardized as the data set's"
        return "floats in [0, 1] or uint8" if self.num_steps is None else "counts of events from 0 on"


def _of_this_machine(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array that torch can take over: contiguous, writable, in this machine's byte order and no rare type."""
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
