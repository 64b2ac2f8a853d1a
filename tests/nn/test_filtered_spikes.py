"""Convolutions that add filtered, normalized spikes, against synapse, PSP norm and torch's convolution, the judge."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from snn_exp.nn.kernels import build
from snn_exp.nn.kernels.events import pack
from snn_exp.nn.kernels.filtered_spikes import FilteredSpikes, count_pairs, filtered_conv2d, scale_of
from snn_exp.nn.kernels.forms import trace_of
from snn_exp.nn.kernels.tables import bits_of
from snn_exp.nn.norms import PSPNorm, Site
from snn_exp.nn.synapses import ExponentialSynapse, IdentitySynapse, Synapse

try:
    build.library("events.cpp", (), "double", "double")
except build.Unavailable as reason:
    pytest.skip(f"the kernels cannot be built: {reason}", allow_module_level=True)

Shape = tuple[int, ...]
shapes = st.tuples(
    st.integers(1, 5), st.integers(1, 4), st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9),
    st.sampled_from([1, 3]), st.integers(1, 2), st.integers(1, 2),
)  # fmt: skip
WHOLE_WORDS = (4, 3, 32, 16, 7, 6, 3, 2, 1)
SEVERAL_TILES = (3, 40, 16, 16, 8, 8, 3, 1, 1)


def both_ways(
    shape: Shape, rate: float, synapse: Synapse, normed: bool, dtype: torch.dtype, by_words: bool
) -> list[tuple[Tensor, Tensor]]:
    """Output, gradients of spikes and weights, and the running moment after two batches; ours and the plain path's."""
    torch.manual_seed(0)
    T, B, C, num_out, H, W, kernel, stride, groups = shape
    trace, norms = trace_of(synapse), [PSPNorm(Site((C * groups, H, W))).to(dtype) for _ in range(2)]
    assert trace is not None
    weight = torch.randn(num_out * groups, C, kernel, kernel, dtype=dtype)
    found: list[list[Tensor]] = [[], []]
    for _ in range(2):
        s = (torch.rand(T, B, H, W, C * groups) < rate).to(dtype).permute(0, 1, 4, 2, 3)
        given, learned = [s.clone().requires_grad_() for _ in range(2)], [weight.clone().requires_grad_() for _ in "ab"]
        bits = pack(s.flatten(0, 1)).bits
        scale = scale_of(norms[0], trace, bits, T, H, W).to(dtype) if normed else None
        words = bits_of(s).flatten(0, 1).flatten(1, 2) if by_words else None
        ours = filtered_conv2d(given[0], learned[0], FilteredSpikes(bits, words, trace, scale), stride, groups)
        psp = synapse(given[1])
        psp = (norms[1](psp) if normed else psp).flatten(0, 1)
        theirs = functional.conv2d(psp, learned[1], stride=stride, padding=kernel // 2, groups=groups)
        above = torch.randn(theirs.shape, dtype=dtype)
        for k, y in enumerate((ours.flatten(0, 1), theirs)):
            found[k] += [y, *torch.autograd.grad(y, (given[k], learned[k]), above), norms[k].moment]
    assert norms[0].num_batches == norms[1].num_batches
    return list(zip(*found, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes, rate=st.sampled_from([0.0, 0.1, 0.5, 1.0]), decay=st.sampled_from([None, 0.0, 0.5, 1.0]),
    normed=st.booleans(),
)  # fmt: skip
@example(shape=SEVERAL_TILES, rate=0.1, decay=0.5, normed=True)
@example(shape=(3, 2, 70, 100, 9, 10, 3, 2, 1), rate=0.1, decay=0.5, normed=True)  # several blocks of outputs
def test_in_float64_output_gradients_and_moments_are_those_of_the_plain_path(
    shape: Shape, rate: float, decay: float | None, normed: bool
) -> None:
    synapse = IdentitySynapse() if decay is None else ExponentialSynapse(decay=decay)
    for ours, theirs in both_ways(shape, rate, synapse, normed, torch.float64, by_words=False):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_words_of_the_spikes_are_as_good_as_their_values(dtype: torch.dtype, normed: bool) -> None:
    ways = [
        both_ways(WHOLE_WORDS, 0.3, ExponentialSynapse(decay=0.3), normed, dtype, by_words)
        for by_words in (True, False)
    ]
    for (ours, theirs), (by_values, _) in zip(*ways, strict=True):
        assert torch.equal(ours, by_values)
        assert (ours - theirs).abs().max() <= (1e-12 if dtype == torch.float64 else 1e-5) * theirs.abs().max()


@pytest.mark.parametrize("threads", [2, 5])
def test_results_do_not_depend_on_the_number_of_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(number: int) -> list[Tensor]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: number)
        ways = both_ways(SEVERAL_TILES, 0.2, ExponentialSynapse(), True, torch.float32, by_words=True)
        return [ours for ours, _ in ways]

    assert all(torch.equal(one, other) for one, other in zip(found(1), found(threads), strict=True))


def test_pairs_of_steps_are_counted_per_channel() -> None:
    s = (torch.rand(3, 4, 5, 9, 9) < 0.4).float()
    counts = count_pairs(pack(s.flatten(0, 1)).bits, 3)
    pairs = torch.einsum("tbchw,ubchw->ctu", s, s).tril()
    assert torch.equal(counts.float(), pairs) and pairs.count_nonzero() == 30


def test_backward_keeps_a_bit_of_a_spike() -> None:
    s = (torch.rand(4, 8, 8, 8, 16) < 0.2).float().permute(0, 1, 4, 2, 3).requires_grad_()
    trace = trace_of(ExponentialSynapse())
    assert trace is not None
    given = FilteredSpikes(pack(s.detach().flatten(0, 1)).bits, bits_of(s).flatten(0, 1).flatten(1, 2), trace, None)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    weight = torch.randn(16, 16, 3, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        filtered_conv2d(s, weight, given, 1, 1)
    assert sorted(kept) == sorted([s.nbytes // 32, s.nbytes // 32, weight.nbytes])
