"""The gradient of a convolution's input by fewer products, against torch's in float64, which is the judge."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from snn_exp.nn.kernels import build, input_gradient
from snn_exp.nn.kernels.input_gradient import is_faster_than_torch

try:
    _, MACHINE = build.toolchain()
except build.Unavailable as reason:
    pytest.skip(f"the kernels cannot be built: {reason}", allow_module_level=True)
if "__AVX2__ 1" not in MACHINE:
    pytest.skip("this processor has no form of it", allow_module_level=True)

Shape = tuple[int, int, int, int, int, int]  # N, C, O, H, W, stride
SHAPES: list[Shape] = [
    (3, 32, 32, 14, 14, 1), (1, 64, 48, 1, 1, 1), (2, 48, 32, 7, 9, 1), (5, 80, 64, 8, 5, 1), (2, 32, 144, 2, 30, 1),
    (3, 16, 32, 14, 14, 2), (1, 64, 16, 1, 1, 2), (2, 48, 16, 7, 9, 2), (5, 80, 64, 8, 5, 2), (1, 16, 32, 3, 60, 2),
    (1, 16, 16, 2, 1, 2),
]  # fmt: skip


def drawn(shape: Shape, memory_format: torch.memory_format = torch.channels_last) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    N, C, num_out, H, W, stride = shape
    grad_y = torch.randn(N, num_out, (H - 1) // stride + 1, (W - 1) // stride + 1)
    return grad_y.to(memory_format=memory_format), torch.randn(num_out, C, 3, 3).to(memory_format=memory_format)


def judged(shape: Shape, grad_y: Tensor, weight: Tensor) -> Tensor:
    N, C, _, H, W, stride = shape
    x = torch.zeros(N, C, H, W, dtype=torch.float64, requires_grad=True)
    y = functional.conv2d(x, weight.double(), stride=stride, padding=1)
    return torch.autograd.grad(y, x, grad_y.double())[0]


def ours(shape: Shape, grad_y: Tensor, weight: Tensor) -> Tensor:
    assert is_faster_than_torch(grad_y, weight, shape[-1], 1)
    return input_gradient.input_gradient(grad_y, weight, *shape[3:], groups=1)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_as_near_to_float64_as_a_dense_convolution_in_float32(
    shape: Shape, memory_format: torch.memory_format
) -> None:
    grad_y, weight = drawn(shape, memory_format)
    found, expected = ours(shape, grad_y, weight), judged(shape, grad_y, weight)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 2e-6 * expected.abs().max()
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif("__AVX512F__ 1" not in MACHINE, reason="AVX-512 alone has two forms")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_processor_with_narrower_vectors_gets_the_same_bits(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ours(shape, *drawn(shape))
    narrow = build.library("input_gradient.cpp", ("FORM=256",), "float", "float")
    monkeypatch.setattr(input_gradient, "library", lambda *_: narrow)
    assert torch.equal(ours(shape, *drawn(shape)), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_it_does_not_depend_on_the_number_of_threads(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (9, 32, 48, 13, 11, stride)
    expected = ours(shape, *drawn(shape))
    for threads in (2, 3, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert torch.equal(ours(shape, *drawn(shape)), expected)


def test_what_has_no_form_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, grad_y = torch.randn(32, 32, 3, 3), torch.randn(2, 32, 5, 5)
    assert is_faster_than_torch(grad_y, weight, 1, 1)
    others = [
        (grad_y.double(), weight.double(), 1, 1), (grad_y, weight[:, :24], 1, 1), (grad_y[:, :24], weight[:24], 1, 1),
        (grad_y, weight[..., :1, :1], 1, 1), (grad_y, weight, 3, 1), (grad_y, weight[:, :16], 1, 2),
    ]  # fmt: skip
    assert not any(is_faster_than_torch(*other) for other in others)
    monkeypatch.setattr(input_gradient, "_vectors", lambda: 256)
    thin = weight[:16, :16]
    assert is_faster_than_torch(grad_y, weight, 1, 1) and not is_faster_than_torch(grad_y[:, :16], thin, 1, 1)
    assert is_faster_than_torch(grad_y[:, :16], thin, 2, 1)
    monkeypatch.setattr(input_gradient, "_vectors", lambda: 0)
    assert not is_faster_than_torch(grad_y, weight, 1, 1)


def test_where_it_cannot_be_built_torchs_own_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise build.Unavailable("there is no C++ compiler")

    monkeypatch.setattr(input_gradient, "library", fails)
    assert input_gradient._vectors.__wrapped__() == 0
    assert input_gradient._vectors(), "and here it can be"
