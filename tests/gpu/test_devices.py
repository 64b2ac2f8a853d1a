"""All tensors of a network are where it is: forward on tensors that say they are on a GPU and hold nothing, so no GPU.

An operation on tensors of two devices raises. A part that makes a tensor and forgets to say where is found so.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from snn_exp.config import schemas
from snn_exp.config.compose import compose
from snn_exp.nn.neurons import S2NN
from snn_exp.training.build import DataSpec, assemble
from snn_exp.training.task import Classification

pytestmark = pytest.mark.gpu

SEEN = DataSpec(in_shape=(1, 8, 8), num_classes=10, pixel_mean=0.5, pixel_std=1.0)
GROUPS = ("neuron", "norm", "network", "residual", "synapse", "surrogate", "weight_norm", "weight_quant", "encoding")
NEEDS = {  # what an option cannot be without
    "norm=group": ("norm.num_groups=2",),
    "surrogate=none": ("neuron=relu",),
    "encoding=frames": ("dataset=digits_dvs",),
    "neuron=sign": ("residual=bireal",),
}


def forward_on_a_gpu(task: Classification, x_shape: tuple[int, ...]) -> Tensor:
    """Logits of a task in training and in eval, whose tensors are on a GPU that need not exist."""
    with FakeTensorMode():
        for module in task.modules():
            for name, parameter in module.named_parameters(recurse=False):
                on_gpu = torch.empty(parameter.shape, dtype=parameter.dtype, device="cuda")
                setattr(module, name, nn.Parameter(on_gpu, requires_grad=parameter.requires_grad))
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda"))
        x = torch.rand(*x_shape, device="cuda")
        logits: Tensor = task.train()(x)
        assert task.eval()(x).device == logits.device
        return logits


@pytest.mark.parametrize("option", [f"{group}={name}" for group in GROUPS for name in schemas.load()[group]])
def test_a_network_of_every_part_computes_where_it_is(option: str) -> None:
    config = compose(["network.width=4", "trainer.accelerator=cpu", *NEEDS.get(option, ()), option])
    sample = (16, 1, 8, 8) if option == "encoding=frames" else (1, 8, 8)
    logits = forward_on_a_gpu(Classification.of(assemble(config, SEEN)), (6, *sample))
    assert logits.device.type == "cuda" and logits.shape == (6, 10)


def test_a_part_that_forgets_where_it_is_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: S2NN, x_TBN: Tensor) -> Tensor:
        return x_TBN + torch.zeros(x_TBN.shape)

    monkeypatch.setattr(S2NN, "forward", forgetful)
    task = Classification.of(assemble(compose(["method=s2nn_bn", "network.width=4"]), SEEN))
    with pytest.raises(RuntimeError, match=r"on the same device|two different devices"):
        forward_on_a_gpu(task, (6, 1, 8, 8))
