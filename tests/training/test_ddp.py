"""Several processes for one run: the batch they share, what they train, one of them killed, their owner killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch import distributed as dist

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.nn.distributed import share_of
from snn_exp.nn.norms import NORMS, Norm, Site
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import Lost
from snn_exp.runs.run_files import Result
from snn_exp.training import build, job, train
from snn_exp.training.ddp import together
from snn_exp.training.task import Classification

TIGHT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12}


# --- a batch and its shares -----------------------------------------------------------------------


def batch() -> tuple[Tensor, Tensor]:
    """[T=3, B=5, C=8, H=2, W=2], which two processes do not divide, and a gradient."""
    generator = torch.Generator().manual_seed(0)
    x, gradient = torch.rand(2, 3, 5, 8, 2, 2, dtype=torch.float64, generator=generator)
    return x, gradient


def all_norms() -> dict[str, Norm]:
    return {
        f"{name} at {placement}": NORMS[name](Site((8, 2, 2), num_steps=3, placement=placement)).double()
        for name in NORMS
        for placement in NORMS[name].placements
    } | {
        f"psp over {over}": NORMS["psp"](Site((8, 2, 2), 3), over=over).double() for over in ("neuron", "channel_step")
    }


def passed(norm: Norm, x: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """What a norm makes of two batches, and of its gradients and buffers."""
    norm(2 * x)
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * gradient).sum().backward()
    assert x.grad is not None
    gradients = {f"{name}.grad": p.grad for name, p in norm.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x.grad": x.grad, **gradients, **dict(norm.named_buffers())}


def all_passed(x_TBN: Tensor, gradient_TBN: Tensor) -> dict[str, dict[str, Tensor]]:
    return {
        name: passed(norm, x_TBN[0], gradient_TBN[0]) if "membrane" in name else passed(norm, x_TBN, gradient_TBN)
        for name, norm in all_norms().items()
    }


def pass_shares(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.save(all_passed(*(share_of(whole, 1) for whole in batch())), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_every_norm_makes_of_the_shares_what_it_makes_of_the_batch(tmp_path: Path) -> None:
    together(2, pass_shares, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, whole in all_passed(*batch()).items():
        for key, expected in whole.items():
            a, b = first[name][key], second[name][key]
            if key in ("y", "x.grad"):
                assert a.shape[-4] == 3 and b.shape[-4] == 2
                found = torch.cat([a, b], -4)
            elif key.endswith(".grad"):
                found = a + b
            else:
                assert torch.equal(a, b), f"{name}: the processes keep another {key}"
                found = a
            torch.testing.assert_close(found, expected, **TIGHT, msg=lambda m, n=f"{name}, {key}": f"{n}: {m}")


# --- a run of two processes -----------------------------------------------------------------------


def tiny(*overrides: str) -> ExperimentConfig:
    return compose(
        ["network.width=4", "logger=none", "trainer.accelerator=cpu", "trainer.precision=64-true", "neuron=lif",
         "trainer.max_epochs=2", "optim.batch_size=111", "encoding.num_steps=2", *overrides]
    )  # fmt: skip


def ran(config: ExperimentConfig, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Result, RunFolder]:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(root))
    return train.run(config, echo=False), RunFolder.of(config)


def require_the_same(two: tuple[Result, RunFolder], one: tuple[Result, RunFolder]) -> None:
    """Weights, metrics, epochs and layers."""
    weights, expected = (load_file(folder.weights) for _, folder in (two, one))
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-8, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")
    assert two[0].metrics == pytest.approx(one[0].metrics, rel=1e-8)
    assert two[0].best_epoch == one[0].best_epoch
    assert two[0].operations == one[0].operations, "each operation is counted once"
    numbers = [[{key: float(value) for key, value in row.items()} for row in run[1].epochs()] for run in (two, one)]
    assert [row["epoch"] for row in numbers[0]] == [0, 1]
    for row, row_of_one in zip(*numbers, strict=True):
        assert row == pytest.approx(row_of_one, rel=1e-6)


@pytest.mark.parametrize(
    "overrides",
    [
        ("norm=psp", "encoding=rate", "dataset.max_shift=1"),
        ("norm=bn", "optim.label_smoothing=0.1", "optim.rate_penalty=0.5"),
        ("norm=tab", "trainer.checkpoint_activations=true"),
    ],
    ids=" ".join,
)
def test_two_processes_train_what_one_does(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, shared = tiny(*overrides), tiny(*overrides, "trainer.devices=2", "trainer.strategy=ddp")
    assert shared.run_id == config.run_id
    one = ran(config, tmp_path / "one", monkeypatch)
    two = ran(shared, tmp_path / "two", monkeypatch)
    data = build.build_data(config)
    assert 2 * len(data.train_dataloader()) >= 20 and data._train_sampler().smallest_batch % 2, "unequal shares"
    require_the_same(two, one)
    files = [{path.name for path in folder.path.rglob("*")} for _, folder in (two, one)]
    assert files[0] == files[1]
    logs = [(folder.path / "train.log").read_text().splitlines() for _, folder in (two, one)]
    assert len(logs[0]) == len(logs[1]), "one process speaks"
    assert two[1].manifest()["execution"]["trainer"]["devices"] == 2
    monkeypatch.setattr(train, "together", None)
    assert ran(config, tmp_path / "two", monkeypatch)[0] == two[0], "one run, however many processes train it"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, RunFolder]:
    """A run of one process."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return ran(tiny("norm=bn"), tmp_path_factory.mktemp("undisturbed"), monkeypatch)


