"""Encodings against their definitions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from snn_exp.errors import UserError
from snn_exp.nn.encodings import ENCODINGS, Direct, Frames, Latency, Rate


def pixels() -> Tensor:
    """[2, 3, 4, 5] in [0, 1], black and white among them."""
    return torch.linspace(0, 1, 120)[torch.randperm(120, generator=torch.Generator().manual_seed(0))].view(2, 3, 4, 5)


def test_direct_standardizes_and_repeats() -> None:
    y = Direct(0.3, 0.2, num_steps=4)(pixels())
    assert y.shape == (4, 2, 3, 4, 5)
    for step in y:
        torch.testing.assert_close(step, (pixels() - 0.3) / 0.2)


def test_direct_gives_the_training_pixels_mean_zero_and_deviation_one() -> None:
    x = pixels()
    y = Direct(x.mean().item(), x.std().item())(x)
    assert y.shape[0] == 1
    assert y.mean().item() == pytest.approx(0, abs=1e-6)
    assert y.std().item() == pytest.approx(1, rel=1e-6)


def test_direct_without_standardize_leaves_the_pixels() -> None:
    y = Direct(0.3, 0.2, standardize=False, num_steps=3)(pixels())
    assert torch.equal(y, pixels().expand(3, 2, 3, 4, 5))


def test_the_rate_of_the_random_spikes_is_the_pixel() -> None:
    torch.manual_seed(0)
    x = torch.linspace(0, 1, 9).view(1, 1, 3, 3)
    y = Rate(num_steps=2000)(x)
    assert y.shape == (2000, 1, 1, 3, 3)
    assert set(y.unique().tolist()) == {0, 1}
    standard_error = (x * (1 - x) / 2000).sqrt()
    assert ((y.mean(0) - x).abs() <= 3 * standard_error).all(), "black never and white always"


def test_rate_spikes_are_drawn_independently_at_each_step() -> None:
    torch.manual_seed(0)
    y = Rate(num_steps=2000)(torch.full((1, 1, 1, 50), 0.5)).flatten(1) - 0.5
    together = (y[1:] * y[:-1]).mean().item() / 0.25
    assert abs(together) < 3 / (1999 * 50) ** 0.5


def test_rate_ignores_the_mean_and_deviation_of_the_pixels() -> None:
    torch.manual_seed(3)
    plain = Rate(num_steps=5)(pixels())
    torch.manual_seed(3)
    assert torch.equal(Rate(0.4, 0.1, num_steps=5)(pixels()), plain)


@pytest.mark.parametrize("num_steps", [2, 3, 4, 9])
def test_latency_gives_each_pixel_one_spike_the_brighter_the_earlier(num_steps: int) -> None:
    y = Latency(0.3, 0.2, num_steps=num_steps)(pixels())
    assert y.shape == (num_steps, 2, 3, 4, 5)
    assert set(y.unique().tolist()) == {0, 1}
    assert torch.equal(y.sum(0), torch.ones_like(pixels()))
    first_to_last = y.argmax(0).flatten()[pixels().flatten().argsort(descending=True)]
    assert (first_to_last.diff() >= 0).all()
    assert first_to_last[0] == 0 and first_to_last[-1] == num_steps - 1
    assert len(first_to_last.unique()) == num_steps, "every step is used"


def test_latency_spikes_at_the_steps_computed_by_hand() -> None:
    x = torch.tensor([1.0, 0.8, 0.5, 0.3, 0.0]).view(1, 1, 1, 5)
    assert Latency(num_steps=5)(x).argmax(0).flatten().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("steps", [{"num_steps": 1}, {}])
def test_latency_refuses_a_single_step(steps: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"encoding=latency needs encoding\.num_steps >= 2, not 1"):
        Latency(**steps)


@pytest.mark.parametrize("name", [name for name in ENCODINGS if not ENCODINGS[name].has_time])
def test_an_encoding_of_images_adds_the_time_axis_in_front_and_keeps_the_dtype(name: str) -> None:
    y = ENCODINGS[name](num_steps=3)(pixels().double())
    assert y.shape == (3, 2, 3, 4, 5)
    assert y.dtype == torch.float64


def test_frames_are_the_steps() -> None:
    x = pixels().unsqueeze(1) * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1, 1)
    y = Frames(0.3, 0.2, num_steps=3)(x)
    assert y.shape == (3, 2, 3, 4, 5)
    for t in range(3):
        assert torch.equal(y[t], pixels() * (t + 1))
