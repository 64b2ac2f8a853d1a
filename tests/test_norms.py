"""Norms: equality with torch's own, the running moments of PSP normalization, and its variance law."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snn_exp.errors import UserError
from snn_exp.norms import BatchNorm, GroupNorm, LayerNorm, PSPNorm, RMSNorm, Site
from snn_exp.synapses import AlphaSynapse

SHAPE = (4, 3, 2)  # C, H, W
CHW = (2, 3, 4)
AXES = {"channel": (0, 1, 3, 4), "neuron": (0, 1), "channel_step": (1, 3, 4), "sample": (2, 3, 4)}


def psp_like(seed: int = 0, scale: float = 1.0) -> Tensor:
    """[T=5, B=3, C=4, H=3, W=2], non-negative."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(5, 3, *SHAPE, dtype=torch.float64, generator=generator) * scale


def test_bn_is_torch_batch_norm_with_time_folded_into_the_batch():
    ours, theirs = BatchNorm(Site(SHAPE)).double(), nn.BatchNorm2d(4).double()
    with torch.no_grad():
        for part in (ours.bn, theirs):
            part.weight.copy_(torch.arange(1, 5))
            part.bias.copy_(torch.arange(4))
    for seed, training in ((0, True), (1, True), (2, False)):
        ours.train(training), theirs.train(training)
        x, z = (psp_like(seed, 1.0 + seed).requires_grad_() for _ in range(2))
        y, expected = ours(x), theirs(z.flatten(0, 1)).unflatten(0, (5, 3))
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        y.sin().sum().backward(), expected.sin().sum().backward()
        torch.testing.assert_close(x.grad, z.grad, rtol=1e-10, atol=1e-12)
        for mine, other in zip(ours.bn.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.bn.state_dict()[key], value)
    assert theirs.running_mean.abs().sum() > 0


def test_bn_takes_features_without_space():
    x = torch.randn(4, 8, 3, dtype=torch.float64)
    expected = nn.BatchNorm1d(3).double()(x.flatten(0, 1)).unflatten(0, (4, 8))
    torch.testing.assert_close(BatchNorm(Site((3,))).double()(x), expected)
    assert BatchNorm(Site((3,))).statistics_over == "T,B"


@pytest.mark.parametrize(
    ("norm", "formula"),
    [
        (
            LayerNorm,
            lambda x: (x - x.mean(CHW, True)) / (x.var(CHW, False, keepdim=True) + 1e-5).sqrt(),
        ),
        (RMSNorm, lambda x: x / (x.square().mean(CHW, True) + 1e-5).sqrt()),
    ],
)
def test_sample_norms_follow_their_equations(norm, formula):
    torch.testing.assert_close(norm(Site(SHAPE)).double()(psp_like()), formula(psp_like()))
    assert norm(Site(SHAPE)).statistics_over == "C,H,W"


def test_group_norm_refuses_channels_that_do_not_divide():
    with pytest.raises(UserError, match=r"num_groups=3 does not divide 4 channels") as error:
        GroupNorm(Site(SHAPE), num_groups=3)
    assert "num_groups=1" in str(error.value)


# --- PSP normalization ----------------------------------------------------------------------------


@pytest.mark.parametrize("over", AXES)
def test_psp_divides_by_the_root_of_the_second_moment_over_its_axes(over):
    x = psp_like()
    moment = x.square().mean(AXES[over], keepdim=True)
    norm = PSPNorm(Site(SHAPE, num_steps=5), over=over, eps=1e-3).double()
    torch.testing.assert_close(norm(x), x / (moment + 1e-3).sqrt())
    if over == "sample":
        assert torch.equal(norm(x), norm.eval()(x)) and norm.moment.numel() == 1
    else:
        torch.testing.assert_close(norm.moment, moment)


def test_the_running_moment_starts_from_the_first_batch_and_then_moves():
    norm = PSPNorm(Site(SHAPE), momentum=0.25).double()
    first, second, third = (psp_like(seed, 1.0 + seed) for seed in range(3))
    m1, m2, m3 = (x.square().mean(AXES["channel"], keepdim=True) for x in (first, second, third))
    norm(first)
    torch.testing.assert_close(norm.moment, m1)
    norm(second)
    torch.testing.assert_close(norm.moment, 0.75 * m1 + 0.25 * m2)
    norm(third)
    expected = 0.75 * (0.75 * m1 + 0.25 * m2) + 0.25 * m3
    torch.testing.assert_close(norm.moment, expected)
    norm.eval()
    torch.testing.assert_close(norm(first), first / (expected + 1e-5).sqrt())
    torch.testing.assert_close(norm.moment, expected)  # eval leaves it alone
    assert norm.num_batches == 3


@pytest.mark.parametrize("over", AXES)
def test_silence_stays_zero_and_a_potential_stays_non_negative(over):
    x = psp_like().clone()
    x[:, :, 1] = 0
    x[0] = 0
    norm = PSPNorm(Site(SHAPE, num_steps=5), over=over).double()
    for y in (norm(x), norm.eval()(x)):
        assert torch.equal(y == 0, x == 0) and (y >= 0).all() and y.isfinite().all()
    assert not PSPNorm(Site(SHAPE, num_steps=5), over=over)(torch.zeros(5, 3, *SHAPE)).any()


def test_silence_has_a_finite_gradient():
    x = torch.zeros(2, 2, 3, requires_grad=True)
    PSPNorm(Site((3,), num_steps=2))(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_moments_per_step_refuse_another_number_of_steps(training):
    norm = PSPNorm(Site(SHAPE, num_steps=4), over="channel_step").double().train(training)
    with pytest.raises(UserError, match="4 steps and was given 5") as error:
        norm(psp_like())
    assert "norm.over=channel" in str(error.value)
    assert norm.num_batches == 0


def test_the_membrane_variance_is_n_sigma_squared_whatever_the_firing_rate():
    num_inputs, num_units, num_steps, batch = 512, 1500, 300, 4
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(num_units, num_inputs, generator=generator) / num_inputs**0.5
    plain, normed = [], []
    for rate in (0.005, 0.02, 0.1, 0.5):
        spikes = (torch.rand(num_steps, batch, num_inputs, generator=generator) < rate).float()
        psp = AlphaSynapse(tau_s=10.0)(spikes)
        plain.append((psp @ weight.T).var().item())
        normed.append((PSPNorm(Site((num_inputs,)))(psp) @ weight.T).var().item())
    assert plain == sorted(plain) and plain[-1] > 100 * plain[0]
    assert all(0.85 <= variance <= 1.15 for variance in normed), normed
