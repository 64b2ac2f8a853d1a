"""Compiles the fused passes for one case, at first use, and keeps the result in the user's cache.

A C++ compiler is all it takes: the source knows nothing of torch, so a case compiles in a second or two, where an
extension that includes torch's headers takes half a minute.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from snn_exp.files import whole_file

SHARED = "stretches.h"
# without errno and traps loops are vectorized; without contraction they round as torch does
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
COMPILERS = ("c++", "g++", "clang++")
THREADED = ("-fopenmp",)  # without it there is one thread
LIMIT_S = 600  # on a busy machine; two seconds are usual

Real = Literal["float", "double"]
StoredType = Literal["float", "double", "Bfloat16"]
Source = Literal["fused.cpp", "filter.cpp", "events.cpp", "input_gradient.cpp", "tables.cpp"]


class Unavailable(Exception):
    """The fused passes are unavailable; the message says why, without a full stop."""


_SHAPE = ("num_steps", "batch", "channels", "size", "channels_last", "threads")


class Shape(ctypes.Structure):
    """The common layout of the large tensors; stretches.h has the same."""

    _fields_ = [(name, ctypes.c_int64) for name in _SHAPE]


class FireCall(Shape):
    """The arguments of a neuron's pass; fused.cpp has the same."""

    _fields_ = [
        ("num_thresholds", ctypes.c_int64),
        *(
            (name, ctypes.c_double)
            for name in ("rest", "v_reset", "leak", "decay", "peak", "width", "alpha", "beta", "eps", "momentum")
        ),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "x", "threshold", "gain", "bias", "running_mean", "running_var", "statistics", "s", "grad_s", "grad_x",
                "grad_threshold", "grad_leak", "grad_gain", "grad_bias", "factor", "fires_at", "shift", "theta",
                "resets_to", "constant", "bits",
            )
        ),
    ]  # fmt: skip


class FilterCall(Shape):
    """The arguments of a filter's pass; filter.cpp has the same."""

    _fields_ = [
        *((name, ctypes.c_double) for name in ("decay", "gain", "eps", "momentum")),
        *((name, ctypes.c_void_p) for name in ("s", "moment", "scale", "psp", "grad_psp", "grad_s", "bits", "slope")),
    ]


class EventCall(ctypes.Structure):
    """The arguments of a convolution of spikes; events.cpp has the same."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in (
                "images", "groups", "in_channels", "out_channels", "height", "width", "kernel", "stride", "out_height",
                "out_width", "threads", "by_position",
            )
        ),
        ("weight_strides", ctypes.c_int64 * 4),
        *((name, ctypes.c_void_p) for name in ("x", "bits", "weight", "y", "grad_y", "grad_weight")),
        *((name, ctypes.c_int64) for name in ("spikes", "others")),
        ("known", ctypes.c_void_p),
        ("steps", ctypes.c_int64),
        ("decay", ctypes.c_double),
        ("counts", ctypes.c_void_p),
    ]  # fmt: skip


class TableCall(ctypes.Structure):
    """The arguments of a convolution of spikes by tables of sums; tables.cpp has the same."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in (
                "images", "in_channels", "out_channels", "height", "width", "kernel", "stride", "out_height",
                "out_width", "threads",
            )
        ),
        *((name, ctypes.c_void_p) for name in ("x", "bits", "tables", "bias", "stream", "y")),
    ]  # fmt: skip


class InputGradientCall(ctypes.Structure):
    """The arguments of the gradient of a convolution's input; input_gradient.cpp has the same."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in (
                "images", "in_channels", "out_channels", "height", "width", "stride", "out_height", "out_width",
                "threads",
            )
        ),
        ("weight_strides", ctypes.c_int64 * 4),
        *((name, ctypes.c_void_p) for name in ("weight", "grad_y", "grad_x")),
    ]  # fmt: skip


def cache() -> Path:
    """Return the folder of compiled cases: in XDG_CACHE_HOME, or in .cache in the user's home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snn_exp" / "kernels"


@functools.cache
def toolchain() -> tuple[str, str]:
    """Find the compiler, and all that it predefines for this machine: its version and the processor's features.

    Raises:
        Unavailable: there is no C++ compiler, or it does not run.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    compiler = next((path for name in names if (path := shutil.which(name))), None)
    if compiler is None:
        raise Unavailable(f"there is no C++ compiler ({', '.join(names)}); install g++, or set CXX to one")
    return compiler, _output_of([compiler, *FLAGS, "-dM", "-E", "-x", "c++", os.devnull])


@functools.cache
def library(source: Source, defines: tuple[str, ...], real: Real, stored: StoredType) -> ctypes.CDLL:
    """Load the passes for one case, compiled at first use.

    Args:
        source: their C++ source, in this folder.
        defines: its macros, each NAME=value.
        real: dtype of the computation; the last macros but one.
        stored: dtype of the large tensors; the last.

    Raises:
        Unavailable: there is no C++ compiler, it fails, or the cache cannot be written.
    """
    compiler, machine = toolchain()
    defines = (*defines, f"REAL={real}", f"STORED={stored}")
    text, shared = (Path(__file__).with_name(name) for name in (source, SHARED))
    key = hashlib.sha256(
        "\0".join(
            [text.read_text(encoding="utf-8"), shared.read_text(encoding="utf-8"), *FLAGS, *defines, machine]
        ).encode()
    ).hexdigest()[:16]
    path = cache() / f"{key}.so"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as scratch:  # another process may build the same
                command = [compiler, *FLAGS, *(f"-D{define}" for define in defines), "-shared", "-fPIC", "-o"]
                _compile([*command, str(scratch), str(text)])
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise Unavailable(f"{error.filename or path} cannot be used ({error.strerror or error})") from None


def _compile(command: list[str]) -> None:
    try:
        _output_of([*command, *THREADED])
    except Unavailable:  # a compiler without OpenMP
        _output_of(command)


def _output_of(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S).stdout
    except subprocess.CalledProcessError as error:
        reason = next((line for line in error.stderr.splitlines() if "error" in line), f"exit code {error.returncode}")
        raise Unavailable(f"the C++ compiler {command[0]} fails ({reason.strip()})") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the C++ compiler {command[0]} does not run ({error})") from None
