"""The plain path as the judge of the fused passes, wherever they run; checks raise AssertionError."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.nn.kernels import Form, form_of, forms, fuse
from snn_exp.nn.kernels.filtered import filtered
from snn_exp.nn.kernels.fused import fire
from snn_exp.nn.layers import make_part_factories
from snn_exp.nn.networks import Network, build_network
from snn_exp.nn.neurons import NEURONS, Neuron
from snn_exp.nn.norms import NORMS, BatchNorm, PSPNorm, Site
from snn_exp.nn.surrogates import SURROGATES
from snn_exp.nn.synapses import SYNAPSES
from snn_exp.testing import contracts
from tests.nn.test_activation_checkpointing import defaults

FILTERS = ("identity", "exponential", "alpha", "alpha-slayer")
FUSED = [name for name in NEURONS if NEURONS[name] in forms.NEURONS_WITH_A_FORM]
NORMED = ("none", *(name for name in NORMS if NORMS[name] in forms.NORMS_WITH_A_FORM))

shapes = st.tuples(
    st.integers(1, 4), st.integers(2, 4), st.integers(1, 5), st.lists(st.integers(1, 4), max_size=2)
).map(lambda s: (*s[:3], *s[3]))


def cases() -> Iterator[Any]:
    """Every variant of a fused neuron, with its surrogate; and every surrogate."""
    for name in FUSED:
        option = NEURONS.options()[name]
        for parameters in contracts.variants(option):
            if parameters.get("refractory") != "slayer":
                changed = [
                    f"{key}={value}" for key, value in parameters.items() if value != defaults(NEURONS, name)[key]
                ]
                surrogate = str(option.traits["default_surrogate"])
                yield pytest.param({"name": name, **parameters}, surrogate, id="-".join([name, *changed]))
    for surrogate in forms.KERNELS:
        yield pytest.param({"name": "lif"}, surrogate, id=f"lif-{surrogate}")


def own_surrogate(neuron: str) -> str:
    return str(NEURONS.options()[neuron].traits["default_surrogate"])


def is_signed(neuron: str) -> bool:
    return NEURONS.options()[neuron].traits["emits"] == "signs"


def steps_of(neuron: str) -> int:
    return 1 if NEURONS.options()[neuron].traits["single_step"] else 2


def made(neuron: dict[str, Any], surrogate: str, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Neuron, Form]:
    part = NEURONS.make(neuron, shape[2:], SURROGATES.make({"name": surrogate}), shape[0]).to(dtype)
    form = form_of(part)
    assert isinstance(form, Form)
    return part, form


def norm_like(name: str, x_TBN: Tensor) -> BatchNorm | None:
    """In training, with a gain and a bias that differ from channel to channel."""
    if name == "none":
        return None
    norm = NORMS.make({"name": name}, Site(tuple(x_TBN.shape[2:]), v_threshold=0.7)).to(x_TBN.dtype)
    assert isinstance(norm, BatchNorm)
    with torch.no_grad():
        norm.bn.weight.mul_(1 + torch.rand(x_TBN.shape[2]))
        norm.bn.bias.copy_(torch.randn(x_TBN.shape[2]))
    return norm


def both_ways(
    neuron: Neuron, form: Form, norm: BatchNorm | None, x_TBN: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the plain path gives and what the fused one does: spikes, gradients and running statistics."""
    again, norm_again = copy.deepcopy(neuron), copy.deepcopy(norm)
    plain = everything(lambda x: neuron(x if norm is None else norm(x)), (neuron, norm), x_TBN)
    return plain, everything(lambda x: fire(again, form, norm_again, x), (again, norm_again), x_TBN)


def everything(
    function: Callable[[Tensor], Tensor], parts: tuple[nn.Module | None, ...], x_TBN: Tensor
) -> dict[str, Tensor]:
    x = x_TBN.clone().requires_grad_()
    y = function(x).to(torch.promote_types(x.dtype, torch.float32))
    (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)).sin().sum().backward()
    found = {"s": y.detach(), "grad x": x.grad}
    for part in parts:
        if part is not None:
            found |= {f"grad {name}": parameter.grad for name, parameter in part.named_parameters()}
            found |= dict(part.named_buffers())
    assert all(value is not None for value in found.values())
    return found


def drawn(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(shape, dtype=dtype) * 2 + 0.5


def by_position(x_TBCHW: Tensor) -> Tensor:
    """channels_last."""
    return x_TBCHW.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x_TBCHW.shape[:2])