def test_a_run_whose_owner_is_killed_takes_its_processes_along_and_goes_on_with_one(
    undisturbed: tuple[Result, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "killed"))
    killed = RunFolder.of(tiny("norm=bn"))
    context = multiprocessing.get_context("forkserver")
    arguments = (tiny("norm=bn", "trainer.devices=2"), killed)
    owner = context.Process(target=run_it, args=arguments)
    owner.start()
    await_that(lambda: killed.last_checkpoint is not None or not owner.is_alive())
    workers = psutil.Process(owner.pid).children(recursive=True)
    owner.kill()
    owner.join()
    assert len(workers) >= 3, "two, and the server that forked them"
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert killed.last_checkpoint is not None and killed.result() is None
    require_the_same(ran(tiny("norm=bn"), tmp_path / "killed", monkeypatch), undisturbed)


def run_it(config: ExperimentConfig, folder: RunFolder) -> None:
    train.run(config, echo=False, folder=folder)


def await_that(is_so: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill_one_after_an_epoch(rank: int, *arguments: Any) -> None:
    def on_train_epoch_start(task: Classification) -> None:
        if rank == 1 and task.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    patched: Any = Classification
    patched.on_train_epoch_start = on_train_epoch_start
    train.run_rank(rank, *arguments)


def diverge(rank: int, *arguments: Any) -> None:
    """Not a number for the samples of the second process only."""
    forward, patched = Classification.forward, cast(Any, Classification)
    patched.forward = lambda task, x: forward(task, x) * (float("nan") if rank else 1.0)
    train.run_rank(rank, *arguments)


def test_a_run_with_a_killed_process_ends_in_one_sentence_and_goes_on(
    undisturbed: tuple[Result, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tiny("norm=bn", "trainer.devices=2")
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "killed"))
    with monkeypatch.context() as patched:
        patched.setattr(train, "run_rank", kill_one_after_an_epoch)
        job.run_or_store_failure(shared)
    assert RunFolder.of(shared).failure() == (
        "RuntimeError: process 1 of 2 was killed by SIGKILL, and the others with it; the same command resumes from the "
        "last checkpoint"
    )
    assert RunFolder.of(shared).last_checkpoint is not None
    require_the_same(ran(shared, tmp_path / "killed", monkeypatch), undisturbed)


def test_a_loss_that_is_no_number_in_one_process_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "run_rank", diverge)
    result, folder = ran(tiny("norm=bn", "trainer.devices=2"), tmp_path, monkeypatch)
    assert result.status == "diverged"
    kept = torch.load(folder.path / "diverged_batch.pt", weights_only=True)
    assert kept["images"].shape == (111, 1, 8, 8), "the whole batch"


# --- how they end ---------------------------------------------------------------------------------


def fail(rank: int, error: Exception) -> None:
    if rank == 1:
        raise error
    time.sleep(600)


def hear_slurm(rank: int, folder: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.raise_signal(number)
    (folder / str(rank)).touch()


def leave(rank: int) -> None:
    os._exit(3)


@pytest.mark.parametrize("error", [UserError("type this"), Lost("it is another's")])
def test_a_fault_in_one_process_ends_the_others_and_is_raised_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        together(2, fail, error)


def test_a_bug_in_one_process_keeps_its_name_and_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="process 1: ZeroDivisionError: by me") as raised:
        together(2, fail, ZeroDivisionError("by me"))
    assert "in fail" in raised.value.__notes__[0]
    with pytest.raises(RuntimeError, match="one of 2 processes ended early: exit codes"):
        together(2, leave)


def test_what_slurm_says_to_all_processes_is_left_to_the_first(tmp_path: Path) -> None:
    together(2, hear_slurm, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["trainer.strategy=ddp"],
         "trainer.strategy=ddp shares every batch among devices and trainer.devices is 1; type trainer.devices=2, or "
         "leave trainer.strategy out"),
        (["trainer.devices=4", "optim.batch_size=3"],
         "trainer.devices=4 share every batch and optim.batch_size=3 has no sample for some; type trainer.devices=3 or "
         "fewer, or a larger optim.batch_size"),
    ],
)  # fmt: skip
def test_devices_that_cannot_share_a_batch_are_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        compose(overrides)
    assert str(raised.value) == sentence


def test_a_last_batch_that_is_too_small_is_refused() -> None:
    data = build.build_data(tiny("optim.batch_size=100"))
    smallest = data.num_train % 100
    data.require_shares(smallest)
    with pytest.raises(UserError) as raised:
        data.require_shares(smallest + 1)
    assert str(raised.value) == (
        f"the last batch of an epoch has {smallest} of the {data.num_train} training samples and "
        f"trainer.devices={smallest + 1} share it; type trainer.devices={smallest} or fewer, or another optim.batch_size"
    )


def test_more_devices_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError) as raised:
        train.run(tiny("trainer.accelerator=gpu", "trainer.devices=3"))
    assert str(raised.value) == (
        "trainer.devices=3 asks for more GPUs than the 2 of this machine; type trainer.devices=2, or "
        "trainer.accelerator=cpu"
    )


def test_a_gpu_without_bfloat16_is_named_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    config = tiny("trainer.precision=bf16-mixed", "trainer.accelerator=gpu")
    with pytest.raises(UserError, match=r"^trainer\.precision=bf16-mixed, and this GPU does not compute in bfloat16; "):
        train.run(config)
    assert not RunFolder.of(config).path.exists()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", "logger=none", "neuron=s2nn", "trainer.accelerator=gpu"]) == 2
    said = (
        "trainer.accelerator=gpu, and torch finds no GPU on this machine; leave it out, or type trainer.accelerator=cpu"
    )
    assert capsys.readouterr().err.strip().endswith(said)
