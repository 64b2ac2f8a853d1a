"""Triton's passes where they compute in a test: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch

from snn_exp.nn.kernels import fused, on_gpu

triton = pytest.importorskip("triton", reason="Triton is not installed; torch brings it on Linux")

HAS_GPU = torch.cuda.is_available()
# Triton 3.4 cuts bfloat16 off when it interprets, where a GPU rounds, and compiles nothing after it has interpreted.
INTERPRETS_BADLY = not HAS_GPU and triton.__version__.startswith("3.4.")
UNEVEN = (3, 9, 3, 8, 8)  # fills no tile: 576 rows, 3 channels


def loaded(*, interpreted: bool) -> ModuleType:
    """passes.py of its own: Triton decides when a function is defined whether it will be compiled."""
    spec = importlib.util.find_spec("snn_exp.nn.kernels.passes")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = interpreted
        spec.loader.exec_module(module)
    return module


@contextmanager
def interpreted() -> Iterator[None]:
    passes = loaded(interpreted=True)
    with pytest.MonkeyPatch.context() as patch, triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = True  # surrogates are defined when they are asked for
        patch.setattr(on_gpu, "kernels", lambda: passes)
        patch.setattr(fused, "pass_at", lambda x: on_gpu.pass_on_gpu)
        yield


@contextmanager
def computing() -> Iterator[None]:
    """What is made inside computes with them: on a GPU by itself, since tensors are there."""
    with torch.device("cuda") if HAS_GPU else interpreted():
        yield
