"""trainer.num_threads=auto and trainer.channels_last=auto: what the rules answer, and what they know of the processor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snn_exp.cli.main import main
from snn_exp.config import execution_rules, processor
from snn_exp.config.compose import compose
from snn_exp.errors import UserError
from snn_exp.nn.kernels import Choice
from snn_exp.runs.folder import RunFolder
from snn_exp.training import auto, train
from snn_exp.training.build import DataSpec, assemble

LARGE = ("network.width=64", "optim.batch_size=32")  # at 8x8 the smaller of the two shapes that were measured


@pytest.mark.parametrize(
    ("asked", "cores", "number", "why"),
    [
        (("num_threads=auto",), 8, 2, "a layer has 75 million multiplications per step, and a process has 8 cores"),
        (("num_threads=auto",), 1, 1, "the process has 1 core"),
        (("num_threads=auto", "devices=2"), 3, 1, "each of 2 processes has 1 of 3 cores"),
        (("num_threads=auto", "devices=2"), 4, 2, "a process has 2 cores"),
        (("num_threads=3",), 1, 3, "trainer.num_threads=3"),
        ((), 8, 1, "trainer.num_threads=1"),
    ],
)
def test_threads_are_two_where_a_layer_has_work_and_the_process_the_cores(
    asked: tuple[str, ...], cores: int, number: int, why: str
) -> None:
    config = compose(["method=s2nn_bn", *LARGE, *(f"trainer.{each}" for each in asked)])
    chosen = execution_rules.num_threads(config, cores, on_a_gpu=False)
    assert chosen.value == number and why in chosen.why


@pytest.mark.parametrize("smaller", ["optim.batch_size=31", "network.width=63", "dataset=gunpoint network=mlp"])
def test_a_layer_smaller_than_any_that_was_measured_has_one_thread(smaller: str) -> None:
    config = compose(["method=s2nn_bn", *LARGE, "trainer.num_threads=auto", *smaller.split()])
    assert execution_rules.num_threads(config, 8, on_a_gpu=False).value == 1


def test_on_a_gpu_there_is_one_thread_and_the_format_stays() -> None:
    config = compose([*LARGE, "trainer.num_threads=auto", "trainer.channels_last=auto", "network.width=16"])
    assert execution_rules.num_threads(config, 8, on_a_gpu=True).value == 1
    assert not execution_rules.channels_last(config, "fused", on_a_gpu=True).value


@pytest.mark.parametrize(
    ("asked", "kernels", "value", "why"),
    [
        ("network.width=32", "fused", True, "32 channels of 8x8, where it is known to be faster up to 32"),
        ("network.width=33", "fused", False, "33 channels of 8x8, where it is known to be faster up to 32"),
        (
            "network.width=64 dataset=mnist",
            "fused",
            True,
            "64 channels of 28x28, where it is known to be faster up to 64",
        ),
        ("network.width=65 dataset=mnist", "fused", False, "65 channels of 28x28"),
        ("network.width=128", "events", True, "convolutions by events read maps of this format"),
        ("network.width=16", "reference", False, "measured on the fused passes alone"),
        ("network=mlp", "fused", False, "it has no maps"),
        ("trainer.channels_last=false", "fused", False, "trainer.channels_last=false"),
    ],
)
def test_maps_are_channels_last_where_that_was_measured_to_be_faster(
    asked: str, kernels: str, value: bool, why: str
) -> None:
    config = compose(["method=lif_bn", "trainer.channels_last=auto", *asked.split()])
    chosen = execution_rules.channels_last(config, kernels, on_a_gpu=False)
    assert chosen.value is value and why in chosen.why


def test_the_network_is_laid_out_as_the_rule_says() -> None:
    seen = DataSpec((1, 8, 8), 10)
    for width, turned in ((16, True), (128, False)):
        config = compose(["method=s2nn_bn", "trainer.channels_last=auto", f"network.width={width}"])
        network = assemble(config, seen, Choice("fused", "")).network
        assert any(p.dim() == 4 and not p.is_contiguous() for p in network.parameters()) is turned


@pytest.mark.parametrize(
    "typed", ["trainer.channels_last=maybe", "trainer.num_threads=autos", "trainer.num_threads=true"]
)
def test_only_the_word_auto_is_taken_besides_a_value(typed: str) -> None:
    with pytest.raises(UserError, match=r"must be (a bool|an int >= 1) or auto; the default is trainer\."):
        compose([typed])


def test_a_run_stores_what_was_chosen_and_why_and_plan_says_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(auto, "num_cores", lambda: 1)
    overrides = ["method=s2nn_bn", "network.width=4", "trainer.max_epochs=1", "optim.batch_size=512",
                 "trainer.num_threads=auto", "trainer.channels_last=auto", "trainer.accelerator=cpu",
                 "trainer.kernels=fused"]  # fmt: skip
    config = compose(overrides)
    assert config.run_id == compose(overrides[:4]).run_id
    says = [
        "trainer.num_threads=auto is 1: the process has 1 core",
        "trainer.channels_last=auto is true: its first maps have 4 channels of 8x8, where it is known",
    ]
    assert main(["plan", *overrides]) == 0
    planned = capsys.readouterr().out
    assert all(f"snn-exp: {sentence}" in planned for sentence in says)
    train.run(config, echo=False)
    folder = RunFolder.of(config)
    manifest = folder.manifest()
    done = manifest["execution"]["trainer"]
    assert (done["num_threads"], done["channels_last"]) == (1, True)
    assert set(manifest["answers"]) == {"num_threads", "channels_last"}
    assert manifest["config"]["trainer"]["channels_last"] == "auto"
    assert all(sentence in (folder.path / "train.log").read_text() for sentence in says)
    assert train.run(config, echo=False).status == "done", "the stored config is read back"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_the_cores_are_those_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(processor, "CPU_MAX", tmp_path / "cpu.max")
    assert processor.num_cores() == 8
    for quota, number in (("max 100000", 8), ("350000 100000", 3), ("50000 100000", 1), ("nonsense", 8)):
        processor.CPU_MAX.write_text(quota + "\n")
        assert processor.num_cores() == number
    processor.CPU_MAX.write_text("350000 100000\n")
    for given, number in (("2", 2), ("16", 3), ("2,1", 2), ("", 3)):  # joblib's share, as OpenMP reads it
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert processor.num_cores() == number


@pytest.mark.parametrize(
    ("cpuinfo", "computes"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 fma\n", False),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512bw\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        ("processor\t: 0\nhart\t: 0\n", True),
        (None, True),
    ],
    ids=["avx2", "bf16", "avx512", "arm", "old arm", "unknown", "no file"],
)
def test_bfloat16_is_read_off_the_flags_and_taken_for_granted_where_there_are_none(
    cpuinfo: str | None, computes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    if cpuinfo is not None:
        processor.CPUINFO.write_text(cpuinfo)
    assert processor.computes_in_bfloat16() is computes
