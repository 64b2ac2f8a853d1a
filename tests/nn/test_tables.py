"""Convolutions by tables of sums against torch's, and neurons that write bits against those that write numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snn_exp.nn.kernels import build
from snn_exp.nn.kernels.bits import FiringBits
from snn_exp.nn.kernels.tables import ConvolutionByTables, bits_of
from snn_exp.nn.layers import ChannelBias
from snn_exp.nn.neurons import IF, KLIF, LIF, PLIF, S2NN, SRM, Neuron, Sign
from tests import judge

try:
    build.toolchain()
except build.Unavailable as reason:
    pytest.skip(f"the kernels cannot be built: {reason}", allow_module_level=True)

sizes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 37), st.integers(1, 11), st.integers(1, 11))


def spikes(shape: tuple[int, ...], rate: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.rand(shape) < rate).to(dtype)


def conv_of(num_in: int, num_out: int, kernel: int, stride: int, *, bias: bool = True) -> nn.Conv2d:
    conv = nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2, bias=bias)
    return conv.double().requires_grad_(False)


@given(
    shape=sizes, num_out=st.integers(1, 40), kernel=st.sampled_from([1, 3]), stride=st.sampled_from([1, 2]),
    rate=st.sampled_from([0.0, 0.1, 0.5, 1.0]), bias=st.booleans(), turned=st.booleans(),
)  # fmt: skip
@example(shape=(1, 1, 1, 1, 1), num_out=1, kernel=3, stride=2, rate=1.0, bias=True, turned=False)
@example(shape=(1, 70, 17, 9, 8), num_out=33, kernel=3, stride=1, rate=0.2, bias=False, turned=True)
@settings(max_examples=60, deadline=None)
def test_in_float64_it_is_torchs_convolution_but_for_the_order_of_sums(
    shape: tuple[int, ...], num_out: int, kernel: int, stride: int, rate: float, bias: bool, turned: bool
) -> None:
    torch.manual_seed(0)
    conv = conv_of(shape[2], num_out, kernel, stride, bias=bias)
    s = spikes(shape, rate)
    expected = conv(s.flatten(0, 1)).unflatten(0, shape[:2])
    by_tables = ConvolutionByTables(conv)
    given = judge.by_position(s) if turned else s
    assert torch.equal(by_tables(given), by_tables(bits_of(s)))
    torch.testing.assert_close(by_tables(given), expected, rtol=1e-12, atol=1e-13)
    stream = torch.randn_like(expected)
    torch.testing.assert_close(by_tables(given, stream), expected + stream, rtol=1e-12, atol=1e-13)


def test_it_writes_over_the_stream_where_told_and_not_otherwise() -> None:
    conv, s = conv_of(5, 19, 3, 1), spikes((2, 3, 5, 4, 4), 0.3)
    stream = judge.by_position(torch.randn(2, 3, 19, 4, 4, dtype=torch.float64))
    kept = stream.clone()
    y = ConvolutionByTables(conv)(s, stream)
    assert torch.equal(stream, kept)
    assert torch.equal(ConvolutionByTables(conv, over=True)(s, stream), y) and torch.equal(stream, y)


def test_in_float32_it_is_near_and_the_same_on_any_number_of_threads_twice_and_when_copied() -> None:
    conv, s = conv_of(40, 24, 3, 1).float(), spikes((2, 37, 40, 9, 9), 0.2, torch.float32)
    by_tables = ConvolutionByTables(conv)
    y = by_tables(s)
    torch.testing.assert_close(y.flatten(0, 1), conv(s.flatten(0, 1)), rtol=1e-5, atol=1e-5)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            assert torch.equal(by_tables(s), y)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(copy.deepcopy(by_tables)(s), y)


def test_what_is_prepared_stays_in_its_dtype() -> None:
    conv, s = conv_of(6, 4, 3, 1), spikes((1, 2, 6, 4, 4), 0.4)
    by_tables = ConvolutionByTables(conv)
    exact = by_tables(s)
    with pytest.raises(TypeError, match="prepare the network again"):
        by_tables.float()
    with pytest.raises(TypeError, match="prepare the network again"):
        FiringBits(S2NN()).double()
    assert torch.equal(by_tables.double()(s), exact)


@pytest.mark.parametrize(
    ("s", "stream"),
    [
        (torch.zeros(1, 2, 5, 4, 4).double(), None),
        (torch.zeros(1, 2, 6, 4, 4), None),
        (torch.zeros(1, 2, 4, 4, 2, dtype=torch.int16), None),
        (torch.zeros(1, 2, 6, 4, 4).double(), torch.zeros(1, 2, 3, 4, 4).double()),
        (torch.zeros(1, 2, 6, 4, 4).double(), torch.zeros(1, 2, 4, 4, 4)),
    ],
)
def test_what_does_not_fit_is_refused_and_not_read(s: Tensor, stream: Tensor | None) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        ConvolutionByTables(conv_of(6, 4, 3, 1))(s, stream)


@pytest.mark.parametrize("conv", [nn.Conv2d(4, 4, 5, padding=2), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, groups=2)])
def test_other_convolutions_are_refused(conv: nn.Conv2d) -> None:
    with pytest.raises(ValueError, match="not a convolution that tables are for"):
        ConvolutionByTables(conv)


SCALE = torch.tensor([2.0, -0.5, 1.5] * 12)[:32].double().view(-1, 1, 1)
NEURONS = {
    "s2nn": S2NN(), "lif": LIF(), "lif soft": LIF(reset="soft", v_threshold=0.7), "if": IF(v_reset=-0.5), "plif": PLIF(),
    "srm": SRM(),
}  # fmt: skip


@pytest.mark.parametrize("channels", [32, 16, 5, 1])
@pytest.mark.parametrize("name", NEURONS)
def test_bits_are_those_of_what_the_plain_neuron_emits(name: str, channels: int) -> None:
    torch.manual_seed(0)
    neuron = copy.deepcopy(NEURONS[name]).double().requires_grad_(False)
    scale, constant = SCALE[:channels], torch.randn(channels, 1, 1, dtype=torch.float64)
    rescaled = neuron.rescaled(scale) if not neuron.single_step else neuron.firing_on(scale, constant)
    assert rescaled is not None
    for T, B, H, W in ((1, 1, 1, 1), (3, 2, 5, 7), (2, 1, 9, 8)):
        x = torch.randn(T, B, channels, H, W, dtype=torch.float64) * 2
        for laid in (x, judge.by_position(x)):
            assert torch.equal(FiringBits(neuron)(laid), bits_of(neuron(laid)))
            assert torch.equal(FiringBits(rescaled, constant)(laid), bits_of(rescaled(ChannelBias(constant)(laid))))


def test_in_float32_bits_are_those_of_the_plain_neuron_as_well() -> None:
    x = torch.randn(4, 3, 32, 7, 5)
    neuron = LIF().rescaled(SCALE.float())
    assert neuron is not None
    assert torch.equal(FiringBits(neuron)(x), bits_of(neuron(x)))


@pytest.mark.parametrize("neuron", [Sign(), KLIF((1,))])
def test_neurons_of_which_there_are_no_bits_are_refused(neuron: Neuron) -> None:
    with pytest.raises(ValueError, match="not a neuron that fires in one pass"):
        FiringBits(neuron)
