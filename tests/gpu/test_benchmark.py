"""benchmarks/gpu.py on a CPU: its whole way but the card."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from snn_exp.nn.kernels import measured

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, imported without what it sets in its own process."""
    for name in (
        "SJ_LIF_CUDA_IMPLEMENTATION",
        "THP_MEM_ALLOC_ENABLE",
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_TRIM_THRESHOLD_",
    ):
        monkeypatch.setenv(name, "0")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("gpu")


def test_all_is_measured_on_a_cpu_as_a_trial_and_nothing_is_stored(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "gpu.py"))
    monkeypatch.setattr(measured, "FILE", tmp_path / "gpus.json")
    assert gpu.main(["--device", "cpu", "--without-compile"]) == 0
    page = capsys.readouterr().out
    assert "2 rounds; no GPU: a trial on a CPU, whose times say nothing; " in page
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Batch norm and neuron, forward and backward",
        "## A training step of ResNet-8, batch 2: what auto takes",
        "## LIF alone, [2, 2, 3, 5, 5]",
        "## 5 convolutions of 32 channels, batch 2",
        "## ResNet-8, 8x8, T = 4, batch 2",
        "## 5 seeds in step (trainer.vectorized_seeds), ResNet-8, batch 2",
    ]
    left_out = [line for line in page.splitlines() if line.startswith("- ") and "trainer.kernels=auto" not in line]
    assert all("SpikingJelly: ModuleNotFoundError" in line for line in left_out), "only a peer may be missing"
    assert page.count("`trainer.kernels=auto` ") == 3 and page.count(" | in step | ") == 4
    assert list(tmp_path.iterdir()) == []


def test_what_auto_takes_is_decided_by_three_rounds_of_four(gpu: ModuleType) -> None:
    def found(method: str, kind: str, ratios: list[float]) -> dict[object, object]:
        row = (kind, method)
        return {(row, "fused"): gpu.Found(ratios, 0.0, None), (row, "plain"): gpu.Found([1.0] * len(ratios), 0.0, None)}

    verdicts = gpu.decided(
        found("lif_bn", "many steps", [0.5, 0.6, 0.7, 1.5]) | found("s2nn_bn", "one step", [0.9, 0.9, 1.2, 1.2])
    )
    assert {kind: of.median for kind, of in verdicts.items()} == pytest.approx({"many steps": 0.65, "one step": 1.05})
    assert not verdicts["one step"].pays and "signs" not in verdicts
    assert gpu.decided(found("lif_bn", "many steps", [0.5, 0.6, 0.7, 0.8]))["many steps"].pays


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_one_sentence_and_exit_code_2(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--check"]) == 2
    assert capsys.readouterr().err == (
        "make gpu: torch finds no GPU for CUDA or ROCm on this machine, and measures on no other; type make gpu DEVICE=cpu "
        "for a trial of tests and benchmark on the CPU\n"
    )
