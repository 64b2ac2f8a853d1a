"""Synapses against direct convolution and traces computed by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_exp.errors import UserError
from snn_exp.nn.synapses import AlphaSynapse, ExponentialSynapse, IdentitySynapse


def spikes(num_steps: int = 40) -> Tensor:
    x = torch.rand(num_steps, 2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (x < 0.3).double()


def convolved(s: Tensor, kernel: list[float]) -> Tensor:
    """sum_k kernel[k] s[t - k], term by term."""
    psp = torch.zeros_like(s)
    for t in range(len(s)):
        for k in range(t + 1):
            psp[t] += kernel[k] * s[t - k]
    return psp


def eps(t: float, tau: float) -> float:
    return t / tau * math.exp(1 - t / tau)


def test_identity_is_the_spike() -> None:
    assert torch.equal(IdentitySynapse()(spikes()), spikes())


def test_the_exponential_trace_follows_the_numbers_computed_by_hand() -> None:
    s = torch.tensor([1.0, 0, 1, 1, 0, 0]).view(-1, 1, 1)
    found = ExponentialSynapse(decay=0.5)(s).flatten().tolist()
    assert found == [1, 0.5, 1.25, 1.625, 0.8125, 0.40625]


@pytest.mark.parametrize("decay", [0.0, 0.3, 1.0])
def test_the_exponential_trace_is_the_direct_convolution(decay: float) -> None:
    expected = convolved(spikes(), [decay**k for k in range(40)])
    torch.testing.assert_close(ExponentialSynapse(decay=decay)(spikes()), expected)
    assert expected.any()


@pytest.mark.parametrize("tau_s", [0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize(("sampling", "shift"), [("immediate", 1), ("slayer", 0)])
def test_the_alpha_kernel_is_the_direct_convolution(tau_s: float, sampling: Any, shift: int) -> None:
    expected = convolved(spikes(), [eps(k + shift, tau_s) for k in range(40)])
    found = AlphaSynapse(tau_s=tau_s, sampling=sampling)(spikes())
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert found.max() > 0


def test_the_alpha_kernel_follows_the_numbers_computed_by_hand() -> None:
    s = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).view(-1, 1, 1)
    immediate = AlphaSynapse(tau_s=2.0)(s).flatten().tolist()
    assert immediate == pytest.approx([0.8243606, 1.0, 0.9097960, 0.7357589], abs=1e-7)
    slayer = AlphaSynapse(tau_s=2.0, sampling="slayer")(s).flatten().tolist()
    assert slayer == pytest.approx([0.0, 0.8243606, 1.0, 0.9097960], abs=1e-7)


def test_slayer_sampling_delays_each_layer_by_one_step() -> None:
    s = torch.zeros(6, 1, 1)
    s[0] = 1
    x = s
    for layer in range(1, 4):
        x = AlphaSynapse(sampling="slayer")(x)
        assert not x[:layer].any() and x[layer] > 0


def test_a_time_constant_of_zero_is_refused() -> None:
    with pytest.raises(UserError) as error:
        AlphaSynapse(tau_s=0.0)
    assert "tau_s=0.0 is not allowed" in str(error.value)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=12), st.floats(0.3, 20))
def test_a_filtered_spike_train_is_linear_and_never_negative(train: list[int], tau: float) -> None:
    s = torch.tensor(train, dtype=torch.float64).view(-1, 1, 1)
    for synapse in (
        AlphaSynapse(tau_s=tau),
        AlphaSynapse(tau_s=tau, sampling="slayer"),
        ExponentialSynapse(),
    ):
        psp = synapse(s)
        assert (psp >= 0).all()
        torch.testing.assert_close(synapse(3 * s), 3 * psp)
