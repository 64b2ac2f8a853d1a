"""Runs that are killed at any moment, whose checkpoints are torn, or whose disk is full: they go on to the same end."""

from __future__ import annotations

import errno
import functools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snn_exp.cli.main import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.metrics.operations import firing_metrics
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import Lost
from snn_exp.training import build, checkpoints, job, train
from snn_exp.training.task import Classification
from tests.disturbing import KILLS, TINY, came_out, undisturbed, wait_for

THREE_EPOCHS = [word for word in TINY if "max_epochs" not in word] + ["trainer.max_epochs=3"]
SHORT = compose(THREE_EPOCHS)
NUM_KILLS = 2 * KILLS  # four of them where a file is written, the others at random moments
NUM_EPOCHS = 2 * NUM_KILLS + 5
CONFIG = compose([*THREE_EPOCHS[:-1], f"trainer.max_epochs={NUM_EPOCHS}", "seed=0"])


def trained_by(output: Path, before: Callable[[], None], config: ExperimentConfig) -> None:
    """What a child does."""
    os.environ["SNN_EXP_OUTPUT"] = str(output)
    before()
    train.run(config, echo=False)


def undressed() -> None:
    """Nothing is in wait for the child but the signal."""


def torn_in_the_last() -> None:
    die_at("last.ckpt", Path.write_bytes, half=True)


def torn_in_the_best() -> None:
    die_at("best.ckpt", Path.write_bytes, half=True)


def dead_behind_the_best() -> None:
    die_at("last.ckpt", Path.write_bytes, half=False)


def dead_before_the_last_is_in_place() -> None:
    die_at("last.ckpt", Path.replace, half=False)


def die_at(name: str, at: Callable[..., object], *, half: bool) -> None:
    """This process kills itself at the second time that it does this to the scratch file of that name."""
    seen = []

    def doing(path: Path, what: object) -> object:
        if f".{name}." in path.name:
            seen.append(path)
            if len(seen) == 2:
                if half:
                    assert isinstance(what, memoryview)
                    at(path, what[: len(what) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
        return at(path, what)

    setattr(Path, at.__name__, doing)


def child(output: Path, before: Callable[[], None] = undressed, config: ExperimentConfig = CONFIG) -> BaseProcess:
    """A process that goes on with the run; torch is imported already where it is forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_checkpoints"])
    process = context.Process(target=trained_by, args=(output, before, config))
    process.start()
    return process


@pytest.mark.killed
def test_a_run_killed_again_and_again_at_any_moment_ends_with_bitwise_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "killed"
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(output))
    folder = RunFolder.of(CONFIG)
    for before in (torn_in_the_last, torn_in_the_best, dead_behind_the_best, dead_before_the_last_is_in_place):
        process = child(output, before)
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, before
    moment = random.Random(0)
    for kill in range(4, NUM_KILLS):
        process = child(output)
        wait_for(lambda num=kill: len(folder.epochs()) >= num, 600)
        time.sleep(moment.uniform(0, 0.3))  # some epochs
        process.kill()
        process.join(30)
        assert process.exitcode == -signal.SIGKILL, "it was still running"
    assert folder.result() is None and folder.last_checkpoint is not None
    process = child(output)
    process.join(120)
    assert process.exitcode == 0
    assert len(folder.epochs()) == NUM_EPOCHS
    assert came_out(CONFIG) == undisturbed(CONFIG, tmp_path, monkeypatch)


EVERY_S = 0.25
LONG = ("network.width=4", "logger=none", "trainer.max_epochs=12", "optim.batch_size=64")  # 17 batches of an epoch
OFTEN = f"trainer.checkpoint_every_minutes={EVERY_S / 60}"
KILLED = {
    "plateau": ("neuron=s2nn", "residual=bireal"),
    "plateau, often": ("neuron=s2nn", "residual=bireal", OFTEN, "seed=1"),
    "often": ("neuron=s2nn", OFTEN, "seed=2"),
    "random, often": ("neuron=lif", "encoding=rate", "encoding.num_steps=2", "dataset.max_shift=1",
                      "optim.width_schedule=linear", "optim.width_end=0.5", OFTEN),
    "float64": ("neuron=plif", "norm=psp", "encoding.num_steps=2", "trainer.precision=64-true"),
}  # fmt: skip


def steps_are_written_down(file: Path, plateau: bool) -> None:
    """For a child: a line per training step, with when it began."""
    step = Classification.training_step

    def stepped(task: Classification, batch: Any, batch_idx: int) -> object:
        with file.open("a") as written:
            written.write(f"{os.getpid()} {task.global_step} {time.monotonic()}\n")
        return step(task, batch, batch_idx)

    setattr(Classification, "training_step", stepped)  # noqa: B010, the type of a method is its own
    if plateau:
        stop_rising(pytest.MonkeyPatch())


def written_steps(file: Path) -> list[tuple[int, int, float]]:
    """(process, step, when) of each."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    rows = (line.split() for line in lines if line.endswith("\n"))
    return [(int(pid), int(step), float(when)) for pid, step, when in rows]


@pytest.mark.killed
@pytest.mark.parametrize("name", KILLED)
def test_runs_killed_at_random_moments_lose_an_epoch_or_the_time_between_checkpoints_at_most(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("SEED", time.time_ns() % 10**6))
    moment = random.Random(f"{seed} {name}")
    config, plateau = compose([*LONG, *KILLED[name]]), "plateau" in name
    num_batches = build.build_data(config).num_batches
    output, file = tmp_path / "killed", tmp_path / "steps"
    before = functools.partial(steps_are_written_down, file, plateau)
    for _ in range(KILLS):
        num, more = len(written_steps(file)), moment.randint(1, num_batches)
        process = child(output, before, config)
        wait_for(lambda n=num + more: len(written_steps(file)) >= n, 600)
        time.sleep(moment.uniform(0, 0.05))
        process.kill()
        process.join(30)
        assert process.exitcode == -signal.SIGKILL, f"SEED={seed}: it was still running"
    process = child(output, before, config)
    process.join(240)
    assert process.exitcode == 0, f"SEED={seed}"

    taken = written_steps(file)
    again, seconds = [0], [0.0]
    for number, (pid, step, _) in enumerate(taken):
        if number and taken[number - 1][0] != pid:
            last_of_before = taken[number - 1]
            again.append(last_of_before[1] + 1 - step)
            done_then = [when for _, s, when in taken[:number] if s == step]
            seconds.append(last_of_before[2] - done_then[-1] if done_then else 0.0)
    print(f"SEED={seed} {name}: {KILLS} kills, trained again at most {max(again)} of {num_batches} batches of an "
          f"epoch and {max(seconds):.2f} s, {sum(again)} batches in all")  # fmt: skip
    assert max(again) <= num_batches, f"SEED={seed}"
    if OFTEN in KILLED[name]:
        assert max(seconds) <= EVERY_S + 1, f"SEED={seed}"  # and the time of a step, and of writing

    monkeypatch.setenv("SNN_EXP_OUTPUT", str(output))
    found = came_out(config)
    process = child(
        tmp_path / "undisturbed", functools.partial(steps_are_written_down, tmp_path / "all", plateau), config
    )
    process.join(240)
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "undisturbed"))
    assert found == came_out(config), f"SEED={seed}"
    result = RunFolder.of(config).result()
    assert result is not None and (not plateau or result.best_epoch == 1)