def network(
    neuron: str = "lif", norm: str = "bn", residual: str = "pre", synapse: str = "exponential", **parameters: Any
) -> Network:
    """Eight layers, small, in float64."""
    torch.manual_seed(0)
    surrogate = own_surrogate(neuron)
    single_step = bool(NEURONS.options()[neuron].traits["single_step"])
    parts = make_part_factories(
        neuron={"name": neuron, **parameters}, surrogate={"name": surrogate}, synapse={"name": synapse},
        norm={"name": norm}, weight_norm={"name": "none"}, weight_quant={"name": "none"},
        num_steps=1 if single_step else 2,
    )  # fmt: skip
    blocks = {"name": residual}
    built = build_network(
        {"name": "resnet", "width": 4}, parts, in_shape=(1, 4, 4), num_classes=3, num_layers=8, residual=blocks
    )
    return built.double()


def fused(plain: Network, *, overwrite: bool = False) -> Network:
    twin = copy.deepcopy(plain)
    fuse(twin, overwrite=overwrite)
    return twin


def learned(network: Network, num_steps: int, num_updates: int = 20) -> list[Tensor]:
    """Loss by loss, then the weights and the running statistics."""
    generator = torch.Generator(torch.get_default_device()).manual_seed(1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    found = []
    for _ in range(num_updates):
        x = torch.rand(num_steps, 6, 1, 4, 4, generator=generator, dtype=torch.float64) * 2
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(x), torch.arange(6) % 3)
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return [*found, *(value.clone() for value in network.state_dict().values())]


def equal_in_float64(
    neuron: dict[str, Any], surrogate: str, norm: str, shape: tuple[int, ...], seed: int, turned: bool
) -> None:
    """Spikes bitwise; gradients and running statistics but for the order of sums."""
    x = drawn(shape, seed, torch.float64)
    if turned and len(shape) == 5:
        x = by_position(x)
    plain, fused = both_ways(*made(neuron, surrogate, shape, torch.float64), norm_like(norm, x), x)
    assert torch.equal(plain.pop("s"), fused.pop("s"))
    for name, value in plain.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-10, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


def fires_bitwise_in_float32(neuron: str, shape: tuple[int, ...]) -> None:
    """Without a norm; gradients are near."""
    x = drawn(shape, 0, torch.float32)
    surrogate = own_surrogate(neuron)
    plain, fused = both_ways(*made({"name": neuron}, surrogate, shape, torch.float32), None, x)
    assert torch.equal(plain["s"], fused["s"])
    for name, value in plain.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))


def flips_hardly_a_spike_in_float32(neuron: str, shape: tuple[int, ...]) -> None:
    """With a norm, one of 10,000; one gradient of 1,000 is off."""
    x = drawn(shape, 0, torch.float32)
    surrogate = own_surrogate(neuron)
    plain, fused = both_ways(*made({"name": neuron}, surrogate, shape, torch.float32), norm_like("bn", x), x)
    flipped = (plain["s"] != fused["s"]).double().mean().item()
    far = ((plain["grad x"] - fused["grad x"]).abs() > 1e-4 * plain["grad x"].abs().max()).double().mean().item()
    print(f"{neuron}: {flipped:.1e} of the spikes flipped, {far:.1e} of the gradients are off by more than 1e-4")
    assert flipped <= 1e-4 and far <= 1e-3
    for name in ("bn.running_mean", "bn.running_var"):
        torch.testing.assert_close(fused[name], plain[name], rtol=1e-5, atol=1e-6)


def rounds_what_it_stores_to_bfloat16(neuron: str, norm: str, shape: tuple[int, ...]) -> None:
    """And computes in float32."""
    x = drawn(shape, 0, torch.bfloat16)
    part, form = made({"name": neuron}, own_surrogate(neuron), shape, torch.float32)
    normed = norm_like(norm, x.float())
    again, norm_again = copy.deepcopy(part), copy.deepcopy(normed)
    plain = everything(lambda x: part(x if normed is None else normed(x)), (part, normed), x.float())
    fused = everything(lambda x: fire(again, form, norm_again, x), (again, norm_again), by_position(x))
    # a level times its unit is rounded, by Triton's interpreter towards 0; a level more or less is further away
    flipped = ((plain["s"] - fused["s"]).abs() > 2**-7 * plain["s"].abs()).double().mean().item()
    assert flipped <= (1e-4 if norm == "bn" else 0)
    assert fused["grad x"].dtype == torch.bfloat16
    exact = torch.equal(plain["s"], plain["s"].bfloat16().float())  # else the loss is that of rounded outputs
    near = 1 if exact else 4
    off = (plain["grad x"] - fused["grad x"].float()).abs() > near * 2**-7 * plain["grad x"].abs().max()
    assert off.double().mean().item() <= 1e-3
    for name in plain.keys() - {"s", "grad x"}:
        atol = near * 1e-2 * float(plain[name].abs().max())
        torch.testing.assert_close(fused[name], plain[name], rtol=1e-2, atol=atol)


