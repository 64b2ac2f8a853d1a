"""The passes on a CPU: a call of what fused.cpp or filter.cpp was compiled to."""

from __future__ import annotations

import ctypes
from typing import Literal

import torch
from torch import Tensor

from snn_exp.kernels.build import FilterCall, FireCall, Real, Stored, library
from snn_exp.kernels.forms import Form, Trace
from snn_exp.kernels.layout import Layout

# dtype -> what is computed with, and what is stored
NUMBERS: dict[torch.dtype, tuple[Real, Stored]] = {
    torch.float32: ("float", "float"),
    torch.float64: ("double", "double"),
    torch.bfloat16: ("float", "Bfloat16"),
}


def pass_on_cpu(
    direction: Literal["forward", "backward"],
    form: Form,
    numbers: dict[str, float],
    *,
    x: Tensor,
    threshold: Tensor,
    leak: Tensor | float,
    **others: Tensor | None,
) -> None:
    """One pass; the tensors are those of FireCall, and what is null there is None here."""
    pointers = {name: tensor.data_ptr() for name, tensor in others.items() if tensor is not None}
    call = FireCall(
        **Layout.of(x)._asdict(), num_thresholds=threshold.numel(), x=x.data_ptr(), threshold=threshold.data_ptr(),
        leak=float(leak), **pointers, **numbers,
    )  # fmt: skip
    getattr(library("fused.cpp", form.defines, *NUMBERS[x.dtype]), direction)(ctypes.byref(call))


def filter_on_cpu(
    direction: Literal["forward", "backward"],
    trace: Trace,
    numbers: dict[str, float],
    *,
    s: Tensor,
    **others: Tensor | None,
) -> None:
    """One pass; the tensors are those of FilterCall, and what is null there is None here."""
    pointers = {name: tensor.data_ptr() for name, tensor in others.items() if tensor is not None}
    call = FilterCall(
        **Layout.of(s)._asdict(), s=s.data_ptr(), decay=trace.decay, gain=trace.gain, **pointers, **numbers
    )
    getattr(library("filter.cpp", trace.defines, *NUMBERS[s.dtype]), direction)(ctypes.byref(call))
