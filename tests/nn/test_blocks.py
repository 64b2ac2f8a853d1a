"""Residual blocks against their equations, written out by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.nn.blocks import RESIDUALS, Block, BlockSite
from snn_exp.nn.layers import PartFactories, make_part_factories
from snn_exp.nn.networks import ResNet
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.norms import Site
from snn_exp.nn.shortcuts import PoolDup, RPReLU
from snn_exp.training.optim import AdamW

T, B, C, H, W = 3, 2, 2, 5, 5


def parts(**groups: str) -> PartFactories:
    chosen = {"neuron": "if", "surrogate": "atan", "synapse": "exponential", "norm": "bn"}
    names = {**chosen, "weight_norm": "none", "weight_quant": "none", **groups}
    return make_part_factories(num_steps=T, **{group: {"name": name} for group, name in names.items()})


def make_block(config: dict[str, Any], out_channels: int = C, stride: int = 1, norm: str = "bn") -> Block:
    """In eval and float64, every weight, gain and statistic drawn anew."""
    block = RESIDUALS.make(config, BlockSite(parts(norm=norm), (C, H, W), out_channels, stride, 4)).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in block.state_dict().items():
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator, dtype=value.dtype)
                value.copy_(noise.abs() + 0.5 if name.endswith(("running_var", "bn.weight")) else noise * 0.6)
    return block


def stream_of(kind: str) -> Tensor:
    x = torch.randn(T, B, C, H, W, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x if kind == "real" else (x > 0.3).double()


def n(x: Tensor) -> Tensor:
    """Integrate-and-fire with hard reset."""
    v = torch.zeros_like(x[0])
    spikes = []
    for x_t in x:
        v = v + x_t
        spikes.append((v >= 1).double())
        v = v * (1 - spikes[-1])
    return torch.stack(spikes)


def psp(s: Tensor) -> Tensor:
    """The exponential synapse."""
    return torch.stack([sum(0.5 ** (t - k) * s[k] for k in range(t + 1)) for t in range(T)])


def conv(layer: Any, x: Tensor, stride: int = 1) -> Tensor:
    padding = layer.weight.shape[-1] // 2
    return torch.stack([functional.conv2d(x_t, layer.weight, None, stride, padding) for x_t in x])


def norm(layer: Any, x: Tensor) -> Tensor:
    mean, var, gain, bias = (
        value.view(-1, 1, 1) for value in (layer.bn.running_mean, layer.bn.running_var, layer.bn.weight, layer.bn.bias)
    )
    return gain * (x - mean) / torch.sqrt(var + 1e-5) + bias


def average(x: Tensor) -> Tensor:
    """Of the windows of 2 x 2, and of what is left of them at the border; each channel twice."""
    rows = [x[..., h : h + 2, w : w + 2].mean((-2, -1)) for h in (0, 2, 4) for w in (0, 2, 4)]
    return torch.stack(rows, -1).view(*x.shape[:3], 3, 3).repeat(1, 1, 2, 1, 1)


def greatest(x: Tensor) -> Tensor:
    rows = [x[..., h : h + 2, w : w + 2].amax((-2, -1)) for h in (0, 2, 4) for w in (0, 2, 4)]
    return torch.stack(rows, -1).view(*x.shape[:3], 3, 3).repeat(1, 1, 2, 1, 1)


def pre(b: Any, x: Tensor, stride: int, around: Any) -> Tensor:
    first = psp(n(norm(b.activation1.norm, x)))
    branch = conv(b.conv2, psp(n(norm(b.activation2.norm, conv(b.conv1, first, stride)))))
    return branch + around(x, first)


def bireal(b: Any, x: Tensor, stride: int, around: Any) -> Tensor:
    first = psp(n(norm(b.activation1.norm, x)))
    x = around(x, first) + conv(b.conv1, first, stride)
    return x + conv(b.conv2, psp(n(norm(b.activation2.norm, x))))


def ms(b: Any, x: Tensor, stride: int, around: Any) -> Tensor:
    first = psp(n(x))
    branch = norm(b.norm2, conv(b.conv2, psp(n(norm(b.activation2.norm, conv(b.conv1, first, stride))))))
    return around(x, first) + branch


def second_current(b: Any, s: Tensor, stride: int) -> Tensor:
    return norm(b.norm2, conv(b.conv2, psp(n(norm(b.norm1, conv(b.conv1, psp(s), stride))))))


def post(b: Any, s: Tensor, stride: int, around: Any) -> Tensor:
    return n(second_current(b, s, stride) + around(s, psp(s)))


def plain(b: Any, s: Tensor, stride: int, around: Any) -> Tensor:
    return n(second_current(b, s, stride))


def sew(g: Any) -> Any:
    return lambda b, s, stride, around: g(n(second_current(b, s, stride)), around(s, psp(s)))


EQUATIONS = {
    "pre": pre,
    "ms": ms,
    "bireal": bireal,
    "post": post,
    "sew_add": sew(lambda a, s: a + s),
    "sew_and": sew(lambda a, s: ((a == 1) & (s == 1)).double()),
    "sew_iand": sew(lambda a, s: ((a == 0) & (s == 1)).double()),
    "none": plain,
}
# what goes around a block of stride 2: of the block, the stream and the filtered spikes that W1 reads
SHORTCUTS = {
    ("pre", "conv"): lambda b, x, first: conv(b.shortcut, first, 2),
    ("ms", "conv"): lambda b, x, first: norm(b.shortcut_norm, conv(b.shortcut, first, 2)),
    ("bireal", "conv"): lambda b, x, first: conv(b.shortcut, first, 2),
    ("post", "conv"): lambda b, x, first: norm(b.shortcut_norm, conv(b.shortcut, first, 2)),
    **{
        (f"sew_{g}", "conv"): lambda b, x, first: n(norm(b.shortcut_norm, conv(b.shortcut, first, 2)))
        for g in ("add", "and", "iand")
    },
    **{(name, "avgpool_dup"): lambda b, x, first: average(x) for name in ("pre", "ms", "bireal", "post")},
    **{(f"sew_{g}", "maxpool_dup"): lambda b, x, first: greatest(x) for g in ("add", "and", "iand")},
    ("none", None): None,
}


@pytest.mark.parametrize("name", list(RESIDUALS))
def test_a_block_is_its_equation(name: str) -> None:
    block, x = make_block({"name": name}), stream_of(RESIDUALS[name].stream)
    y = block(x)
    torch.testing.assert_close(y, EQUATIONS[name](block, x, 1, lambda stream, first: stream), rtol=1e-12, atol=1e-12)
    assert not torch.equal(y, x) and y.any()


@pytest.mark.parametrize("name", ["pre", "bireal"])
def test_a_stream_activation_acts_behind_every_addition(name: str) -> None:
    x = stream_of("real")
    plain, bent = (make_block({"name": name, "activation": a}) for a in ("none", "rprelu"))
    bent.load_state_dict(plain.state_dict(), strict=False)
    activations = [module for module in bent.modules() if isinstance(module, RPReLU)]
    with torch.no_grad():
        for activation in activations:
            activation.shift_in.fill_(0.2), activation.slope.fill_(0.5), activation.shift_out.fill_(-0.1)
    if name == "pre":
        assert len(activations) == 1
        torch.testing.assert_close(bent(x), rprelu(plain(x)))
        return
    assert len(activations) == 2
    between = rprelu(x + conv(plain.conv1, psp(n(norm(plain.activation1.norm, x)))))
    after = rprelu(between + conv(plain.conv2, psp(n(norm(plain.activation2.norm, between)))))
    torch.testing.assert_close(bent(x), after)


def test_a_stream_activation_bends_each_channel_by_its_own_and_is_no_weight_to_decay() -> None:
    activation = RPReLU(2)
    with torch.no_grad():
        activation.shift_in[1], activation.slope[1], activation.shift_out[1] = 1.0, 0.5, -0.25
    x = torch.tensor([[-2.0, 3.0], [-2.0, 3.0]]).view(1, 1, 2, 1, 2)
    assert activation(x).flatten().tolist() == [-0.5, 3.0, -1.75, 1.75]
    optimizer, _ = AdamW(weight_decay=0.1).build(activation, 1)
    assert [len(group["params"]) for group in optimizer.param_groups if group["weight_decay"]] == [0]


def rprelu(x: Tensor) -> Tensor:
    return torch.where(x > 0.2, x - 0.2, 0.5 * (x - 0.2)) - 0.1


def test_the_stream_of_a_pre_block_decays() -> None:
    x = stream_of("real")
    whole, decayed = (make_block({"name": "pre", "stream_decay": decay})(x) for decay in (1.0, 0.75))
    torch.testing.assert_close(whole - decayed, 0.25 * x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "shortcut"), SHORTCUTS)
def test_a_block_that_halves_the_size_is_its_equation_with_its_shortcut(name: str, shortcut: str | None) -> None:
    config = {"name": name, "shortcut": shortcut} if shortcut else {"name": name}
    block, x = make_block(config, 2 * C, stride=2), stream_of(RESIDUALS[name].stream)
    around: Callable[..., Tensor] = SHORTCUTS[name, shortcut]
    y = block(x)
    expected = EQUATIONS[name](block, x, 2, lambda stream, first: around(block, stream, first))
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    assert y.shape == (T, B, *block.out_shape) == (T, B, 2 * C, 3, 3) and y.any()


@pytest.mark.parametrize("name", list(RESIDUALS))
def test_a_block_hands_on_what_its_stream_says(name: str) -> None:
    stream = RESIDUALS[name].stream
    shortcuts = [shortcut for block, shortcut in SHORTCUTS if block == name and shortcut != "avgpool_dup"]
    for shortcut in shortcuts:
        config = {"name": name, "shortcut": shortcut} if shortcut else {"name": name}
        x = stream_of(stream)
        values = set(make_block(config, 2 * C, stride=2)(x).unique().tolist())
        allowed = {"spikes": {0.0, 1.0}, "counts": {0.0, 1.0, 2.0}}.get(stream, values)
        assert values <= allowed and len(values) == len(allowed)


def test_sew_add_goes_on_counting() -> None:
    block = make_block({"name": "sew_add"})
    assert block(block(stream_of("counts"))).max() == 3


@pytest.mark.parametrize("norm", ["bn", "layer", "group", "rms"])
def test_an_ms_block_begins_as_its_shortcut_where_the_norm_has_a_gain(norm: str) -> None:
    x = stream_of("real").repeat(1, 1, 4, 1, 1)
    block = RESIDUALS.make({"name": "ms"}, BlockSite(parts(norm=norm), (4 * C, H, W), 4 * C, 1, 4)).double()
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    gains = [p for name, p in block.norm2.named_parameters() if name.endswith("weight")]
    assert gains and all(gain.grad.any() for gain in gains), "the branch cannot come to life"


@pytest.mark.parametrize("norm", ["none", "psp"])
def test_without_a_gain_the_last_weights_of_an_ms_block_start_smaller(norm: str) -> None:
    torch.manual_seed(0)
    block = RESIDUALS.make({"name": "ms"}, BlockSite(parts(norm=norm), (64, 4, 4), 64, 1, 16))
    gains = [conv.weight.std().item() * (64 * 9) ** 0.5 for conv in (block.conv1, block.conv2)]
    assert gains == pytest.approx([1, 1 / 4], rel=0.02)


@pytest.mark.parametrize(("name", "summands"), [("ms", [1, 2, 2]), ("sew_add", [1, 1, 1]), ("none", [1, 1])])
def test_a_norm_is_told_how_many_branches_are_summed_before_the_next_neuron(name: str, summands: list[int]) -> None:
    sites: list[Site] = []
    made_of = parts()
    spied = dataclasses.replace(made_of, make_norm=lambda site: sites.append(site) or made_of.make_norm(site))
    config = {"name": name} if name == "none" else {"name": name, "shortcut": "conv"}
    RESIDUALS.make(config, BlockSite(spied, (C, H, W), 2 * C, 2, 4))
    assert [site.num_summands for site in sites if site.placement == "current"] == summands


def test_max_pooling_keeps_spikes_and_average_pooling_does_not() -> None:
    s = stream_of("spikes")
    assert set(PoolDup("max", 2, 2)(s).unique().tolist()) == {0.0, 1.0}
    assert len(PoolDup("avg", 2, 2)(s).unique()) > 2


@pytest.mark.parametrize(
    ("name", "readout", "stem", "head", "num_neurons"),
    [
        ("pre", None, ["conv"], ["norm"], 6),
        ("pre", "spikes", ["conv"], ["norm", "neuron", "filter"], 7),
        ("ms", None, ["conv", "norm"], ["neuron", "filter"], 7),
        ("ms", "membrane", ["conv", "norm"], ["norm"], 6),
        ("sew_add", None, ["conv", "norm", "neuron"], ["synapse"], 9),  # two in its shortcuts
        ("post", "membrane", ["conv", "norm", "neuron"], ["synapse"], 7),
    ],
)
def test_a_network_begins_and_ends_as_its_blocks_ask(
    name: str, readout: str | None, stem: list[str], head: list[str], num_neurons: int
) -> None:
    def children(module: nn.Module) -> list[str]:
        return [child for child, _ in module.named_children()]

    network = ResNet(parts(), (1, 8, 8), 10, 8, {"name": name}, width=4, readout=readout)  # type: ignore[arg-type]
    assert children(network.stem) == stem
    assert children(network.readout) == head
    assert sum(isinstance(module, Neuron) for module in network.modules()) == num_neurons
    assert network(torch.rand(T, B, 1, 8, 8)).shape == (B, 10)
