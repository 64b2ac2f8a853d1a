"""The passes on a CPU: a call of what fused.cpp was compiled to."""

from __future__ import annotations

import ctypes
from typing import Literal

import torch
from torch import Tensor

from snn_exp.kernels.build import Call, Real, Stored, library
from snn_exp.kernels.forms import Form
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
    """One pass; the tensors are those of Call, and what is null there is None here."""
    pointers = {name: tensor.data_ptr() for name, tensor in others.items() if tensor is not None}
    call = Call(
        **Layout.of(x)._asdict(), num_thresholds=threshold.numel(), x=x.data_ptr(), threshold=threshold.data_ptr(),
        leak=float(leak), **pointers, **numbers,
    )  # fmt: skip
    getattr(library(form.defines, *NUMBERS[x.dtype]), direction)(ctypes.byref(call))
