"""Seeds that train as one network: each is its own run, to the last digit that float64 has."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from snn_exp.cli.main import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.files import write_json
from snn_exp.nn.weights import WeightQuant
from snn_exp.runs.folder import RunFolder
from snn_exp.sweeps import launch
from snn_exp.training import checkpoints
from snn_exp.training.build import DataSpec, assemble, kernels_of
from snn_exp.training.checkpoints import Resumption
from snn_exp.training.seeds import _at_the_same_batch, require_stackable, run_in_step
from snn_exp.training.stacking import Stack, what_cannot_be_stacked
from snn_exp.training.task import Classification
from snn_exp.training.train import run
from snn_exp.training.vectorized import Failed, Lockstep, Seat
from snn_exp.training.verify import verify

SEEN = DataSpec(in_shape=(1, 8, 8), num_classes=10, pixel_mean=0.0, pixel_std=1.0)
NETWORKS = [
    ("method=s2nn_bn", "residual=bireal"),
    ("method=lif_bn", "depth=d20"),
    ("method=srm_psp",),
    ("method=sign_bn",),
    ("neuron=relu", "weight_quant=xnor"),
    ("network=mlp",),
    ("network=vgg", "norm=none"),
    ("neuron=rsign", "residual.activation=rprelu"),
    ("residual=post", "residual.shortcut=conv", "synapse=exponential"),
    ("residual=sew_add", "norm=tdbn"),
    ("residual=ms",),
    ("norm=psp_stream", "weight_norm=standardized"),
    ("neuron.learn_threshold=true",),
    ("neuron=qrelu", "neuron.per=channel", "weight_quant=int"),
    ("neuron=mtn", "residual=post"),
]


def tasks_of(overrides: Sequence[str], kernels: str) -> list[Classification]:
    configs = [compose([*overrides, f"seed={seed}", f"trainer.kernels={kernels}"]) for seed in range(3)]
    return [assemble(config, SEEN, kernels_of(config)).double() for config in configs]


@pytest.mark.parametrize("overrides", NETWORKS, ids=" ".join)
def test_a_stack_computes_what_its_networks_do(overrides: Sequence[str]) -> None:
    stacked, alone = tasks_of(overrides, "auto"), tasks_of(overrides, "reference")
    num_steps = compose(list(overrides)).num_steps
    inputs = [torch.rand(num_steps, 8, 1, 8, 8, dtype=torch.float64) for _ in alone]
    labels = [torch.randint(0, 10, (8,)) for _ in alone]
    for task, other in zip(alone, stacked, strict=True):
        task.network.load_state_dict(other.network.state_dict())
    stack = Stack([task.network for task in stacked])
    stack.whole.train()
    together = stack(inputs)
    torch.stack([functional.cross_entropy(*pair) for pair in zip(together, labels, strict=True)]).sum().backward()
    stack.hand_on_gradients()
    for task, other, x, y_B, logits in zip(alone, stacked, inputs, labels, together, strict=True):
        own = task.network.train()(x)
        functional.cross_entropy(own, y_B).backward()
        torch.testing.assert_close(logits, own, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(other.network.state_dict(), task.network.state_dict(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(gradients(other), gradients(task), rtol=1e-9, atol=1e-12)


def gradients(task: Classification) -> dict[str, Tensor]:
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in task.network.named_parameters()}


@pytest.mark.parametrize("what", ["norm=layer", "norm=group", "neuron=plif", "norm=tebn", "norm=mpbn"])
def test_what_mixes_channels_is_refused_before_training(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    seeds = ["-m", what, "seed=0,1", "trainer.vectorized_seeds=true", "logger=none"]
    assert main(["train", *seeds]) == 2
    said = capsys.readouterr().err
    assert "mixes channels or has a tensor without one value per channel; leave it out" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "what", ["trainer.precision=bf16-mixed", "optim.rate_penalty=0.1", "trainer.checkpoint_activations=true"]
)
def test_what_a_joint_step_lacks_is_refused(what: str) -> None:
    with pytest.raises(UserError, match=r"cannot be combined with trainer.vectorized_seeds=true"):
        compose([what, "trainer.vectorized_seeds=true"])


def test_a_network_that_can_be_stacked_is_not_refused() -> None:
    config = compose(["method=s2nn_bn", "trainer.vectorized_seeds=true"])
    require_stackable(config)
    assert what_cannot_be_stacked(assemble(config, SEEN).network) is None


def configs_of(*overrides: str) -> list[ExperimentConfig]:
    common = [
        "method=s2nn_bn", "dataset=digits_200", "optim.batch_size=16", "trainer.max_epochs=2", "trainer.precision=64-true",
        "trainer.vectorized_seeds=true", "logger=none", *overrides,
    ]  # fmt: skip
    return [compose([*common, f"seed={seed}"]) for seed in range(3)]


def test_each_seed_is_its_own_single_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = configs_of()
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "together"))
    run_in_step(configs)
    require_as_alone(configs, tmp_path)


@pytest.mark.parametrize(
    ("method", "minutes", "said"),
    [
        ("s2nn_bn", 1e-9, "resumes within epoch 2 of 2, step 4 of 13"),
        ("srm_psp", 5, "resumes after epoch 1 of 2"),  # a PSP norm takes its first moment from its first batch
    ],
)
def test_runs_that_were_stopped_go_on_in_step_and_one_joins(
    method: str, minutes: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = configs_of(f"method={method}", f"trainer.checkpoint_every_minutes={minutes}")
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "together"))
    forward, num_left = Lockstep.forward, 18  # an epoch has 13 batches

    def stops(self: Lockstep, brought: Sequence[Any]) -> Sequence[Tensor]:
        nonlocal num_left
        num_left -= 1
        if num_left == 0:
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C
        return forward(self, brought)

    with monkeypatch.context() as stopped:
        stopped.setattr(Lockstep, "forward", stops)
        with pytest.raises(KeyboardInterrupt):
            run_in_step(configs[:2])
    for config in configs[:2]:
        folder = RunFolder.of(config)
        assert folder.last_checkpoint is not None
        assert folder.result() is None
        assert not (folder.path / "failure.json").exists()
    run_in_step(configs)
    for config in configs[:2]:
        assert said in (RunFolder.of(config).path / "train.log").read_text().splitlines()
    require_as_alone(configs, tmp_path)


def test_only_runs_at_the_same_batch_go_on_together(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [compose(["dataset=digits_200", f"seed={seed}"]) for seed in range(5)]
    where = {configs[0].run_id: 4, configs[1].run_id: 0, configs[3].run_id: 4}

    def resumption(folder: RunFolder, task: object, say: object) -> Resumption | None:
        batch = where.get(folder.path.name)
        return None if batch is None else Resumption(folder.path, epoch=1, batch=batch)

    monkeypatch.setattr(checkpoints, "where_to_resume", resumption)
    for config in configs[:4]:  # seed 2 has a checkpoint that cannot be used, and begins anew as seed 4 does
        RunFolder.of(config).checkpoints.mkdir(parents=True)
        (RunFolder.of(config).checkpoints / "last.ckpt").touch()
    groups = _at_the_same_batch(configs)
    assert [[config.seed for config in group] for group in groups] == [[0, 3], [1], [2, 4]]


def require_as_alone(configs: Sequence[ExperimentConfig], tmp_path: Path) -> None:
    for config in configs:
        together = RunFolder.of(config)
        alone = RunFolder(tmp_path / "alone" / config.run_id)
        result = run(config, echo=False, folder=alone)
        other = together.trained()
        assert other.metrics == pytest.approx(result.metrics, rel=1e-6, abs=1e-9)
        assert other.metrics["test/acc"] == result.metrics["test/acc"]
        torch.testing.assert_close(load_file(together.weights), load_file(alone.weights), rtol=1e-7, atol=1e-9)
        assert 0 < other.cpu_s < 60
        assert len(together.epochs()) == len(alone.epochs()) == 2


def test_verify_knows_that_it_was_not_trained_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    configs = configs_of("trainer.max_epochs=1", "trainer.precision=32-true")
    run_in_step(configs)
    verdict = verify(RunFolder.of(configs[0]), configs[0])
    assert verdict.finding != "bitwise equal"
    assert "it was vectorized with other seeds, which rounds differently than training alone" in verdict.reasons


def test_a_job_has_the_seeds_of_a_cell() -> None:
    cells = [*configs_of(), *configs_of("neuron=relu"), *configs_of("trainer.vectorized_seeds=false")[:1]]
    ids = [config.run_id for config in cells]
    assert launch.as_jobs(cells[:6]) == [ids[:3], ids[3:6]]
    assert launch.as_jobs(cells[6:]) == [[ids[6]]]


def test_a_job_whose_runs_were_finished_meanwhile_does_nothing(output: Path, tmp_path: Path) -> None:
    configs = configs_of("trainer.max_epochs=1")[:2]
    write_json(tmp_path / "runs.json", {f"run_{config.run_id}": config.to_plain() for config in configs})
    job = OmegaConf.create(
        {"run": "_".join(["run", *(c.run_id for c in configs)]), "runs_file": tmp_path / "runs.json"}
    )
    launch._job(job)
    written = [(RunFolder.of(config).path / "result.json").stat().st_mtime_ns for config in configs]
    launch._job(job)
    assert written == [(RunFolder.of(config).path / "result.json").stat().st_mtime_ns for config in configs]


def test_students_train_in_step_each_with_its_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "together"))
    teachers = configs_of("method=relu_bn")
    run_in_step(teachers)
    students = [dataclasses.replace(s, teacher=t.run_id) for s, t in zip(configs_of(), teachers, strict=True)]
    assert launch.as_jobs(students) == [[config.run_id for config in students]]
    run_in_step(students)
    require_as_alone(students, tmp_path)


def test_a_run_that_was_alone_says_so(output: Path) -> None:
    config = configs_of("trainer.max_epochs=1")[0]
    run(config, echo=False)
    assert RunFolder.of(config).manifest()["execution"]["trainer"]["vectorized_seeds"] is False
    assert verify(RunFolder.of(config), config).finding == "bitwise equal"


class OfTheWholeWeight(WeightQuant):
    """A guest's, which mixes what channels have."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight / weight.abs().max()


