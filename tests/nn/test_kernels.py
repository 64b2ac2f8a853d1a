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
from torch import Tensor

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import TrainerConfig
from snn_exp.errors import UserError
from snn_exp.export.fold import fold
from snn_exp.nn.activation_checkpointing import checkpoint_activations
from snn_exp.nn.kernels import build, on_cpu
from snn_exp.nn.kernels.filtered import filtered
from snn_exp.nn.kernels.forms import trace_of
from snn_exp.nn.kernels.fused import fire
from snn_exp.nn.layers import Conv2d, lay_channels_last
from snn_exp.nn.neurons import KLIF, LIF, SRM, Neuron, Sign
from snn_exp.nn.norms import BatchNorm, PSPNorm, Site
from snn_exp.nn.surrogates import ATan
from snn_exp.nn.synapses import ExponentialSynapse, Synapse
from snn_exp.runs.folder import RunFolder
from snn_exp.training import train
from snn_exp.training.build import choose_kernels
from tests import judge
from tests.judge import FUSED, NORMED, fused, learned, network
from tests.nn.test_activation_checkpointing import trains_the_same

try:
    build.toolchain()
except build.Unavailable as reason:
    pytest.skip(f"the fused kernels cannot be built: {reason}", allow_module_level=True)

LARGE = (4, 70, 10, 8, 8)  # more samples than are summed at once, more values than a stretch
TINY = ("network.width=4", "logger=none", "trainer.max_epochs=1", "optim.batch_size=128")


@pytest.mark.parametrize("norm", NORMED)
@pytest.mark.parametrize(("neuron", "surrogate"), list(judge.cases()))
@settings(max_examples=5, deadline=None)
@given(shape=judge.shapes, seed=st.integers(0, 10**6), turned=st.booleans())
@example(shape=LARGE, seed=0, turned=False)
@example(shape=LARGE, seed=0, turned=True)
def test_in_float64_spikes_gradients_and_statistics_are_those_of_the_plain_path(
    neuron: dict[str, Any], surrogate: str, norm: str, shape: tuple[int, ...], seed: int, turned: bool
) -> None:
    judge.equal_in_float64(neuron, surrogate, norm, shape, seed, turned)


@pytest.mark.parametrize("neuron", FUSED)
def test_in_float32_a_neuron_fires_bitwise_as_the_plain_one_and_its_gradients_are_near(neuron: str) -> None:
    judge.fires_bitwise_in_float32(neuron, LARGE)


@pytest.mark.parametrize("norm", ["none", "bn"])
@pytest.mark.parametrize("neuron", FUSED)
def test_in_bfloat16_what_is_stored_is_rounded_and_what_is_computed_with_is_not(neuron: str, norm: str) -> None:
    judge.rounds_what_it_stores_to_bfloat16(neuron, norm, LARGE)


@pytest.mark.parametrize("neuron", FUSED)
def test_in_float32_a_norm_flips_hardly_a_spike(neuron: str) -> None:
    judge.flips_hardly_a_spike_in_float32(neuron, LARGE)


@pytest.mark.parametrize("norm", ["none", "psp", "psp_stream"])
@pytest.mark.parametrize("synapse", judge.FILTERS)
@settings(max_examples=10, deadline=None)
@given(shape=judge.shapes, seed=st.integers(0, 10**6), turned=st.booleans())
@example(shape=LARGE, seed=0, turned=False)
@example(shape=LARGE, seed=0, turned=True)
def test_in_float64_filters_gradients_and_moments_are_those_of_the_plain_path(
    synapse: str, norm: str, shape: tuple[int, ...], seed: int, turned: bool
) -> None:
    judge.filters_in_float64(synapse, norm, shape, seed, turned)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", ["none", "psp"])
@pytest.mark.parametrize("synapse", judge.FILTERS)
def test_in_float32_and_bfloat16_filters_round_what_they_store(synapse: str, norm: str, dtype: torch.dtype) -> None:
    judge.filters_in_less(synapse, norm, LARGE, dtype)


def test_a_surrogate_that_changes_its_width_is_followed() -> None:
    judge.follows_the_width()


def test_what_lies_in_another_order_is_read_as_what_it_is() -> None:
    judge.reads_any_order()


def test_what_lies_by_position_comes_out_by_position_and_its_gradient_too() -> None:
    judge.keeps_the_order()


