"""The loss of every step: by hand, on real networks, and what is refused beside it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from snn_exp.config.compose import compose
from snn_exp.errors import UserError
from snn_exp.training.build import DataSpec, assemble
from snn_exp.training.losses import logits_by_step, temporal_efficient_training
from snn_exp.training.task import Classification
from snn_exp.training.train import run

SEEN = DataSpec(in_shape=(1, 8, 8), num_classes=10, pixel_mean=0.0, pixel_std=1.0)
TINY = ("network.width=4", "logger=none", "trainer.progress=false", "optim.batch_size=128", "trainer.max_epochs=1")


def task_of(*overrides: str) -> Classification:
    torch.manual_seed(0)
    return Classification.of(assemble(compose(["network.width=16", *overrides]), SEEN))


@pytest.mark.parametrize(
    "structure", ["residual=pre", "residual=post", "network=vgg", "network=mlp", "residual=sew_add norm=tebn"]
)
def test_the_logits_of_a_network_are_the_mean_of_those_of_its_steps(structure: str) -> None:
    task = task_of("encoding=rate", "encoding.num_steps=3", *structure.split())
    x_TBCHW = task.encoded(torch.rand(5, 1, 8, 8), 0)
    with logits_by_step(task.network) as steps:
        logits = task.network(x_TBCHW)
    (logits_TBK,) = steps
    assert logits_TBK.shape == (3, 5, 10)
    torch.testing.assert_close(logits_TBK.mean(0), logits)
    assert (logits_TBK[0] - logits_TBK[1]).abs().max() > 1e-4, "a rate code shows another image at each step"
    task.network(x_TBCHW)
    assert len(steps) == 1, "outside the block nothing is collected"


def test_tet_is_what_its_equation_says() -> None:
    logits = torch.tensor([[[2.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [3.0, 0.0]]])
    y_B = torch.tensor([0, 1])
    entropies = [math.log(1 + math.exp(-2)), math.log(2), math.log(1 + math.exp(1)), math.log(1 + math.exp(3))]
    pull = sum((o - 0.5) ** 2 for o in (2, 0, 0, 0, 0, 1, 3, 0)) / 8
    found = temporal_efficient_training(logits, y_B, weight=0.2, target=0.5)
    assert found.item() == pytest.approx(0.8 * sum(entropies) / 4 + 0.2 * pull)


def test_without_the_pull_the_same_logits_at_each_step_are_the_cross_entropy() -> None:
    logits, y_B = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    found = temporal_efficient_training(logits.expand(3, -1, -1), y_B, weight=0.0, target=1.0, label_smoothing=0.1)
    torch.testing.assert_close(found, nn.functional.cross_entropy(logits, y_B, label_smoothing=0.1))


def test_a_run_trains_with_it() -> None:
    by_loss = {}
    for loss in ("ce", "tet"):
        result = run(compose([*TINY, f"optim.loss={loss}"]), echo=False)
        by_loss[loss] = result.metrics["val/loss"]
        assert result.status == "done"
    assert by_loss["ce"] != by_loss["tet"], "both are evaluated by the cross-entropy of the mean"


def test_a_network_without_a_linear_classifier_behind_the_mean_is_refused() -> None:
    class Guest(nn.Module):
        pass

    refused = pytest.raises(UserError, match=r"optim.loss=tet reads logits at every step, and Guest has no linear")
    with refused, logits_by_step(Guest()):  # type: ignore[arg-type]
        pass


def test_the_loss_of_before_keeps_run_ids() -> None:
    assert compose(["optim.loss=ce"]).run_id == compose([]).run_id
    assert len({compose(o).run_id for o in ([], ["optim.loss=tet"], ["optim.loss=tet", "optim.tet_weight=0.1"])}) == 3


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("optim.loss=tet neuron=s2nn", r"optim.loss=tet takes the cross-entropy of every step, and with neuron=s2nn there is "
         r"one \(encoding.num_steps=1\); type optim.loss=ce, or a neuron with time such as neuron=lif"),
        ("optim.loss=tet encoding.num_steps=1", "there is one"),
        ("optim.tet_weight=0.1", "optim.tet_weight=0.1 does nothing with optim.loss=ce; type optim.loss=tet as well"),
        ("optim.loss=tet trainer.compile=true", "optim.loss=tet cannot be combined with trainer.compile=true"),
        ("optim.loss=tet trainer.vectorized_seeds=true", "optim.loss=tet cannot be combined with trainer.vectorized_seeds"),
        ("optim.loss=mse", "optim.loss=mse is not allowed: optim.loss must be one of ce, tet"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_a_sentence(command: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        compose(command.split())
