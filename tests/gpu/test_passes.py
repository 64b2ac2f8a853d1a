"""Triton's passes against the plain path: every neuron, norm and dtype, in shapes that fill no tile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests import judge
from tests.gpu import HAS_GPU
from tests.triton_passes import INTERPRETS_BADLY, UNEVEN, computing

pytestmark = pytest.mark.gpu

ODD = [(5, 3, 7, 5, 5), (1, 2, 1), (2, 1, 600, 2, 1), UNEVEN, (16, 2, 33, 1, 1), (3, 129, 65)]
# without a card a sample, which shows that the file runs: tests/nn/test_triton.py interprets the same passes, and more
SHAPES = ODD if HAS_GPU else ODD[1:2]
NORMS = judge.NORMED if HAS_GPU else ["bn"]
LARGE = (4, 32, 24, 14, 14) if HAS_GPU else (3, 16, 6, 8, 8)


@pytest.fixture(scope="module", autouse=True)
def triton_computes() -> Iterator[None]:
    with computing():
        yield


@pytest.mark.parametrize("turned", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("neuron", judge.FUSED)
def test_in_float64_a_pass_is_the_plain_path(neuron: str, norm: str, shape: tuple[int, ...], turned: bool) -> None:
    judge.equal_in_float64({"name": neuron}, judge.own_surrogate(neuron), norm, shape, 1, turned)


@pytest.mark.parametrize("shape", [*SHAPES, LARGE], ids=str)
@pytest.mark.parametrize("neuron", judge.FUSED)
def test_in_float32_a_neuron_fires_bitwise_as_the_plain_one(neuron: str, shape: tuple[int, ...]) -> None:
    if HAS_GPU and neuron in ("ilif", "qrelu"):
        pytest.skip("it divides, which a GPU may round otherwise; the next test bounds the difference")
    judge.fires_bitwise_in_float32(neuron, shape)


@pytest.mark.parametrize("neuron", judge.FUSED)
def test_in_float32_a_norm_flips_hardly_a_spike(neuron: str) -> None:
    judge.flips_hardly_a_spike_in_float32(neuron, LARGE)


@pytest.mark.skipif(INTERPRETS_BADLY, reason="the interpreter of Triton 3.4 does not round to bfloat16")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("neuron", judge.FUSED)
def test_in_bfloat16_what_is_stored_is_rounded_and_what_is_computed_with_is_not(neuron: str, norm: str) -> None:
    judge.rounds_what_it_stores_to_bfloat16(neuron, norm, LARGE)


@pytest.mark.parametrize("norm", ["none", "bn"] if HAS_GPU else ["bn"])
@pytest.mark.parametrize("neuron", judge.FUSED)
def test_a_network_learns_in_20_updates_what_the_plain_one_learns(neuron: str, norm: str) -> None:
    num_updates = 20 if HAS_GPU else 1
    blocks = "bireal" if judge.is_signed(neuron) else "pre"
    plain = judge.network(neuron, norm, blocks)
    num_steps = judge.steps_of(neuron)
    ours, theirs = (judge.learned(each, num_steps, num_updates) for each in (judge.fused(plain), plain))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-8, atol=1e-8)