@pytest.mark.parametrize("laid", [Tensor.contiguous, judge.by_position])
def test_more_channels_than_a_stretch_are_each_given_their_own_constants(laid: Callable[[Tensor], Tensor]) -> None:
    x = laid(judge.drawn((2, 3, 300, 2, 1), 0, torch.float64))
    neuron, form = judge.made({"name": "lif"}, "atan", x.shape, torch.float64)
    plain, ours = judge.both_ways(neuron, form, judge.norm_like("bn", x), x)
    assert set(ours) == set(plain)
    for name, value in plain.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.parametrize(
    ("neuron", "norm", "residual"),
    [
        ("lif", "bn", "pre"),
        ("srm", "psp", "pre"),
        ("lif", "psp_stream", "pre"),
        ("srm", "bn", "post"),
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


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("laid", [judge.by_position, Tensor.contiguous])
def test_results_do_not_depend_on_the_number_of_threads(
    laid: Callable[[Tensor], Tensor], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = laid(judge.drawn((3, 70, 16, 8, 8), 0, torch.float32))  # 5 times as many values as several threads are for
    neuron, form = judge.made({"name": "plif"}, "atan", x.shape, torch.float32)
    trace, norm = trace_of(ExponentialSynapse()), PSPNorm(Site((16, 8, 8)))
    assert trace is not None and x.numel() > 5 * on_cpu.FEW_VALUES

    def found(number: int) -> list[Tensor]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: number)
        part, filter_norm = copy.deepcopy(neuron), copy.deepcopy(norm)
        current_norm = judge.norm_like("bn", x)
        fired = judge.everything(lambda x: fire(part, form, current_norm, x), (part, current_norm), x)
        return [
            *fired.values(),
            *judge.everything(lambda s: filtered(trace, filter_norm, s), (filter_norm,), x).values(),
        ]

    torch.manual_seed(1)
    alone = found(1)
    torch.manual_seed(1)
    assert all(torch.equal(one, other) for one, other in zip(alone, found(threads), strict=True))


@pytest.mark.parametrize("norm", ["bn", "psp"])
def test_in_eval_a_network_is_bitwise_the_plain_one_and_it_copies_and_is_stored_as_that_is(norm: str) -> None:
    plain = network(norm=norm).float()
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


def test_psp_norms_take_in_the_synapse_and_synapses_stand_alone_behind_others() -> None:
    def replaced(norm: str) -> dict[str, str]:
        parts = fused(network(norm=norm)).named_modules()
        kinds = (Synapse, PSPNorm)
        return {name: part.forward.func.__name__ for name, part in parts if isinstance(part, kinds)}

    behind_psp, behind_bn = replaced("psp"), replaced("bn")
    assert {how for name, how in behind_psp.items() if name.endswith("synapse")} == {"_leave_to_the_norm"}
    assert {how for name, how in behind_psp.items() if name.endswith("norm")} == {"_filter"}
    assert set(behind_bn.values()) == {"_filter"}


@pytest.mark.parametrize("neuron", ["lif", "s2nn", "sign"])
@pytest.mark.parametrize("residual", ["pre", "bireal", "post", "ms", "none"])
@pytest.mark.parametrize("turned", [False, True])
def test_spikes_written_over_their_current_are_those_of_the_plain_path(
    neuron: str, residual: str, turned: bool
) -> None:
    plain = network(neuron, residual=residual)
    x = torch.rand(1 if neuron in ("s2nn", "sign") else 2, 6, 1, 4, 4, dtype=torch.float64)
    plain(x)  # running moments that are not those of a network that saw nothing
    twin = fused(plain, overwrite=True)
    if turned:
        lay_channels_last(twin)
    for training in (False, True):
        plain.train(training), twin.train(training)
        with torch.no_grad():
            torch.testing.assert_close(twin(x), plain(x))
    for ours, theirs in zip(learned(twin.train(), len(x), 3), learned(plain.train(), len(x), 3), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("neuron", ["lif", "s2nn", "srm"])
@pytest.mark.parametrize("residual", ["pre", "bireal", "post", "none"])
def test_a_folded_network_gives_the_same_where_some_neurons_have_taken_over_a_norm(neuron: str, residual: str) -> None:
    plain = network(neuron, residual=residual)
    x = torch.rand(1 if neuron == "s2nn" else 2, 6, 1, 4, 4, dtype=torch.float64)
    plain(x)
    folded = fold(plain.eval()).network
    twin = fused(folded, overwrite=True)
    with torch.inference_mode():
        torch.testing.assert_close(twin(x), folded(x))
        torch.testing.assert_close(twin(x), plain(x))


def test_only_a_current_that_the_neuron_alone_reads_is_written_over() -> None:
    twin = fused(network(residual="ms"), overwrite=True).eval()  # a stream of currents, which blocks and neurons read
    x = torch.rand(2, 6, 1, 4, 4, dtype=torch.float64) * 4
    kept: dict[str, list[torch.Tensor]] = {}
    for name, module in twin.named_modules():
        if isinstance(module, BatchNorm | Conv2d):
            module.register_forward_hook(lambda module, given, y, name=name: kept.setdefault(name, []).append(y))
    for mode in (torch.enable_grad(), torch.inference_mode()):
        with mode:
            twin(x)
    overwritten = {name for name, (with_gradients, without) in kept.items() if not with_gradients.equal(without)}
    assert overwritten == {f"stages.{stage}.0.activation2.norm" for stage in range(3)}


@pytest.mark.parametrize("norm", ["bn", "psp"])
def test_activations_computed_again_give_the_same(norm: str) -> None:
    twin = fused(network(norm=norm))
    again = copy.deepcopy(twin)
    checkpoint_activations(again.segments())
    trains_the_same(twin, again)


def test_a_single_value_a_channel_is_refused_as_torch_refuses_it() -> None:
    twin = fused(network())
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        twin(torch.rand(1, 1, 1, 1, 1, dtype=torch.float64))


@pytest.mark.parametrize("norm", ["bn", "psp"])
@pytest.mark.parametrize(
    ("dtype", "said"), [(torch.bfloat16, "need it in torch.float32"), (torch.float16, "not torch.float16")]
)
def test_norms_in_a_dtype_that_the_passes_do_not_compute_in_are_refused(
    norm: str, dtype: torch.dtype, said: str
) -> None:
    twin = fused(network(norm=norm)).to(dtype)
    with pytest.raises(TypeError, match=said):
        twin(torch.rand(2, 3, 1, 4, 4, dtype=dtype))


class Guest(ATan):
    """What inherits from a part with a fused form may do something else."""


@pytest.mark.parametrize(
    ("trainer", "neuron", "reason"),
    [
        ({"precision": "16-mixed"}, LIF, "the fused kernels are for trainer.precision=32-true, 64-true, bf16-mixed, not 16-mixed"),
        ({"devices": 2}, LIF, "the fused kernels see one share of a batch, and trainer.devices is 2"),
        ({}, KLIF, "neuron=klif has no fused form"),
        ({}, lambda: LIF((), Guest()), "surrogate=Guest has no fused form"),
        ({}, lambda: SRM(refractory="slayer"), "neuron=srm with neuron.refractory=slayer has no fused form"),
    ],
)  # fmt: skip
def test_what_cannot_be_fused_is_said_in_a_sentence_and_auto_takes_the_plain_path(
    trainer: dict[str, Any], neuron: Callable[[], Neuron], reason: str
) -> None:
    settings = TrainerConfig(**trainer)
    assert dataclasses.astuple(choose_kernels(settings, neuron())) == ("reference", reason)
    with pytest.raises(UserError) as error:
        choose_kernels(dataclasses.replace(settings, kernels="fused"), neuron())
    assert str(error.value) == (
        f"cannot use trainer.kernels=fused: {reason}; leave it out, or type trainer.kernels=reference"
    )


def test_auto_takes_them_only_where_a_step_is_clearly_faster() -> None:
    assert choose_kernels(TrainerConfig(), LIF()).used == "fused"
    assert choose_kernels(TrainerConfig(num_threads=2), LIF()).used == "fused"  # on one of the two
    assert choose_kernels(TrainerConfig(), Sign()).why == (
        "a step with signs is hardly faster fused, see benchmarks/kernels.md"
    )
    assert choose_kernels(TrainerConfig(kernels="fused"), Sign()).used == "fused"


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
    choice = choose_kernels(TrainerConfig(), LIF())
    assert choice.used == "reference" and choice.why.endswith(reason)
    with pytest.raises(UserError, match=r"cannot use trainer\.kernels=fused: "):
        choose_kernels(TrainerConfig(kernels="fused"), LIF())


def test_what_was_built_is_kept_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert choose_kernels(TrainerConfig(), LIF()).used == "fused"
    (built,) = (tmp_path / "snn_exp" / "kernels").iterdir()
    when = built.stat().st_mtime_ns
    build.library.cache_clear()
    assert choose_kernels(TrainerConfig(), LIF()).used == "fused"
    assert [path.stat().st_mtime_ns for path in (tmp_path / "snn_exp" / "kernels").iterdir()] == [when]
    choose_kernels(TrainerConfig(), LIF(), ExponentialSynapse())
    assert len(list((tmp_path / "snn_exp" / "kernels").iterdir())) == 2, "the filter is built before training as well"


@pytest.mark.parametrize("override", ["neuron=klif", "norm=mpbn"])
def test_fused_where_it_cannot_be_is_refused_before_anything_is_trained(
    override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "out"))
    assert main.main(["train", *TINY, "trainer.kernels=fused", override]) == 2
    assert "snn-exp: cannot use trainer.kernels=fused: " in capsys.readouterr().err
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
    assert main.main(["verify", plain.run_id]) == 0
    assert "bitwise equal" in capsys.readouterr().out


def test_verify_fuses_what_was_fused_though_auto_would_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    config = compose([*TINY, "neuron=sign", "trainer.kernels=fused"])
    train.run(config, echo=False)
    assert main.main(["verify", config.run_id]) == 0
    assert "bitwise equal" in capsys.readouterr().out
