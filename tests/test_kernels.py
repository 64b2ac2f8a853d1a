"""The fused passes against the plain path, which is the judge: forward, gradients, running statistics, training."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from snn_exp import cli, train
from snn_exp.checkpointing import checkpoint_activations
from snn_exp.compose import compose
from snn_exp.config import TrainerConfig
from snn_exp.errors import UserError
from snn_exp.kernels import Form, build, choose, form_of, forms, fuse
from snn_exp.kernels.fused import fire
from snn_exp.layers import make_part_factories
from snn_exp.networks import Network, build_network
from snn_exp.neurons import KLIF, LIF, NEURONS, SRM, Neuron, Sign
from snn_exp.norms import NORMS, BatchNorm, Site
from snn_exp.results import RunFolder
from snn_exp.surrogates import SURROGATES, ATan
from tests import contracts
from tests.test_checkpointing import defaults, trains_the_same

try:
    build.toolchain()
except build.Unavailable as reason:
    pytest.skip(f"the fused kernels cannot be built: {reason}", allow_module_level=True)

FUSED = [name for name in NEURONS if NEURONS[name] in forms.NEURONS_WITH_A_FORM]
NORMED = ("none", *(name for name in NORMS if NORMS[name] in forms.NORMS_WITH_A_FORM))
LARGE = (4, 70, 10, 8, 8)  # more samples than are summed at once, more values than a stretch
TINY = ("network.width=4", "logger=none", "trainer.max_epochs=1", "optim.batch_size=128")

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
    return found  # type: ignore[return-value]


def drawn(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(shape, dtype=dtype) * 2 + 0.5


def by_position(x_TBCHW: Tensor) -> Tensor:
    """channels_last."""
    return x_TBCHW.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x_TBCHW.shape[:2])


@pytest.mark.parametrize("norm", NORMED)
@pytest.mark.parametrize(("neuron", "surrogate"), list(cases()))
@settings(max_examples=5, deadline=None)
@given(shape=shapes, seed=st.integers(0, 10**6), turned=st.booleans())
@example(shape=LARGE, seed=0, turned=False)
@example(shape=LARGE, seed=0, turned=True)
def test_in_float64_spikes_gradients_and_statistics_are_those_of_the_plain_path(
    neuron: dict[str, Any], surrogate: str, norm: str, shape: tuple[int, ...], seed: int, turned: bool
) -> None:
    x = drawn(shape, seed, torch.float64)
    if turned and len(shape) == 5:
        x = by_position(x)
    plain, fused = both_ways(*made(neuron, surrogate, shape, torch.float64), norm_like(norm, x), x)
    assert torch.equal(plain.pop("s"), fused.pop("s"))
    for name, value in plain.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-10, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("neuron", FUSED)
def test_in_float32_a_neuron_fires_bitwise_as_the_plain_one_and_its_gradients_are_near(neuron: str) -> None:
    x = drawn(LARGE, 0, torch.float32)
    surrogate = str(NEURONS.options()[neuron].traits["default_surrogate"])
    plain, fused = both_ways(*made({"name": neuron}, surrogate, LARGE, torch.float32), None, x)
    assert torch.equal(plain["s"], fused["s"])
    for name, value in plain.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))


@pytest.mark.parametrize("norm", ["none", "bn"])
@pytest.mark.parametrize("neuron", FUSED)
def test_in_bfloat16_what_is_stored_is_rounded_and_what_is_computed_with_is_not(neuron: str, norm: str) -> None:
    x = drawn(LARGE, 0, torch.bfloat16)
    part, form = made(
        {"name": neuron}, str(NEURONS.options()[neuron].traits["default_surrogate"]), LARGE, torch.float32
    )
    normed = norm_like(norm, x.float())
    again, norm_again = copy.deepcopy(part), copy.deepcopy(normed)
    plain = everything(lambda x: part(x if normed is None else normed(x)), (part, normed), x.float())
    fused = everything(lambda x: fire(again, form, norm_again, x), (again, norm_again), by_position(x))
    flipped = (plain["s"] != fused["s"]).double().mean().item()
    assert flipped <= (1e-4 if norm == "bn" else 0)
    assert fused["grad x"].dtype == torch.bfloat16
    off = (plain["grad x"] - fused["grad x"].float()).abs() > 2**-7 * plain["grad x"].abs().max()
    assert off.double().mean().item() <= 1e-3
    for name in plain.keys() - {"s", "grad x"}:
        torch.testing.assert_close(fused[name], plain[name], rtol=1e-2, atol=1e-2 * float(plain[name].abs().max()))


@pytest.mark.parametrize("neuron", FUSED)
def test_in_float32_a_norm_flips_hardly_a_spike(neuron: str) -> None:
    x = drawn(LARGE, 0, torch.float32)
    surrogate = str(NEURONS.options()[neuron].traits["default_surrogate"])
    plain, fused = both_ways(*made({"name": neuron}, surrogate, LARGE, torch.float32), norm_like("bn", x), x)
    flipped = (plain["s"] != fused["s"]).double().mean().item()
    far = ((plain["grad x"] - fused["grad x"]).abs() > 1e-4 * plain["grad x"].abs().max()).double().mean().item()
    print(f"{neuron}: {flipped:.1e} of the spikes flipped, {far:.1e} of the gradients are off by more than 1e-4")
    assert flipped <= 1e-4 and far <= 1e-3
    for name in ("bn.running_mean", "bn.running_var"):
        torch.testing.assert_close(fused[name], plain[name], rtol=1e-5, atol=1e-6)


def test_a_surrogate_that_changes_its_width_is_followed() -> None:
    x = drawn((2, 3, 4), 0, torch.float64)
    neuron, form = made({"name": "lif"}, "atan", (2, 3, 4), torch.float64)
    before, _ = both_ways(neuron, form, None, x)
    neuron.surrogate.width *= 2
    plain, fused = both_ways(neuron, form, None, x)
    assert not torch.equal(before["grad x"], plain["grad x"])
    torch.testing.assert_close(fused["grad x"], plain["grad x"], rtol=1e-12, atol=1e-13)


def test_what_lies_in_another_order_is_read_as_what_it_is() -> None:
    x = drawn((2, 3, 4, 2, 3), 0, torch.float64)
    neuron, form = made({"name": "lif"}, "atan", tuple(x.shape), torch.float64)
    for turned in (by_position(x), x.transpose(3, 4).contiguous().transpose(3, 4)):
        assert not turned.is_contiguous() and torch.equal(fire(neuron, form, None, turned), neuron(x))


def test_what_lies_by_position_comes_out_by_position_and_its_gradient_too() -> None:
    x = by_position(drawn((2, 3, 4, 2, 3), 0, torch.float64)).requires_grad_()
    neuron, form = made({"name": "lif"}, "atan", tuple(x.shape), torch.float64)
    s = fire(neuron, form, None, x)
    (grad,) = torch.autograd.grad(s, x, torch.randn(s.shape, dtype=s.dtype))
    assert s.stride() == x.stride() == grad.stride()


def network(neuron: str = "lif", norm: str = "bn", residual: str = "pre", **parameters: Any) -> Network:
    """Eight layers, small, in float64."""
    torch.manual_seed(0)
    surrogate = str(NEURONS.options()[neuron].traits["default_surrogate"])
    single_step = bool(NEURONS.options()[neuron].traits["single_step"])
    parts = make_part_factories(
        neuron={"name": neuron, **parameters}, surrogate={"name": surrogate}, synapse={"name": "exponential"},
        norm={"name": norm}, weight_norm={"name": "none"}, weight_quant={"name": "none"},
        num_steps=1 if single_step else 2,
    )  # fmt: skip
    blocks = {"name": residual}
    built = build_network(
        {"name": "resnet", "width": 4}, parts, in_shape=(1, 4, 4), num_classes=3, num_layers=8, residual=blocks
    )
    return built.double()


def fused(plain: Network) -> Network:
    twin = copy.deepcopy(plain)
    fuse(twin)
    return twin


def learned(network: Network, num_steps: int) -> list[Tensor]:
    """Loss by loss, then the weights and the running statistics."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    found = []
    for _ in range(20):
        x = torch.rand(num_steps, 6, 1, 4, 4, generator=generator, dtype=torch.float64) * 2
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(x), torch.arange(6) % 3)
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return [*found, *(value.clone() for value in network.state_dict().values())]


