"""Neurons against traces computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_exp.errors import UserError
from snn_exp.nn.neurons import CLIF, GLIF, IF, KLIF, LIF, PLIF, PSN, S2NN, SRM, CubaLIF, ReLU, Sign, SlidingPSN
from snn_exp.nn.stepwise import Stepwise
from snn_exp.nn.surrogates import SURROGATES


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


def test_if_hard_resets_to_zero() -> None:
    assert trace(IF(), [0.75] * 5) == ([0, 1, 0, 1, 0], [0.75, 0, 0.75, 0, 0.75])


def test_if_soft_keeps_what_is_over_the_threshold() -> None:
    assert trace(IF(reset="soft"), [0.75] * 5) == ([0, 1, 1, 1, 0], [0.75, 0.5, 0.25, 0, 0.75])


def test_if_resets_to_v_reset() -> None:
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
def test_lif_follows_the_trace_computed_by_hand(
    reset: str, decay_input: bool, inputs: list[float], membranes: list[float]
) -> None:
    spikes, found = trace(LIF(tau=2.0, reset=reset, decay_input=decay_input), inputs)
    assert spikes == [0, 1, 0, 1, 0]
    assert found == membranes


@pytest.mark.parametrize(
    ("decay_input", "inputs", "membranes"),
    [(True, [1.5, 1.5, 1.5, 2.0], [0.25, 0.625, 0.8125, -0.5]), (False, [1, 0.5, 1], [0.5, 0.5, -0.5])],
)
def test_lif_leaks_to_v_reset(decay_input: bool, inputs: list[float], membranes: list[float]) -> None:
    spikes, found = trace(LIF(v_reset=-0.5, decay_input=decay_input), inputs)
    assert found == membranes
    assert spikes == [0] * (len(inputs) - 1) + [1]


def test_plif_learns_the_logit_of_one_over_tau() -> None:
    neuron = PLIF(tau=5.0)
    assert neuron.w.item() == pytest.approx(-math.log(4))
    assert neuron.leak().item() == pytest.approx(1 / 5) == pytest.approx(1 / (1 + math.exp(-neuron.w.item())))
    x = torch.rand(6, 2, 3) * 3
    assert torch.equal(neuron(x), LIF(tau=5.0)(x))
    neuron(x).sum().backward()
    assert neuron.w.grad is not None and neuron.w.grad != 0


def test_srm_exponential_refractory_follows_the_trace_computed_by_hand() -> None:
    spikes, refractory = trace(SRM(refractory_decay=0.5), [1.25, 1.25, 1.25, 1.75, 0.5, 2.0])
    # u = 1.25, 0.25, 0.75, 1.5, -0.625, 1.4375
    assert spikes == [1, 0, 0, 1, 0, 1]
    assert refractory == [-1, -0.5, -0.25, -1.125, -0.5625, -1.28125]


@pytest.mark.parametrize("tau_r", [1.0, 2.5])
def test_srm_slayer_refractory_is_the_direct_convolution_sum(tau_r: float) -> None:
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


@pytest.mark.parametrize("neuron", [IF, LIF, PLIF, KLIF, CLIF, CubaLIF, GLIF, SRM, PSN, SlidingPSN, S2NN])
def test_a_threshold_is_learned_per_channel(neuron: Callable[..., Any]) -> None:
    part = neuron((2, 1, 1), SURROGATES["atan"](), 3, learn_threshold=True, v_threshold=0.5)
    assert part.v_threshold.shape == (2, 1, 1) and part.v_threshold.tolist() == [[[0.5]], [[0.5]]]
    with torch.no_grad():
        part.v_threshold.copy_(torch.tensor([0.5, 100.0]).view(2, 1, 1))
        if neuron is PSN:  # its random weights need not carry an input over the threshold
            part.weight.copy_(torch.eye(3))
    spikes = part(torch.full((3, 1, 2, 4, 4), 2.0))
    assert spikes[0, :, 0].all() and not spikes[:, :, 1].any()
    spikes.sum().backward()
    assert part.v_threshold.grad.shape == (2, 1, 1) and part.v_threshold.grad[0] < 0


def test_a_fixed_threshold_is_neither_learned_nor_saved() -> None:
    assert not list(IF().parameters()) and not IF().state_dict()


def test_detach_reset_cuts_the_gradient_through_the_reset_only() -> None:
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


def test_cuba_lif_follows_the_trace_computed_by_hand() -> None:
    # i = 1, 0.5, 0.25, 1.125, 0.5625;  h = 1, 0.5, 0.625, 1.59375, 0.5625
    inputs = [1.0, 0, 0, 1, 0]
    assert trace(CubaLIF(), inputs) == ([1, 0, 0, 1, 0], [0, 0.5, 0.625, 0, 0.5625])
    # soft: h = 1, 0.5, 0.625, 1.59375, 0.4453125 + 0.5625
    assert trace(CubaLIF(reset="soft"), inputs) == ([1, 0, 0, 1, 1], [0, 0.5, 0.625, 0.59375, 0.0078125])


def test_klif_follows_the_trace_computed_by_hand() -> None:
    # h_LIF = 0.75, 0.875, 0.25, -0.75, 0.5;  relu(2 h_LIF) = 1.5, 1.75, 0.5, 0, 1
    assert trace(KLIF(k=2.0), [1.5, 1.75, 0.5, -2.0, 1.0]) == ([1, 1, 0, 0, 1], [0, 0, 0.5, 0, 0])


def test_clif_with_no_memory_is_lif_and_with_one_resets_deeper() -> None:
    sigmoid = [1 / (1 + math.exp(-m)) for m in (1.0, 0.5)]
    spikes, membranes = trace(CLIF(), [1.5, 0.0])
    v = 1.5 - 1 - sigmoid[0]  # m = 1 after the first spike
    assert spikes == [1, 0]
    assert membranes == pytest.approx([v, v / 2])
    quiet = torch.rand(6, 2, 3) * 0.4
    _, (v_clif, m) = CLIF().unroll(quiet)
    _, (v_lif,) = LIF(decay_input=False, reset="soft").unroll(quiet)
    assert torch.equal(v_clif, v_lif) and not m.any()


def slow_cuba_lif(neuron: CubaLIF, x: Tensor) -> Tensor:
    i = v = torch.zeros_like(x[0])
    spikes = []
    for x_t in x:
        i = neuron.current_decay * i + x_t
        h = neuron.voltage_decay * v + i
        spikes.append((h >= 1).double())
        v = torch.where(h >= 1, 0.0, h)
    return torch.stack(spikes)


def slow_klif(neuron: KLIF, x: Tensor) -> Tensor:
    v = torch.zeros_like(x[0])
    spikes = []
    for x_t in x:
        f = torch.clamp(neuron.k * (v + (x_t - v) / neuron.tau), min=0)
        spikes.append((f >= 1).double())
        v = torch.where(f >= 1, 0.0, f)
    return torch.stack(spikes)


def slow_clif(neuron: CLIF, x: Tensor) -> Tensor:
    v = m = torch.zeros_like(x[0])
    spikes = []
    for x_t in x:
        u = (1 - 1 / neuron.tau) * v + x_t
        s = (u >= 1).double()
        m = m / (1 + torch.exp(-u / neuron.tau)) + s
        v = u - s * (1 + 1 / (1 + torch.exp(-m)))
        spikes.append(s)
    return torch.stack(spikes)


def slow_glif(neuron: GLIF, x: Tensor) -> Tensor:
    """The paper's form: the reset of the step before stands in the charge of this one."""
    a, b, c, decay, g = (
        1 / (1 + torch.exp(-p))
        for p in (neuron.leak_logit, neuron.input_logit, neuron.reset_logit, neuron.decay_logit, neuron.gain_logit)
    )
    u = s = torch.zeros_like(x[0])
    spikes = []
    for t in range(len(x)):
        leaked = (1 - a * (1 - decay)) * u - (1 - a) * neuron.leak
        reset = (1 - a * (1 - decay)) * u * c * s + (1 - c) * neuron.fall * s
        u = leaked + (1 - b * (1 - g[t])) * x[t] - reset
        s = (u >= neuron.v_threshold).double()
        spikes.append(s)
    return torch.stack(spikes)


