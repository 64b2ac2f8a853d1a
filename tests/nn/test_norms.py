"""Norms: equality with torch's own, PSP normalization and its variance law, and a slow loop for each of the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_exp.errors import UserError
from snn_exp.nn.blocks import RESIDUALS, BlockSite
from snn_exp.nn.layers import make_part_factories
from snn_exp.nn.neurons import LIF
from snn_exp.nn.norms import (
    BatchNorm,
    BatchNormThroughTime,
    GroupNorm,
    LayerNorm,
    MembraneBatchNorm,
    NeuNorm,
    Norm,
    OnlineRenorm,
    PSPNorm,
    PSPStreamNorm,
    RMSNorm,
    Site,
    TemporalAccumulatedBatchNorm,
    TemporalEffectiveBatchNorm,
    ThresholdDependentBatchNorm,
)
from snn_exp.nn.surrogates import SURROGATES
from snn_exp.nn.synapses import AlphaSynapse

SHAPE = (4, 3, 2)  # C, H, W
CHW = (2, 3, 4)
AXES = {"channel": (0, 1, 3, 4), "neuron": (0, 1), "channel_step": (1, 3, 4), "sample": (2, 3, 4)}


def psp_like(seed: int = 0, scale: float = 1.0) -> Tensor:
    """[T=5, B=3, C=4, H=3, W=2], non-negative."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(5, 3, *SHAPE, dtype=torch.float64, generator=generator) * scale


def test_bn_is_torch_batch_norm_with_time_folded_into_the_batch() -> None:
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


def test_bn_takes_features_without_space() -> None:
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
def test_sample_norms_follow_their_equations(norm: Callable[..., Any], formula: Callable[..., Any]) -> None:
    torch.testing.assert_close(norm(Site(SHAPE)).double()(psp_like()), formula(psp_like()))
    assert norm(Site(SHAPE)).statistics_over == "C,H,W"


def test_group_norm_refuses_channels_that_do_not_divide() -> None:
    with pytest.raises(UserError, match=r"num_groups=3 does not divide 4 channels") as error:
        GroupNorm(Site(SHAPE), num_groups=3)
    assert "num_groups=1" in str(error.value)


# --- PSP normalization ----------------------------------------------------------------------------


@pytest.mark.parametrize("over", AXES)
def test_psp_divides_by_the_root_of_the_second_moment_over_its_axes(over: Any) -> None:
    x = psp_like()
    moment = x.square().mean(AXES[over], keepdim=True)
    norm = PSPNorm(Site(SHAPE, num_steps=5), over=over, eps=1e-3).double()
    torch.testing.assert_close(norm(x), x / (moment + 1e-3).sqrt())
    if over == "sample":
        assert torch.equal(norm(x), norm.eval()(x)) and norm.moment.numel() == 1
    else:
        torch.testing.assert_close(norm.moment, moment)


def test_the_running_moment_starts_from_the_first_batch_and_then_moves() -> None:
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
def test_silence_stays_zero_and_a_potential_stays_non_negative(over: Any) -> None:
    x = psp_like().clone()
    x[:, :, 1] = 0
    x[0] = 0
    norm = PSPNorm(Site(SHAPE, num_steps=5), over=over).double()
    for y in (norm(x), norm.eval()(x)):
        assert torch.equal(y == 0, x == 0) and (y >= 0).all() and y.isfinite().all()
    assert not PSPNorm(Site(SHAPE, num_steps=5), over=over)(torch.zeros(5, 3, *SHAPE)).any()


def test_psp_stream_normalizes_the_stream_that_a_neuron_reads_and_the_potential_that_it_sends() -> None:
    parts = make_part_factories(
        neuron={"name": "lif"}, surrogate={"name": "atan"}, synapse={"name": "exponential"}, norm={"name": "psp_stream"},
        weight_norm={"name": "none"}, weight_quant={"name": "none"}, num_steps=5,
    )  # fmt: skip
    activation = parts.activation(SHAPE)
    read: list[Tensor] = []
    activation.neuron.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    potential = activation(30 * torch.randn(5, 3, *SHAPE, generator=torch.Generator().manual_seed(0)))
    for x in (read[0], potential):
        torch.testing.assert_close(x.square().mean((0, 1, 3, 4)), torch.ones(SHAPE[0]), rtol=1e-3, atol=1e-3)
    assert isinstance(activation.norm, PSPStreamNorm)