@pytest.mark.parametrize(
    ("neuron", "norm", "residual"),
    [
        ("lif", "bn", "pre"),
        ("srm", "psp", "pre"),
        ("plif", "tdbn", "post"),
        ("s2nn", "bn", "bireal"),
        ("if", "none", "ms"),
    ],
)
def test_a_network_learns_the_same_in_twenty_steps(neuron: str, norm: str, residual: str) -> None:
    plain = network(neuron, norm, residual)
    num_steps = 1 if neuron == "s2nn" else 2
    for ours, theirs in zip(learned(fused(plain), num_steps), learned(plain, num_steps), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_in_eval_a_network_is_bitwise_the_plain_one_and_it_copies_and_is_stored_as_that_is() -> None:
    plain = network().float()
    twin = fused(plain)
    x = torch.rand(2, 3, 1, 4, 4)
    assert torch.equal(twin.eval()(x), plain.eval()(x))
    assert list(twin.state_dict()) == list(plain.state_dict())
    copied = copy.deepcopy(twin.train())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert torch.equal(copied(x), fused(plain).train()(x))


def test_norms_that_a_neuron_alone_reads_are_taken_in_and_no_others() -> None:
    post = fused(network(residual="post"))
    taken = [
        name for name, module in post.named_modules() if isinstance(module, BatchNorm) and "forward" in vars(module)
    ]
    block = "stages.0.0"
    assert "stem.norm" in taken and f"{block}.norm1" in taken
    assert f"{block}.norm2" not in taken, "its output is added to a shortcut"


def test_activations_computed_again_give_the_same() -> None:
    twin = fused(network())
    again = copy.deepcopy(twin)
    checkpoint_activations(again.segments())
    trains_the_same(twin, again)


def test_a_single_value_a_channel_is_refused_as_torch_refuses_it() -> None:
    twin = fused(network())
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        twin(torch.rand(1, 1, 1, 1, 1, dtype=torch.float64))


class Guest(ATan):
    """What inherits from a part with a fused form may do something else."""


@pytest.mark.parametrize(
    ("trainer", "neuron", "reason"),
    [
        ({"accelerator": "gpu"}, LIF, "the fused kernels are for a CPU, and the run is on a GPU (trainer.accelerator=cpu)"),
        ({"precision": "16-mixed"}, LIF, "the fused kernels are for trainer.precision=32-true, 64-true, bf16-mixed, not 16-mixed"),
        ({"devices": 2}, LIF, "the fused kernels see one share of a batch, and trainer.devices is 2"),
        ({"num_threads": 2}, LIF, "the fused kernels have one thread, and trainer.num_threads is 2"),
        ({}, KLIF, "neuron=klif has no fused form"),
        ({}, lambda: LIF((), Guest()), "surrogate=Guest has no fused form"),
        ({}, lambda: SRM(refractory="slayer"), "neuron=srm with neuron.refractory=slayer has no fused form"),
    ],
)  # fmt: skip
def test_what_cannot_be_fused_is_said_in_a_sentence_and_auto_takes_the_plain_path(
    trainer: dict[str, Any], neuron: Callable[[], Neuron], reason: str
) -> None:
    settings = TrainerConfig(**trainer)
    assert dataclasses.astuple(choose(settings, neuron())) == ("reference", reason)
    with pytest.raises(UserError) as error:
        choose(dataclasses.replace(settings, kernels="fused"), neuron())
    assert str(error.value) == (
        f"trainer.kernels=fused cannot be: {reason}; leave it out, or type trainer.kernels=reference"
    )


def test_auto_takes_them_only_where_a_step_is_clearly_faster() -> None:
    assert choose(TrainerConfig(), LIF()).used == "fused"
    assert choose(TrainerConfig(), Sign()).why == (
        "a step with signs is hardly faster fused, see benchmarks/kernels.md"
    )
    assert choose(TrainerConfig(kernels="fused"), Sign()).used == "fused"


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Nothing is remembered of compilers and of what they built."""
    build.toolchain.cache_clear()
    build.library.cache_clear()
    yield
    build.toolchain.cache_clear()
    build.library.cache_clear()


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("CXX", "no_such_compiler", "there is no C++ compiler (no_such_compiler); install g++, or set CXX to one"),
        ("CXX", "false", "false fails (exit code 1)"),
        ("XDG_CACHE_HOME", "/dev/null", "/dev/null/snn_exp/kernels cannot be used (Not a directory)"),
    ],
)
def test_without_a_compiler_or_a_cache_auto_takes_the_plain_path_and_says_why(
    variable: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch, forgotten: None
) -> None:
    monkeypatch.setenv(variable, value)
    choice = choose(TrainerConfig(), LIF())
    assert choice.used == "reference" and choice.why.endswith(reason)
    with pytest.raises(UserError, match=r"trainer\.kernels=fused cannot be: "):
        choose(TrainerConfig(kernels="fused"), LIF())


def test_what_was_built_is_kept_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert choose(TrainerConfig(), LIF()).used == "fused"
    (built,) = (tmp_path / "snn_exp" / "kernels").iterdir()
    when = built.stat().st_mtime_ns
    build.library.cache_clear()
    assert choose(TrainerConfig(), LIF()).used == "fused"
    assert [path.stat().st_mtime_ns for path in (tmp_path / "snn_exp" / "kernels").iterdir()] == [when]


@pytest.mark.parametrize("override", ["neuron=klif", "norm=mpbn"])
def test_fused_where_it_cannot_be_is_refused_before_anything_is_trained(
    override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "out"))
    assert cli.main(["train", *TINY, "trainer.kernels=fused", override]) == 2
    assert "snn-exp: trainer.kernels=fused cannot be: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_in_bfloat16_a_run_trains_and_its_gradients_are_clipped(
    kernels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    asked = [*TINY, "optim=sgd", "optim.lr=0.3", "trainer.precision=bf16-mixed", f"trainer.kernels={kernels}"]
    losses = {}
    for clip_norm in ("5", "1e-9"):
        config = compose([*asked, f"optim.clip_norm={clip_norm}", "trainer.max_epochs=2"])
        assert train.run(config, echo=False).status == "done"
        assert RunFolder.of(config).manifest()["kernels"]["used"] == kernels
        losses[clip_norm] = [float(epoch["train/loss"]) for epoch in RunFolder.of(config).epochs()]
    assert losses["5"][1] < losses["5"][0] - 0.05
    assert losses["1e-9"][1] == pytest.approx(losses["1e-9"][0], abs=0.05), "nothing moves"


def test_a_manifest_says_which_were_used_and_why_and_verify_uses_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    by_default, plain = compose([*TINY, "seed=1"]), compose([*TINY, "seed=2", "trainer.kernels=reference"])
    for config, used, why in ((by_default, "fused", "faster"), (plain, "reference", "trainer.kernels=reference")):
        train.run(config, echo=False)
        manifest = RunFolder.of(config).manifest()
        assert manifest["kernels"]["used"] == used == manifest["execution"]["trainer"]["kernels"]
        assert manifest["kernels"]["why"].startswith(why)
    asked_again = dataclasses.replace(plain, trainer=TrainerConfig(max_epochs=1))
    assert asked_again.run_id == plain.run_id
    assert cli.main(["verify", plain.run_id]) == 0
    assert "bitwise equal" in capsys.readouterr().out
