"""Runs from config to result on a GPU, in every way to train; without one on the CPU, where that means something."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from snn_exp.cli.main import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Result
from snn_exp.training import train
from snn_exp.training.seeds import run_in_step
from snn_exp.training.task import Classification
from tests.gpu import ACCELERATOR, HAS_GPU

pytestmark = pytest.mark.gpu

WAYS: dict[str, tuple[str, ...]] = {
    "float32": (),
    "bfloat16": ("trainer.precision=bf16-mixed",),
    "float16": ("trainer.precision=16-mixed",),
    "channels_last": ("trainer.channels_last=true",),
    "channels_last bfloat16": ("trainer.channels_last=true", "trainer.precision=bf16-mixed"),
    "compiled": ("trainer.compile=true",),
    "compiled bfloat16": ("trainer.compile=true", "trainer.precision=bf16-mixed"),
    "fused": ("trainer.kernels=fused",),
    "fused bfloat16": ("trainer.kernels=fused", "trainer.channels_last=true", "trainer.precision=bf16-mixed"),
    "checkpointed": ("trainer.checkpoint_activations=true",),
    "rate penalty, clipped": ("optim.rate_penalty=0.1", "optim.clip_norm=1.0", "optim=sgd", "optim.lr=0.05"),
}
TINY = ("network.width=8", "logger=none", "trainer.progress=false", "optim.batch_size=100")


def config_of(*overrides: str, accelerator: str = ACCELERATOR) -> ExperimentConfig:
    return compose([*TINY, f"trainer.accelerator={accelerator}", *overrides])


def ran(config: ExperimentConfig, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Result, RunFolder]:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(root))
    return train.run(config, echo=False), RunFolder.of(config)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each training step is given, and by what its gradients are scaled."""
    steps: list[dict[str, Any]] = []
    before: Callable[..., Tensor] = Classification.training_step

    def step(task: Classification, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        scaler = getattr(task.trainer.precision_plugin, "scaler", None)
        steps.append({"devices": {x.device.type for x in (*batch, *task.parameters())}, "scaled": scaler is not None})
        return before(task, batch, batch_idx)

    monkeypatch.setattr(Classification, "training_step", step)
    return steps


@pytest.mark.parametrize("method", ["s2nn_bn", "lif_bn", "srm_psp"])
@pytest.mark.parametrize("way", WAYS)
def test_a_run_learns_in_every_way_to_train(
    way: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[dict[str, Any]]
) -> None:
    if not HAS_GPU and (way == "float16" or "compiled" in way):
        pytest.skip("a CPU has no float16, and tests/training/test_compiling.py compiles on one")
    if not HAS_GPU and method != "s2nn_bn":
        pytest.skip("one method shows on a CPU that the test runs")
    config = config_of(f"method={method}", "trainer.max_epochs=3", *WAYS[way])
    result, folder = ran(config, tmp_path, monkeypatch)
    assert result.status == "done" and result.metrics["val/acc"] > 0.25 and result.metrics["test/acc"] > 0.25
    assert all(step["devices"] == {"cuda" if HAS_GPU else "cpu"} for step in seen) and len(seen) > 30
    assert all(step["scaled"] == (way == "float16") for step in seen)
    assert (result.peak_memory_mib or 0) > 0 and (result.compile_s is not None) == ("compiled" in way)
    manifest = folder.manifest()
    assert (manifest["hardware"]["gpu"] is not None) == HAS_GPU
    if "fused" in way:
        assert manifest["kernels"]["used"] == "fused" and ("Triton" in manifest["kernels"]["why"]) == HAS_GPU


@pytest.mark.parametrize("kernels", ["reference", "fused"])
@pytest.mark.parametrize("method", ["s2nn_bn", "lif_bn"])
def test_in_float64_a_run_is_that_of_the_cpu(
    method: str, kernels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [f"method={method}", "trainer.precision=64-true", "trainer.max_epochs=2"]
    here, there = (
        ran(config_of(*asked, f"trainer.kernels={each}", accelerator=accelerator), tmp_path / accelerator, monkeypatch)
        for each, accelerator in ((kernels, ACCELERATOR), ("reference", "cpu"))
    )
    weights, expected = (load_file(folder.weights) for _, folder in (here, there))
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-6, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")
    assert here[0].metrics["test/acc"] == there[0].metrics["test/acc"]
    assert here[0].operations == there[0].operations


def test_seeds_in_step_are_their_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [
        config_of("method=s2nn_bn", "trainer.precision=64-true", "trainer.max_epochs=1", f"seed={seed}",
                  "trainer.vectorized_seeds=true")
        for seed in range(3)
    ]  # fmt: skip
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "in_step"))
    run_in_step(configs)
    together = [load_file(RunFolder.of(config).weights) for config in configs]
    for config, weights in zip(configs, together, strict=True):
        trainer = dataclasses.replace(config.trainer, vectorized_seeds=False)
        _, folder = ran(dataclasses.replace(config, trainer=trainer), tmp_path / "alone", monkeypatch)
        torch.testing.assert_close(weights, load_file(folder.weights), rtol=1e-7, atol=1e-7)


@pytest.mark.skipif(HAS_GPU and torch.cuda.device_count() < 2, reason="there is one GPU")
def test_two_processes_train_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["method=lif_bn", "encoding.num_steps=2", "trainer.precision=64-true", "trainer.max_epochs=1",
             "trainer.kernels=reference"]  # fmt: skip
    (two, folder), (one, alone) = (
        ran(config_of(*asked, f"trainer.devices={devices}"), tmp_path / str(devices), monkeypatch) for devices in (2, 1)
    )
    torch.testing.assert_close(load_file(folder.weights), load_file(alone.weights), rtol=1e-7, atol=1e-7)
    assert two.metrics == pytest.approx(one.metrics, rel=1e-6)


def test_what_comes_after_training_takes_a_run_of_this_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, folder = ran(config_of("method=s2nn_bn", "trainer.max_epochs=1"), tmp_path, monkeypatch)
    for command in ("eval", "fold", "verify"):
        assert main([command, result.run_id]) == 0, capsys.readouterr().err
    assert "different" not in capsys.readouterr().out and folder.weights.exists()
