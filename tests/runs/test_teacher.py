"""Distillation: who may teach a run, how the run is told, and what it learns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from snn_exp.cli import main
from snn_exp.config.compose import compose, overrides_of, read_command
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Result
from snn_exp.runs.teacher import teacher_of
from snn_exp.training import train
from snn_exp.training.task import distance
from tests.finished import Finished

TINY = ("network.width=4", "logger=none", "trainer.max_epochs=1", "optim.batch_size=128", "residual=bireal")
RELU = "neuron=relu network.width=4 trainer.max_epochs=1 optim.batch_size=128 residual=bireal"


def student(*overrides: str) -> ExperimentConfig:
    return compose([*TINY, "neuron=s2nn", *overrides])


def test_the_distance_is_the_softened_divergence_written_out() -> None:
    a, b = torch.tensor([[1.0, 0.0, -2.0]]), torch.tensor([[0.5, 0.5, 1.0]])
    p, q = torch.softmax(b / 2, 1), torch.softmax(a / 2, 1)
    torch.testing.assert_close(distance(a, b, 2.0), 4 * (p * (p.log() - q.log())).sum())


def test_a_teacher_is_found_by_its_overrides_on_the_students_data_and_seed() -> None:
    taught = student("dataset=digits_200", "dataset.num_train=100", "seed=3", f"teacher='{RELU}'")
    teacher = compose([*RELU.split(), "dataset=digits_200", "dataset.num_train=100", "seed=3"])
    assert taught.teacher == teacher.run_id
    assert taught.run_id != student("dataset=digits_200", "dataset.num_train=100", "seed=3").run_id
    assert (
        taught.run_id
        == student("dataset=digits_200", "dataset.num_train=100", "seed=3", f"teacher={teacher.run_id}").run_id
    ), "however it is named"
    sweep = read_command([*TINY, "neuron=s2nn", "seed=0,1", f"teacher='{RELU}'"], multirun=True)
    assert len({cell.config.teacher for cell in sweep.cells if cell.config}) == 2, "every seed has a teacher of its own"


def test_a_taught_config_is_composed_again_from_its_overrides() -> None:
    taught = student("teacher=1234567890", "optim.teacher_weight=0.7")
    assert compose(overrides_of(taught)).run_id == taught.run_id


def test_a_student_learns_from_a_teacher_that_stays_as_it_is(finished: Finished) -> None:
    teacher, _ = finished("neuron=relu")
    before = RunFolder.of(teacher).weights.read_bytes()
    (alone, _), taught = finished(), student(f"teacher={teacher.run_id}", "optim.teacher_weight=0.9")
    train.run(taught, echo=False)
    assert RunFolder.of(teacher).weights.read_bytes() == before
    ours, theirs = (load_file(RunFolder.of(config).weights) for config in (alone, taught))
    assert ours.keys() == theirs.keys(), "the teacher is no part of what is stored"
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_who_may_not_teach_is_refused_before_anything_is_trained(
    finished: Finished, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    teacher, _ = finished("neuron=relu")
    folder = RunFolder.of(teacher)
    assert teacher_of(student(f"teacher={teacher.run_id}")) == folder
    assert teacher_of(student()) is None
    named = f"teacher={teacher.run_id}"
    assert main.main(["train", *TINY, "neuron=s2nn", named, "dataset=digits_200"]) == 2
    assert "was trained on other data: dataset.name is digits there and digits_200 here" in capsys.readouterr().err
    assert main.main(["train", *TINY, "neuron=s2nn", named, "dataset.split_seed=1"]) == 2
    assert "was trained on other data: dataset.split_seed is 0 there and 1 here" in capsys.readouterr().err
    assert main.main(["train", *TINY, "neuron=s2nn", named, "seed=1"]) == 2
    assert "has seed=0 and so another split" in capsys.readouterr().err
    assert main.main(["train", *TINY, "neuron=s2nn", "teacher=0123456789"]) == 2
    assert "teacher=0123456789 is not a run in " in capsys.readouterr().err
    stored = json.loads((folder.path / "result.json").read_text())
    (folder.path / "result.json").write_text(json.dumps(stored | {"split_fingerprint": "another"}))
    assert main.main(["train", *TINY, "neuron=s2nn", named]) == 2
    assert "was trained on another split, although its config is the same" in capsys.readouterr().err
    other_parts = stored["config"] | {"norm": stored["config"]["norm"] | {"momentum": 0.7}}
    (folder.path / "result.json").write_text(json.dumps(stored | {"config": other_parts}))
    assert main.main(["train", *TINY, "neuron=s2nn", named]) == 2
    assert "was trained with an older, incompatible version of a component" in capsys.readouterr().err
    (folder.path / "result.json").write_text(json.dumps(stored | {"status": "diverged"}))
    assert main.main(["train", *TINY, "neuron=s2nn", named]) == 2
    assert "diverged, so it has no trained weights" in capsys.readouterr().err
    (folder.path / "result.json").unlink()
    assert main.main(["train", *TINY, "neuron=s2nn", named]) == 2
    assert "is not finished" in capsys.readouterr().err
    assert [path.parent for path in (output / "runs").glob("*/manifest.json")] == [folder.path]


def test_a_teacher_stored_before_the_data_had_a_parameter_still_teaches(finished: Finished) -> None:
    teacher, _ = finished("neuron=relu")
    path = RunFolder.of(teacher).path / "result.json"
    stored = json.loads(path.read_text())
    del stored["config"]["dataset"]["split_seed"]
    path.write_text(json.dumps(stored))
    assert teacher_of(student(f"teacher={teacher.run_id}")) == RunFolder.of(teacher)


def test_data_with_time_are_shown_to_both_in_the_same_steps(output: Path) -> None:
    lif = compose([*TINY, "neuron=lif", "dataset=digits_dvs", "encoding.num_steps=2"])
    folder = RunFolder.of(lif)
    folder.begin(lif, {})
    metrics = {"val/acc": 0.5, "val/loss": 0.1}
    folder.finish(Result(lif.run_id, "done", lif.to_plain(), metrics, 1.0, 1.0, "2026-01-01", 0, "f"))
    taught = ("dataset=digits_dvs", f"teacher={lif.run_id}")
    assert teacher_of(student("neuron=lif", "encoding.num_steps=2", "optim.lr=0.1", *taught)) == folder
    with pytest.raises(UserError, match=r"reads 2 steps of a sample, .* 1 of this run; .* with encoding.num_steps=1$"):
        teacher_of(student(*taught))


def test_a_teacher_computes_in_its_students_precision(finished: Finished) -> None:
    teacher, _ = finished("neuron=relu")
    taught = train.run(student(f"teacher={teacher.run_id}", "trainer.precision=64-true"), echo=False)
    assert taught.status == "done"


@pytest.mark.parametrize("run_id", ["1234567890", "12345678e1", "1234e56789", "0123456789", "abcdef0123"])
def test_a_run_id_that_looks_like_a_number_is_a_run_id(run_id: str) -> None:
    assert student(f"teacher={run_id}").teacher == run_id
    sweep = read_command([*TINY, "neuron=s2nn", f"teacher={run_id},0000000000"], multirun=True)
    assert [cell.config.teacher for cell in sweep.cells if cell.config] == [run_id, "0000000000"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["teacher=nobody"], "teacher=nobody is neither a run id, which has 10 hex digits, nor overrides; type "),
        (["teacher='neuron=rleu'"], "did you mean relu"),
        (["teacher='neuron=relu depth=21'"], "the nearest is 20"),
        (["teacher='neuron=s2nn encoding.num_steps=4'"], "teacher='neuron=s2nn encoding.num_steps=4': encoding.num_steps=4"),
        (["optim.teacher_weight=0.7"], "optim.teacher_weight does nothing without a teacher; type teacher=RUN_ID as well"),
    ],
)  # fmt: skip
def test_a_teacher_that_cannot_be_is_refused_in_words(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as refusal:
        student(*overrides)
    assert sentence in str(refusal.value)