def test_a_part_of_a_guest_is_not_taken_for_one_of_ours() -> None:
    assert what_cannot_be_stacked(OfTheWholeWeight()) == "OfTheWholeWeight"


def total(brought: Sequence[Any]) -> list[Any]:
    return [sum(brought)] * len(brought)


def test_who_ends_early_leaves_the_others_to_go_on() -> None:
    lockstep, sums = Lockstep(3), {}

    def job(num_meetings: int) -> Any:
        def meets(seat: Seat) -> None:
            sums[num_meetings] = [lockstep.meet(seat, 1, total) for _ in range(num_meetings)]

        return meets

    lockstep.run([job(1), job(2), job(4)])
    assert sums == {1: [3], 2: [3, 2], 4: [3, 2, 1, 1]}


def test_only_one_goes_on_at_a_time() -> None:
    lockstep, running, most = Lockstep(4), threading.Semaphore(0), []

    def job(seat: Seat) -> None:
        for _ in range(20):
            assert running.acquire(blocking=False) is False
            running.release()
            most.append(seat)
            assert running.acquire(blocking=False)
            lockstep.meet(seat, 0, total)

    lockstep.run([job] * 4)
    assert len(most) == 80


def test_work_that_fails_ends_all() -> None:
    lockstep, reasons = Lockstep(2), []

    def broken(brought: Sequence[Any]) -> Sequence[Any]:
        raise ValueError("out of memory")

    def job(seat: Seat) -> None:
        with pytest.raises(Failed, match="ValueError: out of memory") as caught:
            lockstep.meet(seat, 0, broken)
        reasons.append(type(caught.value.__cause__))

    lockstep.run([job, job])
    assert reasons == [ValueError, ValueError]