@pytest.mark.killed
def test_a_run_of_two_processes_goes_on_within_an_epoch_and_ends_bitwise_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose([*FOUR, *TWO_PROCESSES, EVERY_BATCH])
    output = tmp_path / "killed"
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(output))
    folder = RunFolder.of(config)
    process = child(output, undressed, config)
    wait_for(lambda: len(folder.epochs()) >= 2, 600)
    last = folder.checkpoints / "last.ckpt"
    for _ in range(2):  # the first may be that of the end of epoch 2, whose metrics are written before it
        before = last.stat().st_mtime_ns
        wait_for(lambda before=before: last.stat().st_mtime_ns != before, 60)
    process.kill()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL, "the run was over"
    process = child(output, undressed, config)
    process.join(240)
    assert process.exitcode == 0
    assert "resumes within epoch 3 of 4, step " in (folder.path / "train.log").read_text()
    found = came_out(config)
    process = child(tmp_path / "undisturbed", undressed, config)
    process.join(240)
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "undisturbed"))
    assert found == came_out(config)


def cut_off_in_the_last_epoch(config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    step = Classification.training_step

    def cut(task: Classification, *batch: Any) -> object:
        assert task.current_epoch < config.trainer.max_epochs - 1, "cut off"
        return step(task, *batch)

    with monkeypatch.context() as patched, pytest.raises(AssertionError, match="cut off"):
        patched.setattr(Classification, "training_step", cut)
        train.run(config, echo=False)
    return RunFolder.of(config)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "harm", "said"),
    [
        ("last.ckpt", cut_in_half, "the run resumes from the previous one, best.ckpt"),
        ("last.ckpt", flip_a_bit, "the run resumes from the previous one, best.ckpt"),
        ("best.ckpt", cut_in_half, "and with it the best weights so far; the run starts over"),
        ("best.ckpt", Path.unlink, "and with it the best weights so far; the run starts over"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_costs_time_alone(
    file: str, harm: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "damaged"))
    folder = cut_off_in_the_last_epoch(SHORT, monkeypatch)
    harm(folder.checkpoints / file)
    train.run(SHORT, echo=False)
    log = (folder.path / "train.log").read_text()
    assert f"the checkpoint {folder.checkpoints / file} is damaged" in log and said in log
    assert came_out(SHORT) == undisturbed(SHORT, tmp_path, monkeypatch)


def test_a_whole_checkpoint_has_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    folder = cut_off_in_the_last_epoch(SHORT, monkeypatch)
    said: list[str] = []
    task = Classification.of(build.build_task(SHORT, build.build_data(SHORT)))
    last = folder.checkpoints / "last.ckpt"
    assert checkpoints.where_to_resume(folder, task, said.append) == checkpoints.Resumption(last, epoch=2, batch=0)
    assert said == []


# --- where it goes on, and how much it trains again -----------------------------------------------

BASE = ("dataset=digits_200", "network.width=4", "optim.batch_size=50", "logger=none")
TWELVE = (*BASE, "neuron=s2nn", "trainer.max_epochs=12")
FOUR = (*BASE, "neuron=s2nn", "trainer.max_epochs=4")
ONE = (*BASE, "neuron=s2nn", "trainer.max_epochs=1")
RANDOM = (*BASE, "neuron=lif", "encoding=rate", "encoding.num_steps=2", "dataset.max_shift=1", "augment=randaugment",
          "optim.width_schedule=linear", "optim.width_end=0.5", "trainer.precision=64-true",
          "trainer.max_epochs=3")  # fmt: skip
NUM_BATCHES = 4  # of 200 samples
EVERY_BATCH = "trainer.checkpoint_every_minutes=1e-9"
# 40 steps per epoch, each of which writes a checkpoint: seconds, so that a look every 50 ms cannot miss an epoch.
TWO_PROCESSES = ("optim.batch_size=5", "trainer.devices=2", "trainer.accelerator=cpu", "encoding=rate")


class Steps:
    """The training steps of all attempts, and a cut before one of them.

    Args:
        cut: (epoch, batch), from 0; a batch behind the last stands for the validation.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cut: tuple[int, int], *, plateau: bool) -> None:
        self.taken: list[tuple[int, int]] = []
        self.cut: tuple[int, int] | None = cut
        step, validation = Classification.training_step, Classification.on_validation_epoch_start

        def stepped(task: Classification, batch: Any, batch_idx: int) -> object:
            self._cut_off_at(task.current_epoch, batch_idx)
            self.taken.append((task.current_epoch, batch_idx))
            return step(task, batch, batch_idx)

        def validated(task: Classification) -> None:
            if task.trainer.state.fn == "fit":
                self._cut_off_at(task.current_epoch, NUM_BATCHES)
            validation(task)

        monkeypatch.setattr(Classification, "training_step", stepped)
        monkeypatch.setattr(Classification, "on_validation_epoch_start", validated)
        if plateau:
            stop_rising(monkeypatch)

    def _cut_off_at(self, *now: int) -> None:
        if now == self.cut:
            self.cut = None
            raise AssertionError("cut off")


def stop_rising(patch: pytest.MonkeyPatch) -> None:
    """The validation score is best in the second epoch."""

    def scored(task: Classification) -> None:
        task.log_dict(firing_metrics(task.firing_rate, "val"))
        task.log("val/score", float(min(task.current_epoch, 1)))

    patch.setattr(Classification, "on_validation_epoch_end", scored)


@functools.cache
def undisturbed_end(root: Path, overrides: tuple[str, ...], plateau: bool) -> tuple[object, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_EXP_OUTPUT", str(root / str(plateau)))
        if plateau:
            stop_rising(patch)
        config = compose(overrides)
        train.run(config, echo=False)
        return came_out(config)


@pytest.fixture(scope="module")
def undisturbed_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.mark.parametrize(
    ("cut", "plateau", "overrides", "said", "num_again"),
    [
        ((8, 3), True, TWELVE, "resumes after epoch 8 of 12", 3),
        ((8, 2), True, (*TWELVE, EVERY_BATCH), "resumes within epoch 9 of 12, step 2 of 4", 0),
        ((8, NUM_BATCHES), True, (*TWELVE, EVERY_BATCH), "resumes within epoch 9 of 12, step 3 of 4", 1),
        ((2, 0), False, (*FOUR, EVERY_BATCH), "resumes after epoch 2 of 4", 0),
        ((0, 3), False, (*FOUR, EVERY_BATCH), "resumes within epoch 1 of 4, step 3 of 4", 0),
        ((0, 3), False, FOUR, None, 3),
        ((1, 2), False, (*RANDOM, EVERY_BATCH), "resumes within epoch 2 of 3, step 2 of 4", 0),
    ],
)
def test_a_run_goes_on_from_its_last_checkpoint_whatever_its_best_epoch_was_and_ends_bitwise_the_same(
    cut: tuple[int, int], plateau: bool, overrides: tuple[str, ...], said: str | None, num_again: int,
    undisturbed_root: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = compose(overrides)
    with monkeypatch.context() as patch:
        steps = Steps(patch, cut, plateau=plateau)
        with pytest.raises(AssertionError, match="cut off"):
            train.run(config, echo=False)
        assert not (RunFolder.of(config).path / "weights.safetensors").exists()
        train.run(config, echo=False)
    log = (RunFolder.of(config).path / "train.log").read_text()
    assert [line for line in log.splitlines() if line.startswith("resumes")] == ([said] if said else [])
    assert len(steps.taken) - len(set(steps.taken)) == num_again
    kept = tuple(word for word in overrides if word != EVERY_BATCH)
    assert came_out(config) == undisturbed_end(undisturbed_root, kept, plateau)
    result = RunFolder.of(config).result()
    assert result is not None and (not plateau or result.best_epoch == 1)


def cut_at(cut: tuple[int, int], config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    with monkeypatch.context() as patch, pytest.raises(AssertionError, match="cut off"):
        Steps(patch, cut, plateau=False)
        train.run(config, echo=False)
    return RunFolder.of(config)


def other_content(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


def a_list(path: Path) -> None:
    torch.save([1, 2, 3], path)


def of_another_network(path: Path) -> None:
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["network.stem.conv.weight"] = torch.zeros(7, 1, 3, 3)
    torch.save(checkpoint, path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("file", "harm", "said"),
    [
        (
            "last.ckpt",
            other_content,
            "is not the checkpoint of a run); the run resumes from the previous one",
        ),
        ("last.ckpt", a_list, "is not the checkpoint of a run); the run resumes from the previous one"),
        (
            "last.ckpt",
            of_another_network,
            "conv.weight must be (4, 1, 3, 3) and is (7, 1, 3, 3)); the run resumes from",
        ),
        ("last.ckpt", a_folder, "it is no regular file); the run resumes from the previous one, best.ckpt"),
        (
            "best.ckpt",
            other_content,
            "is not the checkpoint of a run), and with it the best weights so far",
        ),
    ],
)
def test_a_whole_file_with_other_content_is_no_checkpoint_and_costs_time_alone(
    file: str, harm: Callable[[Path], None], said: str, undisturbed_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose([*FOUR, EVERY_BATCH])
    folder = cut_at((3, 2), config, monkeypatch)
    harm(folder.checkpoints / file)
    train.run(config, echo=False)
    assert said in (folder.path / "train.log").read_text()
    assert came_out(config) == undisturbed_end(undisturbed_root, FOUR, plateau=False)


def test_what_looks_like_a_checkpoint_and_cannot_be_restored_is_put_aside_with_a_sentence(
    undisturbed_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose([*FOUR, EVERY_BATCH])
    folder = cut_at((3, 2), config, monkeypatch)
    last = folder.checkpoints / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["optimizer_states"] = [{"state": {}, "param_groups": []}]
    torch.save(checkpoint, last)
    with pytest.raises(
        UserError, match=r"last.ckpt cannot be restored \(ValueError: .*kept as last.ckpt.unusable; type"
    ):
        train.run(config, echo=False)
    train.run(config, echo=False)
    assert came_out(config) == undisturbed_end(undisturbed_root, FOUR, plateau=False)


def test_a_run_that_was_moved_keeps_its_best_score(
    tmp_path: Path, undisturbed_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(TWELVE)
    with monkeypatch.context() as patch:
        Steps(patch, (5, 2), plateau=True)
        with pytest.raises(AssertionError, match="cut off"):
            train.run(config, echo=False)
        Path(os.environ["SNN_EXP_OUTPUT"]).rename(tmp_path / "moved")
        patch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "moved"))
        assert train.run(config, echo=False).best_epoch == 1
        assert came_out(config) == undisturbed_end(undisturbed_root, TWELVE, plateau=True)


def test_a_run_that_diverges_after_it_went_on_diverges_as_an_undisturbed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose([*FOUR, EVERY_BATCH])
    forward = Classification.forward

    def exploding(task: Classification, x: Tensor) -> Tensor:
        logits = forward(task, x)
        return logits * float("nan") if task.training and task.global_step == 10 else logits

    folder = cut_at((2, 2), config, monkeypatch)
    monkeypatch.setattr(Classification, "forward", exploding)
    assert train.run(config, echo=False).status == "diverged"
    assert len(folder.epochs()) == 2 and not folder.checkpoints.exists()
    assert "the loss is nan at step 11" in (folder.path / "train.log").read_text()


def test_who_has_lost_the_run_writes_no_checkpoint_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose([*FOUR, EVERY_BATCH])
    folder = RunFolder.of(config)
    step = Classification.training_step

    def robbed(task: Classification, batch: Any, batch_idx: int) -> object:
        if task.global_step == 2:
            (folder.path / "owner" / "owner.json").write_text('{"token": "another"}')
            (folder.checkpoints / "last.ckpt").unlink()
        return step(task, batch, batch_idx)

    monkeypatch.setattr(Classification, "training_step", robbed)
    with pytest.raises(Lost):
        train.run(config, echo=False)
    assert not list(folder.checkpoints.iterdir())


def fill_the_disk(patch: pytest.MonkeyPatch, name: str, time_of: int = 1) -> None:
    """The system's own fault: what is written to files of that name goes to /dev/full, from some time on."""
    opened, seen = Path.open, []

    def open_full(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if name in path.name and any(letter in mode for letter in "wax"):
            seen.append(path)
            if len(seen) >= time_of:
                return opened(Path("/dev/full"), mode.replace("x", "w"), *rest, **options)
        return opened(path, mode, *rest, **options)

    patch.setattr(Path, "open", open_full)


@pytest.mark.parametrize(
    "name",
    [".gitignore", "owner.json", "train.log", "manifest.json", "metrics.csv", "best.ckpt", "last.ckpt",
     "weights.safetensors", "result.json"],
)  # fmt: skip
def test_a_full_disk_at_any_stage_is_one_sentence_and_leaves_nothing_half_written(
    name: str, output: Path, undisturbed_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose(ONE)
    folder = RunFolder.of(config)
    with monkeypatch.context() as patched:
        fill_the_disk(patched, name)
        assert main(["train", *ONE]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert "is full; make room" in said or "No space left on device" in said, said
    left = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert not any("/." in path for path in left), "scratch files are removed"
    assert folder.result() is None and (name == "result.json" or not folder.weights.exists())
    assert name not in (".gitignore", "owner.json") or not any(path.endswith(name) for path in left)
    assert main(["train", *ONE]) == 0
    assert came_out(config) == undisturbed_end(undisturbed_root, ONE, plateau=False)


def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "full"))
    with monkeypatch.context() as patched:
        fill_the_disk(patched, "last.ckpt", time_of=3)
        assert main(["train", *THREE_EPOCHS]) == 2
    folder = RunFolder.of(SHORT)
    said = f"the disk of {folder.path} is full; make room and type the same command again"
    assert said in capsys.readouterr().err
    assert folder.last_checkpoint is not None and checkpoints.damage(folder.last_checkpoint) is None
    train.run(SHORT, echo=False)
    log = (folder.path / "train.log").read_text()
    assert log.count("epoch 1/3") == log.count("epoch 2/3") == 1
    assert came_out(SHORT) == undisturbed(SHORT, tmp_path, monkeypatch)


def test_a_full_disk_keeps_no_batch_half(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Classification, "forward", lambda self, x: self.network(self.encoding(x)) * float("nan"))
    fill_the_disk(monkeypatch, "diverged_batch.pt")
    assert main(["train", *ONE]) == 2
    assert "is full; make room" in capsys.readouterr().err
    assert not list(RunFolder.of(compose(ONE)).path.glob("*diverged_batch*"))


def test_a_full_disk_ends_no_sweep_although_not_even_the_failure_can_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(train, "_train", full)
    job.run_or_store_failure(SHORT)
    assert "is full; make room" in str(RunFolder.of(SHORT).failure())
    monkeypatch.setattr("snn_exp.runs.folder.write_json", full)
    job.run_or_store_failure(SHORT)
    assert f"failed {SHORT.label}: the disk of " in capsys.readouterr().out


def test_another_fault_of_the_disk_keeps_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(train, "_train", broken)
    with pytest.raises(OSError, match="Input/output error") as raised:
        train.run(SHORT, echo=False)
    assert not isinstance(raised.value, UserError)
