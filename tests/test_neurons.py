"""Neurons against traces computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_exp.dynamics import Stepwise
from snn_exp.neurons import IF, LIF, PLIF, S2NN, SRM, ReLU, Sign


def trace(neuron: Stepwise, inputs: list[float]) -> tuple[list[float], list[float]]:
    """Spikes, and the first state variable after each step."""
    x = torch.tensor(inputs, dtype=torch.float64).view(-1, 1, 1)
    state = neuron.initial_state(x[0])
    spikes, states = [], []
    for x_BN in x:
        s, state = neuron.step(x_BN, state)
        spikes.append(s.item())
        states.append(state[0].item())
    assert neuron(x).flatten().tolist() == spikes
    return spikes, states


def test_if_hard_resets_to_zero():
    assert trace(IF(), [0.75] * 5) == ([0, 1, 0, 1, 0], [0.75, 0, 0.75, 0, 0.75])


def test_if_soft_keeps_what_is_over_the_threshold():
    assert trace(IF(reset="soft"), [0.75] * 5) == ([0, 1, 1, 1, 0], [0.75, 0.5, 0.25, 0, 0.75])


def test_if_resets_to_v_reset():
    assert trace(IF(v_reset=-0.5, v_threshold=2.0), [2, 1, 3]) == ([0, 1, 1], [1.5, -0.5, -0.5])


@pytest.mark.parametrize(
    ("reset", "decay_input", "inputs", "membranes"),
    [
        ("hard", True, [1.5, 1.5, 0.5, 3.0, 1.0], [0.75, 0, 0.25, 0, 0.5]),
        ("soft", True, [1.5, 1.5, 0.5, 3.0, 1.0], [0.75, 0.125, 0.3125, 0.65625, 0.828125]),
        ("hard", False, [0.75, 0.75, 0.25, 1.0, 0.5], [0.75, 0, 0.25, 0, 0.5]),
        ("soft", False, [0.75, 0.75, 0.25, 1.0, 0.5], [0.75, 0.125, 0.3125, 0.15625, 0.578125]),
    ],
)
def test_lif_follows_the_trace_computed_by_hand(reset, decay_input, inputs, membranes):
    spikes, found = trace(LIF(tau=2.0, reset=reset, decay_input=decay_input), inputs)
    assert spikes == [0, 1, 0, 1, 0]
    assert found == membranes


@pytest.mark.parametrize(
    ("decay_input", "inputs", "membranes"),
    [(True, [1.5, 1.5, 1.5, 2.0], [0.25, 0.625, 0.8125, -0.5]), (False, [1, 0.5, 1], [0.5, 0.5, -0.5])],
)
def test_lif_leaks_to_v_reset(decay_input, inputs, membranes):
    spikes, found = trace(LIF(v_reset=-0.5, decay_input=decay_input), inputs)
    assert found == membranes
    assert spikes == [0] * (len(inputs) - 1) + [1]


def test_plif_learns_the_logit_of_one_over_tau():
    neuron = PLIF(tau=5.0)
    assert neuron.w.item() == pytest.approx(-math.log(4))
    assert neuron.leak().item() == pytest.approx(1 / 5) == pytest.approx(1 / (1 + math.exp(-neuron.w.item())))
    x = torch.rand(6, 2, 3) * 3
    assert torch.equal(neuron(x), LIF(tau=5.0)(x))
    neuron(x).sum().backward()
    assert neuron.w.grad is not None and neuron.w.grad != 0


def test_srm_exponential_refractory_follows_the_trace_computed_by_hand():
    spikes, refractory = trace(SRM(refractory_decay=0.5), [1.25, 1.25, 1.25, 1.75, 0.5, 2.0])
    # u = 1.25, 0.25, 0.75, 1.5, -0.625, 1.4375
    assert spikes == [1, 0, 0, 1, 0, 1]
    assert refractory == [-1, -0.5, -0.25, -1.125, -0.5625, -1.28125]


@pytest.mark.parametrize("tau_r", [1.0, 2.5])
def test_srm_slayer_refractory_is_the_direct_convolution_sum(tau_r):
    threshold = 1.3
    x = torch.rand(40, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 6
    found = SRM(refractory="slayer", tau_r=tau_r, v_threshold=threshold).double()(x)
    expected: list[Tensor] = []
    for t in range(len(x)):
        r = torch.zeros_like(x[0])
        for k in range(1, t + 1):
            r += -2 * threshold * (k / tau_r) * math.exp(1 - k / tau_r) * expected[t - k]
        expected.append((x[t] + r >= threshold).double())
    assert torch.equal(found, torch.stack(expected))
    assert 0.05 < found.mean() < 0.95


@pytest.mark.parametrize("neuron", [IF, LIF, PLIF, SRM, S2NN])
def test_a_threshold_is_learned_per_channel(neuron):
    part = neuron((2, 1, 1), learn_threshold=True, v_threshold=0.5)
    assert part.v_threshold.shape == (2, 1, 1) and part.v_threshold.tolist() == [[[0.5]], [[0.5]]]
    with torch.no_grad():
        part.v_threshold.copy_(torch.tensor([0.5, 100.0]).view(2, 1, 1))
    spikes = part(torch.full((3, 1, 2, 4, 4), 2.0))
    assert spikes[0, :, 0].all() and not spikes[:, :, 1].any()
    spikes.sum().backward()
    assert part.v_threshold.grad.shape == (2, 1, 1) and part.v_threshold.grad[0] < 0


def test_a_fixed_threshold_is_neither_learned_nor_saved():
    assert not list(IF().parameters()) and not IF().state_dict()


def test_detach_reset_cuts_the_gradient_through_the_reset_only():
    x = torch.tensor([1.2, 0.9], dtype=torch.float64).view(2, 1, 1).requires_grad_()

    def slope(detach: bool) -> float:
        neuron = IF(detach_reset=detach)
        (gradient,) = torch.autograd.grad(neuron(x)[1].sum(), x)
        return float(gradient[0].item())

    def k(v: float) -> float:  # atan at alpha = 2
        return 1 / (1 + (math.pi * v) ** 2)

    # h1 = (1 - s0) h0 + x1 with s0 = 1, h0 = 1.2: dh1/dx0 = (1 - s0) - h0 k(0.2) = -1.2 k(0.2)
    assert slope(True) == 0
    assert slope(False) == pytest.approx(-1.2 * k(0.2) * k(-0.1))


def test_single_step_activations_follow_their_definitions():
    x = torch.tensor([-2.0, -0.0, 0.0, 0.5, 1.0, 3.0]).view(1, 1, -1)
    assert S2NN()(x).flatten().tolist() == [0, 0, 0, 0, 1, 1]
    assert Sign()(x).flatten().tolist() == [-1, 1, 1, 1, 1, 1]
    assert ReLU()(x).flatten().tolist() == [0, 0, 0, 0.5, 1, 3]


def test_a_state_of_rest_is_a_fixed_point():
    for neuron in (IF(), LIF(v_reset=-0.5, decay_input=False), PLIF(), SRM(), SRM(refractory="slayer")):
        state = neuron.initial_state(torch.zeros(1, 2))
        spikes, after = neuron.step(torch.zeros(1, 2), state)
        assert not spikes.any()
        assert all(map(torch.equal, state, after))


# 64ths add up exactly, so the bound holds without a tolerance
sixty_fourths = st.lists(st.integers(0, 256), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(sixty_fourths, st.sampled_from(["hard", "soft"]))
def test_if_spikes_no_more_often_than_its_input_pays_for(inputs, reset):
    x = torch.tensor(inputs, dtype=torch.float64).view(-1, 1, 1) / 64
    assert IF(reset=reset)(x).sum() <= math.floor(sum(inputs) / 64)


@settings(max_examples=40, deadline=None)
@given(sixty_fourths)
def test_if_soft_keeps_account_of_every_charge(inputs):
    x = torch.tensor(inputs, dtype=torch.float64).view(-1, 1, 1) / 64
    spikes, (v,) = IF(reset="soft").unroll(x)
    assert spikes.sum() + v.item() == sum(inputs) / 64


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=10), st.floats(1.01, 50))
def test_lif_with_decayed_input_stays_between_the_extremes_of_its_input(inputs, tau):
    _, membranes = trace(LIF(tau=tau), inputs)
    assert min(0.0, *inputs) - 1e-9 <= min(membranes) and max(membranes) < 1