def slow_psn(neuron: PSN, x: Tensor) -> Tensor:
    reach = [t + 1 if neuron.causal else len(x) for t in range(len(x))]
    h = [sum(neuron.weight[t, j] * x[j] for j in range(reach[t])) for t in range(len(x))]
    return torch.stack([(h[t] >= neuron.b[t] + 1).double() for t in range(len(x))])


def slow_sliding_psn(neuron: SlidingPSN, x: Tensor) -> Tensor:
    order = len(neuron.w)
    h = [sum(neuron.w[lag] * x[t - lag] for lag in range(min(order, t + 1))) for t in range(len(x))]
    return torch.stack([(h_t >= neuron.b + 1).double() for h_t in h])


@pytest.mark.parametrize(
    ("cls", "parameters", "slow"),
    [
        (CubaLIF, {"current_decay": 0.3, "voltage_decay": 0.6}, slow_cuba_lif),
        (KLIF, {"k": 1.7, "tau": 3.0}, slow_klif),
        (CLIF, {"tau": 2.5}, slow_clif),
        (GLIF, {}, slow_glif),
        (PSN, {}, slow_psn),
        (PSN, {"masked": True}, slow_psn),
        (SlidingPSN, {"order": 3}, slow_sliding_psn),
        (SlidingPSN, {"order": 11}, slow_sliding_psn),
    ],
)
def test_a_neuron_is_the_slow_loop_over_its_equation(
    cls: Callable[..., Any], parameters: dict[str, Any], slow: Callable[..., Tensor]
) -> None:
    generator = torch.Generator().manual_seed(0)
    neuron = cls((3, 1, 1), None, 8, **parameters).double()
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
        x = torch.randn(8, 50, 3, 2, 2, generator=generator, dtype=torch.float64) + 0.4
        expected = slow(neuron, x)
    assert torch.equal(neuron(x), expected)
    assert 0.05 < expected.mean() < 0.95
    x = x.requires_grad_()
    (neuron(x) * torch.rand(x.shape, generator=generator, dtype=torch.float64)).sum().backward()
    for leaf in (x, *neuron.parameters()):
        assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.any()


