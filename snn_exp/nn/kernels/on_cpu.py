"""The passes on a CPU: calls of the compiled fused.cpp or filter.cpp."""

from __future__ import annotations

import ctypes
from typing import Literal

import torch
from torch import Tensor

from snn_exp.nn.kernels.build import FilterCall, FireCall, Real, StoredType, library
from snn_exp.nn.kernels.forms import Form, Trace
from snn_exp.nn.kernels.layout import Layout, computed_in

# dtype -> dtype of the computation, and of the stored tensors
NUMBERS: dict[torch.dtype, tuple[Real, StoredType]] = {
    torch.float32: ("float", "float"),
    torch.float64: ("double", "double"),
    torch.bfloat16: ("float", "Bfloat16"),
}
FEW_VALUES = 1 << 15  # of a pass, lif forward: 27 us by one thread, 26 by two; of 2^20 values 477 and 259
LARGE = ("x", "s", "psp", "grad_x", "grad_s", "grad_psp")  # of the others there are a few numbers per channel


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
    """Run one pass; the tensors are those of FireCall, and a null pointer there is None here."""
    pointers = _pointers(x, {"threshold": threshold, **others})
    call = FireCall(
        **Layout.of(x)._asdict(),
        threads=threads_for(x),
        num_thresholds=threshold.numel(),
        x=x.data_ptr(),
        leak=float(leak),
        **pointers,
        **numbers,
    )
    getattr(library("fused.cpp", form.defines, *NUMBERS[x.dtype]), direction)(ctypes.byref(call))


def filter_on_cpu(
    direction: Literal["forward", "backward"],
    trace: Trace,
    numbers: dict[str, float],
    *,
    s: Tensor,
    **others: Tensor | None,
) -> None:
    """Run one pass; the tensors are those of FilterCall, and a null pointer there is None here."""
    pointers = _pointers(s, others)
    call = FilterCall(
        **Layout.of(s)._asdict(),
        threads=threads_for(s),
        s=s.data_ptr(),
        decay=trace.decay,
        gain=trace.gain,
        **pointers,
        **numbers,
    )
    getattr(library("filter.cpp", trace.defines, *NUMBERS[s.dtype]), direction)(ctypes.byref(call))


def threads_for(x: Tensor) -> int:
    """Return how many threads share a pass, whose results do not depend on it."""
    return torch.get_num_threads() if x.numel() >= FEW_VALUES else 1


def _pointers(x: Tensor, others: dict[str, Tensor | None]) -> dict[str, int]:
    """Return the tensors' addresses; the library would read one of another dtype as if it were of its own.

    Raises:
        TypeError: it is.
    """
    if x.dtype not in NUMBERS:
        raise TypeError(f"the fused passes are for {', '.join(map(str, NUMBERS))}, not {x.dtype}")
    numbers, pointers = computed_in(x), {}
    for name, tensor in others.items():
        if tensor is None:
            continue
        if tensor.dtype != (needed := torch.int16 if name == "bits" else x.dtype if name in LARGE else numbers):
            raise TypeError(f"{name} is {tensor.dtype}, and the fused passes of {x.dtype} need it in {needed}")
        pointers[name] = tensor.data_ptr()
    return pointers
