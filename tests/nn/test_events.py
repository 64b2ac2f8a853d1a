"""Convolutions that add where a spike is, against torch's dense ones, which are the judge."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from snn_exp.nn.kernels import build, events
from snn_exp.nn.kernels.events import pack, spike_bits, spike_conv2d, spike_linear

try:
    _, MACHINE = build.toolchain()
except build.Unavailable as reason:
    pytest.skip(f"the kernels cannot be built: {reason}", allow_module_level=True)

# this processor's, and those for lesser ones
FORMS = [None, 0, *([256] if "__AVX512F__ 1" in MACHINE else [])]

shapes = st.tuples(
    st.integers(1, 5), st.integers(1, 20), st.integers(1, 40), st.integers(1, 11), st.integers(1, 11),
    st.sampled_from([1, 3]), st.integers(1, 3), st.integers(1, 2),
)  # fmt: skip
Shape = tuple[int, int, int, int, int, int, int, int]


def drawn(shape: Shape, rate: float, dtype: torch.dtype, by_position: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, weights and a gradient of the output; of N, C and O per group, H, W, K, stride and groups."""
    torch.manual_seed(0)
    N, C, num_out, H, W, K, stride, groups = shape
    s = (torch.rand(N, C * groups, H, W) < rate).to(dtype)
    weight = torch.randn(num_out * groups, C, K, K, dtype=dtype)
    grad_y = torch.randn(N, num_out * groups, (H - 1) // stride + 1, (W - 1) // stride + 1, dtype=dtype)
    if by_position:
        s, weight = (x.to(memory_format=torch.channels_last) for x in (s, weight))
    return s.requires_grad_(), weight.requires_grad_(), grad_y


def both_ways(shape: Shape, s: Tensor, weight: Tensor, grad_y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Output, gradient of the input and gradient of the weights: by events, and torch's own in float64."""
    *_, kernel, stride, groups = shape
    ours = spike_conv2d(s, weight, stride, groups)
    given = s.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    theirs = functional.conv2d(given[0], given[1], stride=stride, padding=kernel // 2, groups=groups)
    gradients = torch.autograd.grad(ours, (s, weight), grad_y)
    return list(zip((ours, *gradients), (theirs, *torch.autograd.grad(theirs, given, grad_y.double())), strict=True))


def use(form: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in this form from now on."""
    if form is not None:
        monkeypatch.setattr(
            events, "library", lambda source, _, real, stored: build.library(source, (f"FORM={form}",), real, stored)
        )


@settings(max_examples=60, deadline=None)
@given(shape=shapes, rate=st.sampled_from([0.0, 0.1, 0.5, 1.0]), by_position=st.booleans())
@example(shape=(70, 16, 16, 8, 8, 3, 1, 1), rate=0.1, by_position=True)  # several tiles and chunks
@example(shape=(3, 70, 100, 9, 10, 3, 2, 1), rate=0.1, by_position=False)  # several blocks of outputs
@example(shape=(1, 1, 1, 1, 1, 3, 2, 1), rate=1.0, by_position=True)
@example(shape=(1, 1, 4, 1, 3, 1, 1, 2), rate=0.5, by_position=False)  # two groups fill a lane
def test_in_float64_output_and_gradients_are_those_of_a_dense_convolution(
    shape: Shape, rate: float, by_position: bool
) -> None:
    for ours, theirs in both_ways(shape, *drawn(shape, rate, torch.float64, by_position)):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "shape",
    [(9, 20, 16, 13, 11, 3, 1, 1), (9, 16, 33, 12, 11, 3, 2, 2), (2, 9, 70, 5, 4, 1, 2, 1), (1, 64, 48, 7, 7, 3, 1, 1)],
)
def test_each_form_for_a_processor_is_as_near_to_float64_as_a_dense_convolution_in_float32(
    form: int | None, shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(form, monkeypatch)
    for rate in (0.0, 0.1, 1.0):
        for ours, theirs in both_ways(shape, *drawn(shape, rate, torch.float32)):
            far = (ours - theirs).abs().max() / theirs.abs().max().clamp_min(1)
            assert far < 2e-6, f"rate {rate}"


@pytest.mark.parametrize("form", FORMS[1:])
def test_forms_for_all_processors_give_the_same_bits_and_sums(form: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (5, 20, 40, 9, 11, 3, 1, 1)
    s, weight, grad_y = drawn(shape, 0.2, torch.float32)
    expected = [pack(s).bits, *(ours for ours, _ in both_ways(shape, s, weight, grad_y))]
    use(form, monkeypatch)
    found = [pack(s).bits, *(ours for ours, _ in both_ways(shape, s, weight, grad_y))]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_results_do_not_depend_on_the_number_of_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (70, 16, 16, 12, 12, 3, 1, 1)
    s, weight, grad_y = drawn(shape, 0.2, torch.float32)

    def found(number: int) -> list[Tensor]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: number)
        y = spike_conv2d(s, weight)
        return [pack(s).bits, y, *torch.autograd.grad(y, (weight,), grad_y)]

    assert all(torch.equal(one, other) for one, other in zip(found(1), found(threads), strict=True))


def test_bits_rate_and_what_is_neither_0_nor_1_are_found() -> None:
    s = (torch.rand(3, 11, 5, 17) < 0.3).float()
    for laid in (s, s.to(memory_format=torch.channels_last)):
        packed = pack(laid)
        words = packed.bits.unsqueeze(-1) >> torch.arange(64) & 1
        assert torch.equal(words.flatten(2)[..., : 5 * 17].view_as(s).float(), s)
        assert packed.whole and packed.rate == pytest.approx(s.mean().item())
        for value in (0.5, -1.0, 2.0, float("nan")):
            for channel in (3, 10):
                changed = laid.clone()
                changed[1, channel, 2, 3] = value
                assert not pack(changed).whole


def test_backward_keeps_a_bit_of_a_spike_and_the_weights() -> None:
    s, weight, _ = drawn((8, 16, 16, 8, 8, 3, 1, 1), 0.2, torch.float32)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        spike_conv2d(s, weight)
    assert sorted(kept) == sorted([s.nbytes // 32, weight.nbytes])


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # of opcheck's own
def test_it_is_an_operator_that_torch_can_trace_and_differentiate() -> None:
    s, weight, _ = drawn((2, 3, 4, 5, 6, 3, 2, 1), 0.3, torch.float64)
    torch.library.opcheck(events._conv2d, (s, spike_bits(s.detach()), weight, 2, 1))


def test_a_linear_layer_is_the_same_for_spikes() -> None:
    for batch in (1, 7, 128):
        s, weight = (
            (torch.rand(batch, 20) < 0.3).double().requires_grad_(),
            torch.randn(9, 20).double().requires_grad_(),
        )
        ours, theirs = spike_linear(s, weight), s @ weight.T
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(
            torch.autograd.grad(ours.sin().sum(), (s, weight)), torch.autograd.grad(theirs.sin().sum(), (s, weight))
        )


@pytest.mark.parametrize(
    ("weight", "groups", "dtype", "error", "said"),
    [
        ((4, 3, 3, 3), 1, torch.float64, TypeError, "in float32 or float64, not torch.float32 and torch.float64"),
        ((4, 3, 5, 5), 1, torch.float32, ValueError, "1 x 1 or 3 x 3, not 5 x 5"),
        ((4, 3, 3, 3), 2, torch.float32, ValueError, "in 2 groups and bits"),
        ((4, 2, 3, 3), 1, torch.float32, ValueError, "do not fit spikes"),
    ],
)
def test_what_does_not_fit_is_refused(
    weight: tuple[int, ...], groups: int, dtype: torch.dtype, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        spike_conv2d(torch.zeros(2, 3, 5, 5), torch.zeros(weight, dtype=dtype), groups=groups)
