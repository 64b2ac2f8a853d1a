"""The one pass of a neuron into which a norm is folded: its output is that of the plain path."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_exp.export.fold import fold
from snn_exp.nn.kernels import build, fuse
from snn_exp.nn.kernels.forms import folded_form_of
from snn_exp.nn.kernels.fused import fire_folded
from snn_exp.nn.layers import ChannelBias, lay_channels_last
from snn_exp.nn.neurons import KLIF, LIF, NEURONS, SRM, Neuron
from snn_exp.nn.surrogates import SURROGATES
from tests import judge

try:
    build.toolchain()
except build.Unavailable as reason:
    pytest.skip(f"the fused kernels cannot be built: {reason}", allow_module_level=True)

SHAPES = [(3, 2, 5, 3, 3), (1, 1, 1, 1, 1), (2, 1, 3, 7, 5), (2, 4, 70)]
# a surrogate decides nothing here
FORMS = list({str(case.values[0]): case.values[0] for case in judge.cases()}.values())


def folded_neurons(neuron: dict[str, Any], shape: tuple[int, ...], dtype: torch.dtype) -> list[Neuron]:
    """It behind a norm on its membrane, one in front of it, and two; scales of either sign."""
    part = NEURONS.make(neuron, shape[2:], SURROGATES.make({"name": "rect"}), shape[0])
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(torch.rand_like(parameter) / 4)
    part = part.to(dtype).requires_grad_(False)
    per_channel = (shape[2], *(1 for _ in shape[3:]))
    scale = ((torch.rand(per_channel) + 0.5) * torch.where(torch.rand(per_channel) < 0.3, -1, 1)).to(dtype)
    shift = torch.randn(per_channel).to(dtype)
    fires = part.firing_on(scale, shift)
    found = [fires, fires.firing_on(scale.flip(0), shift), part.rescaled(scale), fires.rescaled(scale.flip(0))]
    return [one for one in found if one is not None]


def outputs_are_equal(neuron: Neuron, constant: Tensor | None, x: Tensor) -> None:
    form = folded_form_of(neuron)
    assert form is not None
    plain = neuron(x if constant is None else ChannelBias(constant)(x))
    assert torch.equal(fire_folded(neuron, form, constant, x), plain)
    over = x.clone()
    assert torch.equal(fire_folded(neuron, form, constant, over, overwrite=True), plain)
    assert torch.equal(over, plain)


@pytest.mark.parametrize(
    ("neuron", "dtype"),
    [
        *((neuron, torch.float64) for neuron in FORMS),
        *(({"name": name}, torch.float32) for name in ("lif", "srm", "s2nn", "mtn")),
    ],
    ids=lambda given: "-".join(map(str, given.values())) if isinstance(given, dict) else None,
)
def test_a_folded_neuron_gives_bitwise_what_the_plain_one_does(neuron: dict[str, Any], dtype: torch.dtype) -> None:
    for shape in SHAPES:
        torch.manual_seed(0)
        for one in folded_neurons(neuron, shape, dtype):
            x = judge.drawn(shape, 1, dtype)
            constant = torch.randn(shape[2], *(1 for _ in shape[3:]), dtype=dtype)
            for x_TBN in (x, judge.by_position(x)) if len(shape) == 5 else (x,):
                outputs_are_equal(one, None, x_TBN)
                outputs_are_equal(one, constant, x_TBN)


def used_by(part: nn.Module) -> str:
    forward = vars(part)["forward"]
    assert isinstance(forward, functools.partial)
    return str(forward.func.__name__)


@pytest.mark.parametrize("neuron", ["lif", "s2nn", "srm"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_folded_neurons_of_a_network_take_their_pass_with_the_constant_and_without_gradients_alone(
    neuron: str, turned: bool
) -> None:
    plain = judge.network(neuron)
    x = torch.rand(1 if neuron == "s2nn" else 2, 6, 1, 4, 4, dtype=torch.float64)
    plain(x)
    folded = fold(plain.eval()).network
    twin = judge.fused(folded, overwrite=True)
    if turned:
        lay_channels_last(twin)
    neurons = [part for part in twin.modules() if isinstance(part, Neuron)]
    taken = [used_by(part) for part in neurons if part.folded_threshold is not None]
    assert taken and taken == ["_fire_folded"] * len(taken)
    constants = [used_by(part) for part in twin.modules() if isinstance(part, ChannelBias)]
    assert constants == ["_leave_to_the_folded"] * len(constants) and bool(constants) == (neuron != "s2nn")
    with torch.inference_mode():
        passed = twin(x)
        torch.testing.assert_close(passed, folded(x))
    given = x.clone().requires_grad_()
    torch.testing.assert_close(twin(given), passed)
    twin(given).sum().backward()
    assert given.grad is not None and given.grad.abs().sum() > 0


@pytest.mark.parametrize("batch", [1, 3])
def test_a_folded_network_of_float32_images_of_an_odd_size_gives_the_same_classes(batch: int) -> None:
    plain = judge.network("lif").float()
    x = torch.rand(2, batch, 1, 7, 5)
    plain(x)
    folded = fold(plain.eval()).network
    with torch.inference_mode():
        torch.testing.assert_close(judge.fused(folded, overwrite=True)(x), folded(x), rtol=1e-5, atol=1e-6)


def test_only_what_is_folded_and_has_a_course_in_the_pass_has_a_folded_form() -> None:
    scale = torch.tensor([2.0])
    assert folded_form_of(LIF()) is None
    assert folded_form_of(KLIF((1,)).firing_on(scale, 0.0)) is None
    assert folded_form_of(SRM(refractory="slayer").firing_on(scale, 0.0)) is None
    normed = LIF().firing_on(scale, 0.0)
    normed.membrane_norm = nn.Identity()
    assert folded_form_of(normed) is None


def test_a_neuron_that_is_changed_afterwards_fires_as_it_then_is() -> None:
    twin = judge.network("s2nn").eval()
    folded = fold(twin).network
    x = torch.rand(1, 4, 1, 4, 4, dtype=torch.float64)
    fuse(folded, overwrite=True)
    with torch.inference_mode():
        folded(x)
    neuron = next(part for part in folded.modules() if isinstance(part, Neuron))
    assert neuron.folded_threshold is not None
    neuron.folded_threshold.threshold.fill_(-1e9)
    neuron.folded_threshold.sign.fill_(1.0)
    given = torch.zeros(1, 2, len(neuron.folded_threshold.threshold), 4, 4, dtype=torch.float64)
    with torch.inference_mode():
        assert neuron(given).eq(1).all()
