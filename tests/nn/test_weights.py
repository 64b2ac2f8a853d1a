"""Weight norms and quantizations against their equations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_exp.config.compose import compose
from snn_exp.errors import UserError
from snn_exp.nn.init import LSUVInit
from snn_exp.nn.layers import Conv2d, TimeFolded
from snn_exp.nn.weights import BNNWeights, CentredWeights, FewBitWeights, StandardizedWeights, XNORWeights
from snn_exp.training.build import DataSpec, assemble

SHAPES = [(6, 50), (6, 4, 3, 3)]


def weight(shape: tuple[int, ...], offset: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, dtype=torch.float64, generator=generator) + offset


@pytest.mark.parametrize("shape", SHAPES)
def test_standardized_weights_have_mean_zero_and_variance_g_squared_over_fan_in(shape: tuple[int, ...]) -> None:
    norm = StandardizedWeights(6, gain=1.7, eps=1e-9).double()
    units = norm(weight(shape, offset=0.8)).flatten(1)
    fan_in = units.shape[1]
    torch.testing.assert_close(units.mean(1), torch.zeros(6).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(units.var(1, correction=0), (norm.g**2 / fan_in).detach())
    assert norm.g.detach().tolist() == pytest.approx([1.7] * 6)


def test_the_learned_gain_is_one_per_unit() -> None:
    norm = StandardizedWeights(6).double()
    with torch.no_grad():
        norm.g.copy_(torch.arange(1, 7))
    stds = norm(weight((6, 50))).std(1, correction=0) * math.sqrt(50)
    assert stds.tolist() == pytest.approx([1, 2, 3, 4, 5, 6], rel=1e-4)


def test_standardized_weights_do_not_know_the_scale_of_the_weight() -> None:
    norm = StandardizedWeights(6, eps=1e-12).double()
    torch.testing.assert_close(norm(weight((6, 50))), norm(10 * weight((6, 50)) + 3))
    assert norm(torch.ones(6, 50).double()).isfinite().all()


@pytest.mark.parametrize("shape", SHAPES)
def test_centred_weights_have_mean_zero_and_keep_their_spread(shape: tuple[int, ...]) -> None:
    w = weight(shape, offset=0.8)
    units = CentredWeights()(w).flatten(1)
    assert units.mean(1).abs().max() < 1e-12
    torch.testing.assert_close(units.var(1), w.flatten(1).var(1))


@pytest.mark.parametrize("shape", SHAPES)
def test_binary_weights_are_plus_and_minus_gain_over_root_fan_in(shape: tuple[int, ...]) -> None:
    w = weight(shape)
    w[0] = 0
    scale = 1.7 / math.sqrt(w[0].numel())
    found = BNNWeights(gain=1.7)(w)
    torch.testing.assert_close(found, torch.where(w >= 0, scale, -scale).double())
    assert (found[0] > 0).all()  # sign(0) = +1


def test_the_gradient_of_binary_weights_goes_through_a_clamp() -> None:
    w = torch.tensor([[-1.5, -1.0, 0.0, 0.5, 1.0, 2.0, -0.2, 0.1, 0.3]], requires_grad=True)
    BNNWeights(gain=3.0)(w).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [[0, 1, 1, 1, 1, 0, 1, 1, 1]]


def test_xnor_scales_signs_by_the_mean_magnitude_of_each_unit() -> None:
    w = torch.tensor([[0.5, -0.25], [0.0, -2.0]])
    assert XNORWeights()(w).tolist() == [[0.375, -0.375], [1.0, -1.0]]
    filters = XNORWeights()(weight((6, 4, 3, 3)))
    assert torch.equal(filters.sign(), weight((6, 4, 3, 3)).sign())
    torch.testing.assert_close(filters.abs().amax((1, 2, 3)), weight((6, 4, 3, 3)).abs().mean((1, 2, 3)))


def test_the_gradient_of_xnor_weights_is_that_of_both_factors() -> None:
    w = torch.tensor([[0.5, -1.5]], dtype=torch.float64, requires_grad=True)
    XNORWeights()(w)[0, 0].backward()
    # y0 = m sign(w0), m = mean|w| = 1: dy0/dw0 = sign(w0) sign(w0) / 2 + m, dy0/dw1 = sign(w0) sign(w1) / 2
    assert w.grad is not None and w.grad.tolist() == [[1.5, -0.5]]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=9))
def test_quantizing_twice_is_quantizing_once(values: list[float]) -> None:
    w = torch.tensor([values])
    for quant in (BNNWeights(), XNORWeights()):
        once = quant(w)
        torch.testing.assert_close(quant(once), once)


# --- integers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["learned", "max"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_integers_are_symmetric_multiples_of_one_scale_per_output_unit(
    shape: tuple[int, ...], bits: int, scale: Any
) -> None:
    quant, w, most = FewBitWeights(bits=bits, scale=scale).double(), weight(shape), 2 ** (bits - 1) - 1
    quant.start(w)
    units = quant(w).detach().flatten(1)
    for unit, real in zip(units, w.flatten(1), strict=True):
        step = real.abs().max() / most if scale == "max" else 2 * real.abs().mean() / most**0.5
        levels = unit / step
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-9)
        assert levels.abs().max() <= most + 1e-9
        inside = real.abs() <= most * step
        assert ((unit - real).abs()[inside] <= step / 2 + 1e-12).all()
    assert torch.equal(quant(-w), -quant(w))
    assert len(units[0].unique()) > 2


def test_the_largest_weight_keeps_its_value_and_eight_bits_are_near() -> None:
    w = weight((6, 50))
    quantized = FewBitWeights(bits=8, scale="max")(w)
    torch.testing.assert_close(quantized.abs().amax(1), w.abs().amax(1))
    assert (quantized - w).abs().max() <= w.abs().max() / 254


def test_the_scale_has_the_gradient_of_lsq() -> None:
    w = weight((2, 50)).requires_grad_()
    quant = FewBitWeights(bits=3).double()
    quant.start(w)
    quant(w).sum().backward()
    y = (w / quant.scale.view(-1, 1)).detach()
    inside = y.abs() < 3
    expected = torch.where(inside, y.round() - y, 3 * y.sign()).sum(1) / math.sqrt(50 * 3)
    torch.testing.assert_close(quant.scale.grad, expected)
    torch.testing.assert_close(w.grad, inside.double())
    assert not inside.all() and inside.any()


def test_weights_that_are_all_zero_stay_so() -> None:
    for scale in ("learned", "max"):
        quant = FewBitWeights(scale=scale)
        quant.start(torch.zeros(2, 3))
        assert quant(torch.zeros(2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


def layers_of(*overrides: str) -> dict[str, FewBitWeights | None]:
    seen = DataSpec(in_shape=(1, 8, 8), num_classes=10, pixel_mean=0.0, pixel_std=1.0)
    network = assemble(compose(["network.width=4", *overrides]), seen).network
    layers = {n: m for n, m in network.named_modules() if isinstance(m, TimeFolded)}
    return {n: m.weight_quant if isinstance(m.weight_quant, FewBitWeights) else None for n, m in layers.items()}


@pytest.mark.parametrize("network", ["resnet", "vgg", "mlp"])
def test_the_first_layer_and_the_classifier_keep_their_precision_unless_asked(network: str) -> None:
    first, *hidden = layers_of("weight_quant=int", f"network={network}").values()
    assert first is None and hidden and all(hidden)
    asked = layers_of("weight_quant=int", "weight_quant.ends=true", f"network={network}")
    assert list(asked)[-1] == "classifier" and all(asked.values())
    assert len(asked) == len(hidden) + 2


def test_an_initialisation_starts_the_scales_again() -> None:
    torch.manual_seed(0)
    layer = Conv2d(2, 3, make_weight_quant=FewBitWeights)
    before = layer.weight_quant.scale.detach().clone()
    torch.testing.assert_close(before, 2 * layer.weight.detach().abs().mean((1, 2, 3)) / math.sqrt(7))
    seen = DataSpec(in_shape=(1, 8, 8), num_classes=10, pixel_mean=0.0, pixel_std=1.0)
    network = assemble(compose(["weight_quant=int", "neuron=relu", "norm=none", "network.width=4"]), seen).network
    LSUVInit().initialise(network, torch.randn(1, 8, 1, 8, 8))
    for conv in [m for m in network.modules() if isinstance(m, Conv2d)][1:]:
        expected = 2 * conv.weight.abs().mean((1, 2, 3)) / math.sqrt(7)
        torch.testing.assert_close(conv.weight_quant.scale.detach(), expected.detach())


@pytest.mark.parametrize("override", ["weight_quant.bits=1", "weight_quant.bits=9"])
def test_bits_out_of_range_are_refused_in_a_sentence(override: str) -> None:
    with pytest.raises(
        UserError, match=r"weight_quant.bits=\d is not allowed: weight_quant.bits must be an int >= 2 and <= 8"
    ):
        compose(["weight_quant=int", override])
