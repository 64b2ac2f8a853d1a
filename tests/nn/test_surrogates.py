"""Surrogates: the customary forms, and gradients where forms are easily wrong."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_exp.nn.surrogates import SURROGATES

X = torch.linspace(-3.01, 3, 601, dtype=torch.float64)


def sig(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


# the customary forms, with their customary constants
CUSTOMARY: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: 0 * x,
    "sigmoid": lambda x: 4 * sig(4 * x) * (1 - sig(4 * x)),
    "atan": lambda x: (2 / 2) / (1 + (math.pi * 2 * x / 2) ** 2),
    "triangle": lambda x: (1 - x.abs()).clamp(min=0),
    "rect": lambda x: (x.abs() < 0.5).double(),
    "slayer_exp": lambda x: 0.5 * torch.exp(-x.abs()),
    "fast_sigmoid": lambda x: 1 / (25 * x.abs() + 1) ** 2,
    "erf": lambda x: 2 / math.sqrt(math.pi) * torch.exp(-4 * x**2),
    "s2nn": lambda x: torch.where(x < 0, 4 * sig(4 * x) * (1 - sig(4 * x)), 1 / (x.clamp(min=0) + 1)),
    "ste": lambda x: (x.abs() <= 1).double(),
    "approx_sign": lambda x: torch.where(x.abs() < 1, 2 - 2 * x.abs(), 0.0),
    "swish_sign": lambda x: 5 * (2 - 5 * x * torch.tanh(2.5 * x)) / (1 + torch.cosh(5 * x)),
}


def test_every_surrogate_has_its_customary_form_written_here() -> None:
    assert set(CUSTOMARY) == set(SURROGATES)


@pytest.mark.parametrize("name", CUSTOMARY)
def test_the_defaults_reproduce_the_customary_form(name: str) -> None:
    torch.testing.assert_close(SURROGATES[name]().derivative(X), CUSTOMARY[name](X), rtol=1e-12, atol=1e-12)
    assert SURROGATES[name]().derivative(X).dtype == torch.float64


@pytest.mark.parametrize("name", [name for name in SURROGATES if name != "none"])
def test_peak_scales_the_height_and_width_the_reach(name: str) -> None:
    cls = SURROGATES[name]
    default = cls()
    wide = cls(peak=3 * default.peak, width=2 * default.width)
    torch.testing.assert_close(wide.derivative(2 * X), 3 * default.derivative(X))
    assert wide.derivative(torch.zeros(())).item() == pytest.approx(3 * default.derivative(torch.zeros(())).item())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_the_s2nn_gradient_is_finite_at_minus_one(dtype: torch.dtype) -> None:
    x = torch.tensor([-1.0, -2.0, 0.0, 1.0, 9.0], dtype=dtype, requires_grad=True)
    surrogate = SURROGATES["s2nn"]()
    (first,) = torch.autograd.grad(surrogate.spike(x).sum(), x)
    (second,) = torch.autograd.grad(surrogate.derivative(x).sum(), x)
    assert first.isfinite().all() and second.isfinite().all()
    assert first[2:].tolist() == pytest.approx([1, 0.5, 0.1], rel=1e-2)


def test_s2nn_is_continuous_at_the_threshold_only_if_beta_is_a_quarter_of_alpha() -> None:
    x = torch.tensor([-1e-9, 0.0], dtype=torch.float64)
    below, at = SURROGATES["s2nn"](alpha=4.0, beta=1.0).derivative(x).tolist()
    assert below == pytest.approx(at, abs=1e-6)
    below, at = SURROGATES["s2nn"](alpha=4.0, beta=0.5).derivative(x).tolist()
    assert (below, at) == (pytest.approx(1.0, abs=1e-6), 0.5)


def test_the_far_ends_do_not_overflow() -> None:
    far = torch.tensor([-1e30, -300.0, 300.0, 1e30])
    for name in SURROGATES:
        assert SURROGATES[name]().derivative(far).isfinite().all(), name


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(CUSTOMARY)), st.floats(-1e6, 1e6))
def test_a_derivative_is_even_and_highest_at_the_threshold_but_for_s2nn(name: str, x: float) -> None:
    surrogate = SURROGATES[name]()
    left, mid, right = surrogate.derivative(torch.tensor([-x, 0.0, x], dtype=torch.float64)).tolist()
    assert max(left, right) <= mid == surrogate.peak
    assert name == "s2nn" or left == pytest.approx(right, abs=1e-12)
