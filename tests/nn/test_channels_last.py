"""trainer.channels_last: another layout of the same numbers, from the first convolution to the readout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch._inductor.decomposition import select_decomp_table
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from snn_exp.config.compose import compose
from snn_exp.nn.neurons import LIF
from snn_exp.runs.folder import RunFolder
from snn_exp.training import train
from snn_exp.training.build import DataSpec, assemble, build_data, kernels_of, load_task
from snn_exp.training.classifier import Classifier
from snn_exp.training.scoring import evaluate

SEEN = DataSpec(in_shape=(1, 8, 8), num_classes=10, pixel_mean=0.0, pixel_std=1.0)


def step(task: Classifier, num_steps: int) -> Tensor:
    x = torch.rand(num_steps, 6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits: Tensor = task.network(x)
    functional.cross_entropy(logits, torch.arange(6)).backward()
    return logits


@pytest.mark.parametrize("kernels", ["reference", "fused"])
@pytest.mark.parametrize(
    "overrides",
    ["method=lif_bn", "method=s2nn_bn", "method=srm_psp", "neuron=lif norm=tebn synapse=exponential residual=sew_add",
     "method=sign_bn weight_quant=xnor residual.shortcut=conv"],
)  # fmt: skip
def test_every_map_lies_by_position_and_is_the_same(overrides: str, kernels: str) -> None:
    tasks = []
    for layout in ("false", "true"):
        config = compose(["network.width=4", f"trainer.kernels={kernels}", f"trainer.channels_last={layout}",
                          "trainer.accelerator=cpu", *overrides.split()])  # fmt: skip
        torch.manual_seed(0)
        tasks.append(assemble(config, SEEN, kernels_of(config)).double())
    plain, turned = tasks
    found: list[tuple[nn.Module, Tensor]] = []
    for module in turned.network.modules():
        if module is not turned.network:
            module.register_forward_hook(lambda module, _, output: found.append((module, output)))
    torch.testing.assert_close(step(plain, config.num_steps), step(turned, config.num_steps))
    for (name, p), (_, q) in zip(plain.named_parameters(), turned.named_parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    torch.testing.assert_close(dict(plain.named_buffers()), dict(turned.named_buffers()))
    maps = [(module, output) for module, output in found if output.dim() == 5]
    assert len(maps) > 30
    assert [module for module, (first, *_) in maps if not first.is_contiguous(memory_format=torch.channels_last)] == []


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_a_step_on_channels_last_maps_can_be_compiled(reset: str) -> None:
    """As inductor decomposes it; whole compilations take half a minute."""
    neuron = LIF(reset=reset)
    x = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    state = neuron.initial_state(x)
    traced = make_fx(lambda x: neuron.step(x, state), decomposition_table=select_decomp_table())(x)
    for found, expected in zip(traced(x), neuron.step(x, state), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_run_is_the_same_and_so_are_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = ["network.width=4", "logger=none", "trainer.progress=false", "optim.batch_size=512",
              "trainer.max_epochs=2", "trainer.precision=64-true", "method=s2nn_bn"]  # fmt: skip
    weights = []
    for layout in ("false", "true"):
        config = compose([*common, f"trainer.channels_last={layout}"])
        monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / layout))
        train.run(config, echo=False)
        folder = RunFolder.of(config)
        weights.append(load_file(folder.weights))
    assert folder.manifest()["execution"]["trainer"]["channels_last"] is True
    torch.testing.assert_close(*weights, rtol=1e-7, atol=1e-9)
    assert evaluate(load_task(folder, config, data := build_data(config)), data, "val")["val/acc"] == pytest.approx(
        folder.trained().metrics["val/acc"]
    )