def follows_the_width() -> None:
    """A surrogate may change its width between steps."""
    x = drawn((2, 3, 4), 0, torch.float64)
    neuron, form = made({"name": "lif"}, "atan", (2, 3, 4), torch.float64)
    before, _ = both_ways(neuron, form, None, x)
    neuron.surrogate.width *= 2
    plain, fused = both_ways(neuron, form, None, x)
    assert not torch.equal(before["grad x"], plain["grad x"])
    torch.testing.assert_close(fused["grad x"], plain["grad x"], rtol=1e-12, atol=1e-13)


def reads_any_order() -> None:
    """By position, or by no order at all."""
    x = drawn((2, 3, 4, 2, 3), 0, torch.float64)
    neuron, form = made({"name": "lif"}, "atan", tuple(x.shape), torch.float64)
    for turned in (by_position(x), x.transpose(3, 4).contiguous().transpose(3, 4)):
        assert not turned.is_contiguous() and torch.equal(fire(neuron, form, None, turned), neuron(x))


def keeps_the_order() -> None:
    """What lies by position comes out by position, and its gradient too."""
    x = by_position(drawn((2, 3, 4, 2, 3), 0, torch.float64)).requires_grad_()
    neuron, form = made({"name": "lif"}, "atan", tuple(x.shape), torch.float64)
    s = fire(neuron, form, None, x)
    (grad,) = torch.autograd.grad(s, x, torch.randn(s.shape, dtype=s.dtype))
    assert s.stride() == x.stride() == grad.stride()


def filtered_both_ways(synapse: str, norm: str, s_TBN: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the plain synapse and norm give of two batches, and what the fused pass does."""
    name, _, sampling = synapse.partition("-")
    part = SYNAPSES.make({"name": name, **({"sampling": sampling} if sampling else {})})
    trace = forms.trace_of(part)
    assert trace is not None
    normed = None if norm == "none" else NORMS.make({"name": norm}, Site(tuple(s_TBN.shape[2:]), len(s_TBN)))
    assert normed is None or (isinstance(normed, PSPNorm) and forms.has_a_moment_per_channel(normed))
    again = copy.deepcopy(normed)
    ways: tuple[tuple[Callable[[Tensor], Tensor], PSPNorm | None], ...] = (
        (lambda s: part(s) if normed is None else normed(part(s)), normed),
        (lambda s: filtered(trace, again, s), again),
    )
    for function, used in ways:
        if used is not None:
            used.to(torch.promote_types(s_TBN.dtype, torch.float32))
            function(s_TBN.flip(1) / 2)  # the first batch sets the moment, the second moves it
    plain, fused = (everything(function, (used,), s_TBN) for function, used in ways)
    return plain, fused


def filters_in_float64(synapse: str, norm: str, shape: tuple[int, ...], seed: int, turned: bool) -> None:
    """All but for the order of sums."""
    assume(synapse != "alpha-slayer" or shape[0] > 1)  # of a single step nothing arrives, and plainly has no gradient
    s = drawn(shape, seed, torch.float64)
    if turned and len(shape) == 5:
        s = by_position(s)
    plain, fused = filtered_both_ways(synapse, norm, s)
    for name, value in plain.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-10, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


def filters_in_less(synapse: str, norm: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Spikes are exact in any dtype; what comes of them is near what comes of them in float64."""
    spikes = (drawn(shape, 0, torch.float64) > 1).double()
    plain, _ = filtered_both_ways(synapse, norm, spikes)
    _, fused = filtered_both_ways(synapse, norm, spikes.to(dtype))
    assert fused["grad x"].dtype == dtype
    for name, value in plain.items():
        within = 2**-6 if dtype == torch.bfloat16 else 1e-5
        far = (fused[name].double() - value.double()).abs() > within * value.double().abs().max()
        assert far.double().mean() <= 1e-3, name
