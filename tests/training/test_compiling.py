"""trainer.compile: the training batches of a run through torch.compile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn import functional

from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.reporting.summary import summary
from snn_exp.runs.folder import RunFolder
from snn_exp.training import train
from snn_exp.training.build import DataSpec, assemble, kernels_of

SEEN = DataSpec(in_shape=(1, 8, 8), num_classes=10, pixel_mean=0.0, pixel_std=1.0)


def tiny(*overrides: str) -> ExperimentConfig:
    return compose(
        ["network.width=4", "logger=none", "trainer.progress=false", "optim.batch_size=512", "trainer.max_epochs=2",
         "trainer.precision=64-true", *overrides]
    )  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    ["method=srm_psp encoding.num_steps=2", "method=s2nn_bn residual=bireal weight_norm=standardized",
     "neuron=plif norm=tebn residual=post encoding.num_steps=2", "neuron=sign weight_quant=xnor",
     "neuron=lif norm=mpbn residual=ms encoding.num_steps=2"],  # a step more is more of the same graph, and slow to trace
)  # fmt: skip
def test_a_network_is_one_graph_with_the_gradients_and_buffers_of_the_plain_path(overrides: str) -> None:
    config = compose(["network.width=4", "trainer.kernels=reference", *overrides.split()])
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(assemble(config, SEEN).double().network)
    plain, other = networks
    counters.clear()
    torch.compiler.reset()
    compiled = torch.compile(other.forward, backend="aot_eager", dynamic=False)
    x, y = torch.rand(config.num_steps, 6, 1, 8, 8, dtype=torch.float64), torch.arange(6)
    for forward in (plain, compiled):
        functional.cross_entropy(forward(x), y).backward()
    assert not counters["graph_break"]
    for (name, p), (_, q) in zip(plain.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    torch.testing.assert_close(dict(plain.named_buffers()), dict(other.named_buffers()))


def test_a_compiled_run_is_the_plain_run_and_says_how_long_it_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # convolutions and recurrences, and few of them: a compiler of C++ runs for each kind of loop
    small = ("network=vgg", "residual=none", "depth.num_layers=4", "encoding.num_steps=2")
    plain, compiled = tiny("trainer.kernels=reference", *small), tiny("trainer.compile=true", *small)
    assert plain.run_id == compiled.run_id
    results = {}
    for name, config in (("plain", plain), ("compiled", compiled)):
        monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / name))
        results[name] = train.run(config, echo=False)
    folder = RunFolder.of(compiled)
    result = folder.trained()
    assert result.metrics == pytest.approx(results["plain"].metrics, rel=1e-6, abs=1e-9)
    assert results["plain"].compile_s is None
    assert result.compile_s is not None and 0 < result.compile_s < result.duration_s
    assert f"compiling    {result.compile_s:.1f} s" in summary(result, "again")
    assert f"compiled in {result.compile_s:.1f} s" in (folder.path / "train.log").read_text()
    assert folder.manifest()["execution"]["trainer"]["compile"] is True
    assert folder.manifest()["kernels"] == {"used": "reference", "why": "trainer.compile=true compiles the plain path"}


@pytest.mark.parametrize(
    "what",
    ["trainer.kernels=fused", "trainer.vectorized_seeds=true", "trainer.checkpoint_activations=true",
     "trainer.devices=2", "optim.rate_penalty=0.1", "optim.width_schedule=linear optim.width_end=0.5"],
)  # fmt: skip
def test_what_cannot_be_compiled_is_refused(what: str) -> None:
    said = re.escape(what.split()[0])
    with pytest.raises(UserError, match=rf"{said} cannot be combined with trainer\.compile=true"):
        compose([*what.split(), "trainer.compile=true", "surrogate=rect"])


def test_compilation_takes_the_plain_path() -> None:
    assert kernels_of(compose(["method=lif_bn", "trainer.compile=true"])).used == "reference"


def test_a_machine_without_a_compiler_is_told_before_training(tmp_path: Path) -> None:
    environment = {
        **os.environ, "PATH": str(tmp_path), "SNN_EXP_OUTPUT": str(tmp_path / "outputs"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
    }  # fmt: skip
    environment.pop("CXX", None)
    command = [str(Path(sys.executable).with_name("snn-exp")), "train", "method=s2nn_bn", "trainer.compile=true"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot use trainer.compile=true: " in done.stderr and "compiler" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "outputs").glob("runs/*/manifest.json"))