def test_silence_has_a_finite_gradient() -> None:
    x = torch.zeros(2, 2, 3, requires_grad=True)
    PSPNorm(Site((3,), num_steps=2))(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_moments_per_step_refuse_another_number_of_steps(training: bool) -> None:
    norm = PSPNorm(Site(SHAPE, num_steps=4), over="channel_step").double().train(training)
    with pytest.raises(UserError, match="4 steps and was given 5") as error:
        norm(psp_like())
    assert "norm.over=channel" in str(error.value)
    assert norm.num_batches == 0


def test_the_membrane_variance_is_n_sigma_squared_whatever_the_firing_rate() -> None:
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


# --- norms made for spiking networks, each against a loop written from its equation --------------

STEPS = 5


def site(**known: Any) -> Site:
    return Site(SHAPE, num_steps=STEPS, **known)


def batches() -> list[tuple[Tensor, bool]]:
    """Two batches in training, then one in eval."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, STEPS, 3, *SHAPE, dtype=torch.float64, generator=generator)
    return [(2 * x[0] + 1, True), (x[1] - 3, True), (x[2], False)]


def moved(norm: Norm) -> Norm:
    """In float64, every parameter off its start."""
    norm = norm.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.rand(parameter.shape, dtype=torch.float64, generator=generator))
    return norm


def agrees(norm: Norm, loop: Callable[..., Tensor]) -> None:
    """Outputs and gradients of the norm and of the loop, over batches; the loop carries its own running values.

    `loop(x, training, running, **parameters)` writes the new running values into the dict `running`.
    """
    running: dict[object, Any] = {}
    parameters = {name.replace(".", "_"): p.detach().clone().requires_grad_() for name, p in norm.named_parameters()}
    for x, training in batches():
        norm.train(training)
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, expected = norm(ours), loop(theirs, training, running, **parameters)
        torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)
        found = torch.autograd.grad(y.sin().sum(), [ours, *norm.parameters()])
        wanted = torch.autograd.grad(expected.sin().sum(), [theirs, *parameters.values()])
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
        assert all(a.abs().sum() > 0 for a in found)


def over_channel(v_C: Tensor) -> Tensor:
    return v_C.view(-1, 1, 1)


def normalized(x: Tensor, over: Tensor, key: object, training: bool, running: dict[object, Any], eps: float) -> Tensor:
    """x [B, C, H, W], normalized by the statistics of `over` [B', C, H, W], or by the running ones under a key."""
    mean, var = running.get(key, (torch.zeros(4).double(), torch.ones(4).double()))
    if training:
        values = over.transpose(0, 1).flatten(1)
        m, v = values.mean(1), values.var(1, correction=0)
        n = values.shape[1]
        running[key] = (0.9 * mean + 0.1 * m.detach(), 0.9 * var + 0.1 * v.detach() * n / (n - 1))
        mean, var = m, v
    return (x - over_channel(mean)) / over_channel(var + eps).sqrt()


def test_tdbn_is_batch_norm_times_the_threshold_and_the_share_of_a_branch() -> None:
    def loop(x: Tensor, training: bool, running: Any, bn_weight: Tensor, bn_bias: Tensor) -> Tensor:
        gamma = bn_weight / (0.5 / 2**0.5)  # what is learned is gamma a v_threshold
        x_hat = normalized(x.flatten(0, 1), x.flatten(0, 1), "all", training, running, 1e-5)
        y = over_channel(gamma) * 0.5 / 2**0.5 * x_hat + over_channel(bn_bias)
        return y.unflatten(0, x.shape[:2])

    norm = ThresholdDependentBatchNorm(site(v_threshold=0.5, num_summands=2))
    assert norm.bn.weight.tolist() == pytest.approx([0.5 / 2**0.5] * 4) and not norm.bn.bias.any()
    agrees(moved(norm), loop)


def test_tdbn_with_a_threshold_of_one_in_a_chain_is_batch_norm() -> None:
    ours, theirs = ThresholdDependentBatchNorm(site()).double(), BatchNorm(site()).double()
    for x, training in batches():
        assert torch.equal(ours.train(training)(x), theirs.train(training)(x))
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_bntt_normalizes_each_step_by_itself() -> None:
    def loop(x: Tensor, training: bool, running: Any, bn_weight: Tensor) -> Tensor:
        gamma = bn_weight.view(STEPS, 4)
        steps = [normalized(x[t], x[t], t, training, running, 1e-4) * over_channel(gamma[t]) for t in range(STEPS)]
        return torch.stack(steps)

    norm = BatchNormThroughTime(site())
    assert [name for name, _ in norm.named_parameters()] == ["bn.weight"], "no bias"
    agrees(moved(norm), loop)


def test_tebn_is_batch_norm_times_a_factor_for_each_step() -> None:
    def loop(x: Tensor, training: bool, running: Any, p: Tensor, bn_weight: Tensor, bn_bias: Tensor) -> Tensor:
        x_hat = normalized(x.flatten(0, 1), x.flatten(0, 1), "all", training, running, 1e-5)
        y = (over_channel(bn_weight) * x_hat + over_channel(bn_bias)).unflatten(0, x.shape[:2])
        return torch.stack([p[t] * y[t] for t in range(STEPS)])

    agrees(moved(TemporalEffectiveBatchNorm(site())), loop)


def test_tab_normalizes_each_step_over_all_steps_so_far() -> None:
    def loop(x: Tensor, training: bool, running: Any, weight: Tensor, bias: Tensor, p: Tensor) -> Tensor:
        gamma, beta = weight.view(STEPS, 4), bias.view(STEPS, 4)
        steps = []
        for t in range(STEPS):
            x_hat = normalized(x[t], x[: t + 1].flatten(0, 1), t, training, running, 1e-5)
            steps.append(p[t] ** 2 * (over_channel(gamma[t]) * x_hat + over_channel(beta[t])))
        return torch.stack(steps)

    agrees(moved(TemporalAccumulatedBatchNorm(site())), loop)


def test_tab_survives_an_offset_far_larger_than_the_spread() -> None:
    x = torch.randn(STEPS, 8, 4) + 3000
    y = TemporalAccumulatedBatchNorm(Site((4,), STEPS))(x)
    expected = TemporalAccumulatedBatchNorm(Site((4,), STEPS)).double()(x.double())
    torch.testing.assert_close(y.double(), expected, rtol=0.01, atol=0.01)


def test_tab_keeps_finite_statistics_of_a_single_value() -> None:
    norm = TemporalAccumulatedBatchNorm(Site((4,), 2))
    norm(torch.ones(2, 1, 4))
    assert norm.running_var.isfinite().all()


def test_mpbn_after_the_weights_is_batch_norm() -> None:
    ours, theirs = MembraneBatchNorm(site()).double(), BatchNorm(site()).double()
    for x, training in batches():
        assert torch.equal(ours.train(training)(x), theirs.train(training)(x))


def test_mpbn_on_the_membrane_normalizes_every_step_before_it_fires_and_leaves_the_reset_alone() -> None:
    neuron = LIF(surrogate=SURROGATES["sigmoid"]()).double()
    neuron.membrane_norm = norm = moved(MembraneBatchNorm(site(placement="membrane")))
    weight, bias = (p.detach().clone().requires_grad_() for p in norm.parameters())
    running: dict[object, Any] = {}
    for x, training in batches():
        neuron.train(training)
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        s, v, expected = neuron(ours), torch.zeros_like(x[0]), []
        for t in range(STEPS):
            h = v + (theirs[t] - v) / 2
            u = over_channel(weight) * normalized(h, h, "shared", training, running, 1e-5) + over_channel(bias)
            expected.append(neuron.surrogate.spike(u - 1))
            v = (1 - expected[-1]) * h
        assert torch.equal(s, torch.stack(expected)) and 0 < s.mean() < 1
        scale = torch.linspace(0.5, 2, s.numel(), dtype=s.dtype).view_as(s)
        found = torch.autograd.grad((s * scale).sum(), [ours, *norm.parameters()])
        wanted = torch.autograd.grad((torch.stack(expected) * scale).sum(), [theirs, weight, bias])
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b)
    mean, var = running["shared"]
    torch.testing.assert_close(norm.bn.running_mean, mean)
    torch.testing.assert_close(norm.bn.running_var, var)
    assert norm.bn.num_batches_tracked == 2 * STEPS


def test_neunorm_inhibits_each_position_by_the_recent_spikes_of_its_channels() -> None:
    def loop(s: Tensor, training: bool, running: Any, U: Tensor) -> Tensor:
        z, steps = torch.zeros_like(s[0]), []
        for t in range(STEPS):
            for f in range(4):
                z = z.clone()
                z[:, f] = 0.9 * z[:, f] + 0.1 / 4**2 * sum(s[t, :, g] for g in range(4))
            steps.append(s[t] - U * z)
        return torch.stack(steps)

    norm = NeuNorm(site())
    assert norm.U.shape == SHAPE
    agrees(moved(norm), loop)
    assert not NeuNorm(site())(torch.zeros(STEPS, 3, *SHAPE)).any(), "silence stays silent"


class Renormalize(torch.autograd.Function):
    """Forward the running statistics, backward a batch normalization's derivative, written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        ctx.save_for_backward(x, var)
        return (x - over_channel(mean)) / over_channel(var + 1e-5).sqrt()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        x, running_var = ctx.saved_tensors
        axes = (0, 2, 3)
        mean, var = x.mean(axes, True), x.var(axes, correction=0, keepdim=True)
        x_hat = (x - mean) / (var + 1e-5).sqrt()
        through = (g - g.mean(axes, True) - x_hat * (g * x_hat).mean(axes, True)) / (var + 1e-5).sqrt()
        return through * ((var + 1e-5) / over_channel(running_var + 1e-5)).sqrt(), None, None


def test_osr_goes_forward_by_running_statistics_and_backward_by_the_step_s_own() -> None:
    def loop(x: Tensor, training: bool, running: Any, weight: Tensor, bias: Tensor) -> Tensor:
        steps = []
        for t in range(STEPS):
            m, v = x[t].detach().mean((0, 2, 3)), x[t].detach().var((0, 2, 3), correction=0)
            if training:
                mean, var = running.get("all", (m, v))
                running["all"] = (0.9 * mean + 0.1 * m, 0.9 * var + 0.1 * v)
                x_hat = Renormalize.apply(x[t], *running["all"])
            else:
                mean, var = running["all"]
                x_hat = (x[t] - over_channel(mean)) / over_channel(var + 1e-5).sqrt()
            steps.append(over_channel(weight) * x_hat + over_channel(bias))
        return torch.stack(steps)

    norm = moved(OnlineRenorm(site()))
    agrees(norm, loop)
    assert norm.num_updates == 2 * STEPS


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", [BatchNormThroughTime, TemporalEffectiveBatchNorm, TemporalAccumulatedBatchNorm])
def test_norms_with_something_for_each_step_refuse_another_number_of_steps(
    norm: Callable[..., Any], training: bool
) -> None:
    part = norm(Site(SHAPE, num_steps=4)).double().train(training)
    before = {name: value.clone() for name, value in part.state_dict().items()}
    with pytest.raises(UserError) as error:
        part(psp_like())
    assert str(error.value) == (
        f"{norm.__name__} keeps something of its own for each of 4 steps and was given 5; type encoding.num_steps=4, or "
        f"norm=bn, which treats all steps alike"
    )
    assert all(torch.equal(value, before[name]) for name, value in part.state_dict().items())


@pytest.mark.parametrize(
    ("residual", "starts"),
    [
        ({"name": "pre"}, {"activation1.norm": 1, "activation2.norm": 1}),
        ({"name": "bireal"}, {"activation1.norm": 1, "activation2.norm": 1}),
        ({"name": "none"}, {"norm1": 1, "norm2": 1}),
        ({"name": "post"}, {"norm1": 1, "norm2": 0.5**0.5}),
        ({"name": "post", "shortcut": "conv"}, {"norm1": 1, "norm2": 0.5**0.5, "shortcut_norm": 0.5**0.5}),
    ],
)
def test_only_where_branches_meet_before_a_neuron_is_a_norm_told_of_two(
    residual: dict[str, Any], starts: dict[str, Any]
) -> None:
    parts = make_part_factories(
        neuron={"name": "lif", "v_threshold": 0.5}, surrogate={"name": "atan"}, synapse={"name": "identity"},
        norm={"name": "tdbn"}, weight_norm={"name": "none"}, weight_quant={"name": "none"}, num_steps=4,
    )  # fmt: skip
    block = RESIDUALS.make(residual, BlockSite(parts, (4, 4, 4), 8, 2, 1))
    found = {
        name: part.bn.weight[0].item() / 0.5 for name, part in block.named_modules() if isinstance(part, BatchNorm)
    }
    assert found == pytest.approx(starts)
