"""The passes of a GPU against the plain path: in Triton's interpreter, or on a GPU where there is one.

Whatever is launched is also compiled for a GPU, which takes none.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_exp.config.experiment import TrainerConfig
from snn_exp.errors import UserError
from snn_exp.nn.kernels import choice, forms, fused, measured, on_gpu
from snn_exp.nn.kernels.fused import fire
from snn_exp.nn.kernels.layout import computed_in
from snn_exp.nn.neurons import KLIF, LIF, S2NN, Sign
from snn_exp.training.build import choose_kernels
from tests import judge

triton = pytest.importorskip("triton", reason="Triton is not installed; torch brings it on Linux")
from triton.backends.compiler import GPUTarget  # noqa: E402

from tests.triton_passes import INTERPRETS_BADLY, UNEVEN, computing, loaded  # noqa: E402

LARGE = (3, 16, 6, 8, 8)


@pytest.fixture(scope="module", autouse=True)
def triton_computes() -> Iterator[None]:
    """On a GPU by itself, since tensors are there."""
    with computing():
        yield


@pytest.mark.parametrize("norm", ["none", "tdbn"])
@pytest.mark.parametrize(("neuron", "surrogate"), list(judge.cases()))
@settings(max_examples=2, deadline=None)
@given(shape=judge.shapes, seed=st.integers(0, 10**6), turned=st.booleans())
def test_in_float64_spikes_gradients_and_statistics_are_those_of_the_plain_path(
    neuron: dict[str, Any], surrogate: str, norm: str, shape: tuple[int, ...], seed: int, turned: bool
) -> None:
    judge.equal_in_float64(neuron, surrogate, norm, shape, seed, turned)


@pytest.mark.parametrize(("norm", "turned"), [("none", False), ("none", True), ("bn", False), ("bn", True)])
@pytest.mark.parametrize("neuron", judge.FUSED)
def test_several_programs_with_tiles_that_are_not_full_give_the_same(neuron: str, norm: str, turned: bool) -> None:
    learns = {"learn_threshold": True} if neuron not in ("sign", "rsign", "qrelu") else {}
    judge.equal_in_float64({"name": neuron, **learns}, "triangle", norm, UNEVEN, 0, turned)


@pytest.mark.parametrize(("norm", "shape"), [("bn", (16, 2, 3, 2, 2)), ("none", (1, 3, 33, 1, 1)), ("bn", (2, 600, 2))])
def test_any_number_of_steps_samples_and_channels_works(norm: str, shape: tuple[int, ...]) -> None:
    judge.equal_in_float64({"name": "plif"}, "sigmoid", norm, shape, 0, True)


@pytest.mark.parametrize("neuron", judge.FUSED)
def test_in_float32_a_neuron_fires_bitwise_as_the_plain_one_and_its_gradients_are_near(neuron: str) -> None:
    judge.fires_bitwise_in_float32(neuron, LARGE)


@pytest.mark.skipif(INTERPRETS_BADLY, reason="the interpreter of Triton 3.4 does not round to bfloat16")
@pytest.mark.parametrize("norm", ["none", "bn"])
@pytest.mark.parametrize("neuron", judge.FUSED)
def test_in_bfloat16_what_is_stored_is_rounded_and_what_is_computed_with_is_not(neuron: str, norm: str) -> None:
    judge.rounds_what_it_stores_to_bfloat16(neuron, norm, LARGE)


@pytest.mark.parametrize("neuron", judge.FUSED)
def test_in_float32_a_norm_flips_hardly_a_spike(neuron: str) -> None:
    judge.flips_hardly_a_spike_in_float32(neuron, LARGE)


def test_a_surrogate_that_changes_its_width_is_followed() -> None:
    judge.follows_the_width()


def test_what_lies_in_another_order_is_read_as_what_it_is() -> None:
    judge.reads_any_order()


def test_what_lies_by_position_comes_out_by_position_and_its_gradient_too() -> None:
    judge.keeps_the_order()


def test_sums_are_the_same_each_time() -> None:
    x = judge.drawn(LARGE, 0, torch.float32)
    neuron, form = judge.made({"name": "plif", "learn_threshold": True}, "atan", LARGE, torch.float32)
    norm = judge.norm_like("bn", x)
    copies = [(copy.deepcopy(neuron), copy.deepcopy(norm)) for _ in range(2)]
    once, twice = (
        judge.everything(functools.partial(fire, part, form, of_it), (part, of_it), x) for part, of_it in copies
    )
    assert all(torch.equal(once[name], twice[name]) for name in once)


@pytest.mark.parametrize(
    ("neuron", "norm", "residual"), [("lif", "bn", "pre"), ("plif", "tdbn", "post"), ("s2nn", "bn", "bireal")]
)
def test_a_network_learns_the_same_in_two_steps(neuron: str, norm: str, residual: str) -> None:
    plain = judge.network(neuron, norm, residual)
    num_steps = 1 if neuron == "s2nn" else 2
    ours, theirs = judge.learned(judge.fused(plain), num_steps, 2), judge.learned(plain, num_steps, 2)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-8, atol=1e-8)


def test_in_eval_a_network_is_bitwise_the_plain_one() -> None:
    plain = judge.network().float()
    x = torch.rand(2, 3, 1, 4, 4)
    assert torch.equal(judge.fused(plain).eval()(x), plain.eval()(x))


@pytest.mark.parametrize("surrogate", forms.KERNELS)
def test_a_surrogate_is_one_text_that_means_the_same_in_both_languages(surrogate: str) -> None:
    for node in ast.walk(ast.parse(forms.KERNELS[surrogate], mode="eval")):
        if isinstance(node, ast.Constant):
            assert isinstance(node.value, int), "1.0 is a double in C++"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            assert not (isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant)), (
                "1 / 2 is 0 in C++"
            )
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) in ("absolute", "positive", "exponential", "sigmoid", "where")
        assert not isinstance(node, ast.IfExp | ast.BoolOp | ast.Pow | ast.FloorDiv)


class H100:
    """All that Triton asks a driver for before it launches."""

    def get_current_target(self) -> Any:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """passes.py whose kernels are compiled as they are launched, and do not run."""

    def __init__(self) -> None:
        self.passes, self.ptx = loaded(interpreted=False), dict[str, str]()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.passes, name)
        return self.only_compile(found) if isinstance(found, triton.JITFunction) else found

    def only_compile(self, kernel: Any) -> Any:
        def launch(grid: tuple[int, ...]) -> Callable[..., None]:
            return lambda *args, **kwargs: self.keep(kernel, kernel.warmup(*args, grid=grid, **kwargs))

        return Indexed(launch)

    def keep(self, kernel: Any, compiled: Any) -> None:
        assert compiled.asm["cubin"]
        self.ptx[kernel.__name__] = compiled.asm["ptx"]


# Where Triton keeps what it launches on; what would undo its own set_active looks for a GPU.
DRIVER = "active" if "active" in vars(triton.runtime.driver) else "_active"


class Indexed:
    def __init__(self, at: Callable[..., Any]) -> None:
        self.at = at

    def __getitem__(self, key: Any) -> Any:
        return self.at(key)


@pytest.mark.skipif(INTERPRETS_BADLY, reason="Triton 3.4 compiles nothing in a process that has interpreted")
@pytest.mark.parametrize(
    ("neuron", "surrogate", "norm", "dtype", "shape"),
    [
        ({"name": "lif"}, "atan", "bn", torch.float32, (4, 64, 16, 8, 8)),
        ({"name": "lif", "decay_input": False, "detach_reset": True}, "erf", "none", torch.bfloat16, (4, 64, 16, 8, 8)),
        ({"name": "plif", "reset": "soft", "learn_threshold": True}, "sigmoid", "bn", torch.bfloat16, (5, 3, 7, 5, 5)),
        ({"name": "if"}, "rect", "none", torch.float32, (2, 3, 5)),
        ({"name": "srm"}, "slayer_exp", "tdbn", torch.float32, (2, 3, 1, 1, 1)),
        ({"name": "s2nn"}, "s2nn", "bn", torch.float32, (1, 64, 16, 8, 8)),
        ({"name": "rsign"}, "swish_sign", "bn", torch.float64, (1, 2, 40)),
        ({"name": "sign"}, "ste", "none", torch.float32, (1, 1, 1)),
    ],
)  # fmt: skip
def test_what_is_launched_compiles_for_a_gpu_and_nothing_is_contracted(
    neuron: dict[str, Any], surrogate: str, norm: str, dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path
) -> None:
    x = judge.drawn(shape, 0, dtype)
    part, form = judge.made(neuron, surrogate, shape, computed_in(x))
    normed = judge.norm_like(norm, x.to(computed_in(x)))
    compiled = Compiled()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path))
        patch.setattr(triton.knobs.runtime, "interpret", False)
        patch.setattr(triton.runtime.driver, DRIVER, H100())
        patch.setattr(on_gpu, "kernels", lambda: compiled)
        patch.setattr(fused, "pass_at", lambda x: on_gpu.pass_on_gpu)
        for read in [x, judge.by_position(x)] if len(shape) == 5 else [x]:
            fire(part, form, normed, read.requires_grad_()).sum().backward()
    of_norm = {"moments", "settle", "through_statistics"} if normed is not None else set()
    assert compiled.ptx.keys() == {"fire", "back"} | of_norm
    assert "fma.rn" not in compiled.ptx["fire"] and "mad.rn" not in compiled.ptx["fire"]


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one that nobody measured, as far as a choice can see."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(choice, "card", lambda: "Card X")
    monkeypatch.setattr(measured, "FILE", tmp_path / "gpus.json")
    measured.FILE.write_text("{}")


ON_A_GPU = TrainerConfig(accelerator="gpu", kernels="fused")


@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_fused_is_tritons_and_auto_is_the_plain_path_until_it_is_measured() -> None:
    for trainer in (ON_A_GPU, TrainerConfig(kernels="fused"), dataclasses.replace(ON_A_GPU, num_threads=2)):
        assert dataclasses.astuple(choose_kernels(trainer, LIF())) == (
            "fused", f"trainer.kernels=fused; built by Triton {triton.__version__}"
        )  # fmt: skip
    assert dataclasses.astuple(choose_kernels(TrainerConfig(), LIF())) == (
        "reference",
        "the fused kernels were not measured on Card X yet; trainer.kernels=fused takes them, and make gpu measures them",
    )  # fmt: skip
    assert (
        choose_kernels(TrainerConfig(accelerator="cpu", kernels="fused"), LIF()).why.rpartition(" ")[2]
        != triton.__version__
    )


@pytest.mark.usefixtures("gpu")
def test_auto_takes_on_a_card_what_was_measured_on_it_and_on_no_other() -> None:
    faster, slower = measured.Measured(0.61234, 0.7), measured.Measured(0.98, 1.0)
    measured.keep("Card X", {"many steps": slower, "one step": faster})
    measured.keep("Card X", {"many steps": faster, "one step": slower})  # measured again
    measured.keep("Card Y", {"many steps": slower, "one step": slower, "signs": faster})
    chosen = [choose_kernels(TrainerConfig(), neuron) for neuron in (LIF(), S2NN(), Sign())]
    assert [(each.used, each.why.partition(";")[0]) for each in chosen] == [
        ("fused", "faster on Card X (0.61 of the plain step), see benchmarks/gpu.md"),
        ("reference", "not faster on Card X (0.98 of the plain step), see benchmarks/gpu.md"),
        ("reference", "the fused kernels were not measured on Card X yet"),
    ]
    assert choose_kernels(TrainerConfig(), KLIF()).why == "neuron=klif has no fused form"
    assert choose_kernels(TrainerConfig(accelerator="cpu"), LIF()).why.startswith("faster, see benchmarks/kernels.md; ")


def test_the_stored_measurements_can_be_read() -> None:
    for kinds in measured.read().values():
        assert kinds.keys() <= {"many steps", "one step", "signs"}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("changed", "neuron", "reason"),
    [
        ({"devices": 2}, LIF, "the fused kernels see one share of a batch, and trainer.devices is 2"),
        ({"precision": "16-mixed"}, LIF, "the fused kernels are for trainer.precision=32-true, 64-true, bf16-mixed, not 16-mixed"),
        ({}, KLIF, "neuron=klif has no fused form"),
    ],
)  # fmt: skip
def test_what_triton_cannot_do_is_said_in_a_sentence(changed: dict[str, Any], neuron: type[LIF], reason: str) -> None:
    with pytest.raises(UserError) as error:
        choose_kernels(dataclasses.replace(ON_A_GPU, **changed), neuron())
    assert str(error.value).startswith(f"cannot use trainer.kernels=fused: {reason}; ")


def test_without_a_gpu_or_triton_fused_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="are Triton's, and torch finds no GPU for CUDA or ROCm; "):
        choose_kernels(ON_A_GPU, LIF())
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(UserError, match=r"are Triton's, and it is not installed \(torch brings it on Linux\); "):
        choose_kernels(ON_A_GPU, LIF())