def test_glif_starts_from_the_values_it_is_given() -> None:
    neuron = GLIF((2, 1, 1), None, 5, decay=0.2, gain=0.7, v_threshold=0.8)
    torch.testing.assert_close(torch.sigmoid(neuron.decay_logit), torch.full((2, 1, 1), 0.2))
    torch.testing.assert_close(torch.sigmoid(neuron.gain_logit), torch.full((5, 2, 1, 1), 0.7))
    torch.testing.assert_close(neuron.leak, torch.full((2, 1, 1), 0.08))
    torch.testing.assert_close(neuron.fall, torch.full((2, 1, 1), 0.8))
    assert isinstance(neuron.v_threshold, torch.nn.Parameter)


@pytest.mark.parametrize("cls", [PSN, GLIF])
def test_another_number_of_steps_than_it_was_made_for_is_refused_in_words(cls: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"made for 4 steps and was given 6; type encoding.num_steps=4"):
        cls((2,), None, 4)(torch.zeros(6, 1, 2))


def test_psn_is_causal_only_if_masked_and_sliding_psn_forgets_what_is_older_than_its_order() -> None:
    assert not PSN((), None, 4).causal and PSN((), None, 4, masked=True).causal
    neuron = SlidingPSN(order=2)
    pulse = torch.tensor([3.0, 0, 0, 0]).view(4, 1)
    assert neuron(pulse).flatten().tolist() == [1, 1, 0, 0]  # h = 3, 1.5, 0, 0


@pytest.mark.parametrize("cls", [GLIF, PSN, SlidingPSN])
def test_what_is_learned_does_not_widen_a_narrow_input(cls: Callable[..., Any]) -> None:
    neuron = cls((2,), None, 4, learn_threshold=True)
    assert neuron(torch.rand(4, 3, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_single_step_activations_follow_their_definitions() -> None:
    x = torch.tensor([-2.0, -0.0, 0.0, 0.5, 1.0, 3.0]).view(1, 1, -1)
    assert S2NN()(x).flatten().tolist() == [0, 0, 0, 0, 1, 1]
    assert Sign()(x).flatten().tolist() == [-1, 1, 1, 1, 1, 1]
    assert ReLU()(x).flatten().tolist() == [0, 0, 0, 0.5, 1, 3]


def test_a_state_of_rest_is_a_fixed_point() -> None:
    for neuron in (
        IF(),
        LIF(v_reset=-0.5, decay_input=False),
        PLIF(),
        KLIF(),
        CLIF(),
        CubaLIF(v_reset=-0.5),
        SRM(),
        SRM(refractory="slayer"),
    ):
        state = neuron.initial_state(torch.zeros(1, 2))
        spikes, after = neuron.step(torch.zeros(1, 2), state)
        assert not spikes.any()
        assert all(map(torch.equal, state, after))


# 64ths add up exactly, so the bound holds without a tolerance
sixty_fourths = st.lists(st.integers(0, 256), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(sixty_fourths, st.sampled_from(["hard", "soft"]))
def test_if_spikes_no_more_often_than_its_input_pays_for(inputs: list[int], reset: Any) -> None:
    x = torch.tensor(inputs, dtype=torch.float64).view(-1, 1, 1) / 64
    assert IF(reset=reset)(x).sum() <= math.floor(sum(inputs) / 64)


@settings(max_examples=40, deadline=None)
@given(sixty_fourths)
def test_if_soft_keeps_account_of_every_charge(inputs: list[int]) -> None:
    x = torch.tensor(inputs, dtype=torch.float64).view(-1, 1, 1) / 64
    spikes, (v,) = IF(reset="soft").unroll(x)
    assert spikes.sum() + v.item() == sum(inputs) / 64


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=10), st.floats(1.01, 50))
def test_lif_with_decayed_input_stays_between_the_extremes_of_its_input(inputs: list[float], tau: float) -> None:
    _, membranes = trace(LIF(tau=tau), inputs)
    assert min(0.0, *inputs) - 1e-9 <= min(membranes) and max(membranes) < 1
