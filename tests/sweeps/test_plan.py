"""What a command would run: states, estimates, and that nothing is run."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from snn_exp.cli import main
from snn_exp.config.compose import compose, read_command
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import owning
from snn_exp.runs.run_files import Result
from snn_exp.sweeps import plan
from snn_exp.training import train
from tests import stored

TINY = ("network.width=4", "logger=none", "trainer.max_epochs=2", "optim.batch_size=128", "neuron=s2nn")


def result_of(config: ExperimentConfig, cpu_s: float) -> Result:
    return Result(config.run_id, "done", config.to_plain(), {}, cpu_s, cpu_s, "now", 0, "")


def test_an_estimate_grows_with_layers_steps_and_epochs_and_comes_from_the_same_neuron() -> None:
    d8 = compose(["neuron=lif", "depth=d8"])
    d20 = compose(["neuron=lif", "depth=d20", "trainer.max_epochs=6", "encoding.num_steps=9"])
    plif = compose(["neuron=plif", "depth=d8"])
    done = [result_of(d8, 10.0), result_of(plif, 1000.0), dataclasses.replace(result_of(d8, 0.0), status="diverged")]
    assert plan.seconds(d20, done) == pytest.approx(10.0 * 20 / 8 * 6 / 12 * 10 / 5)
    assert plan.seconds(compose(["neuron=if", "depth=d8"]), done) == pytest.approx(505.0), (
        "no run of the neuron: of all"
    )
    assert plan.seconds(compose(["neuron=lif", "dataset=digits_200"]), done) is None


def test_an_estimate_grows_with_samples_pixels_and_width_as_far_as_the_config_knows_them() -> None:
    def size(*overrides: str) -> float:
        return plan.size(compose(["neuron=lif", "depth=d8", *overrides]).to_plain())

    fashion = "dataset=fashion_mnist"
    assert size(fashion, "dataset.num_train=10000") == pytest.approx(size(fashion) * 10_000 / 54_000)
    by_pixels = (10_000 / 1078) * (3 + 28 * 28 / 64) / 4
    assert size(fashion, "dataset.num_train=10000") == pytest.approx(size("dataset=digits") * by_pixels)
    assert size("network.width=32") == pytest.approx(size() * (3 + 2) / 4)
    assert size("network=mlp", "residual=none", "dataset=italy_power_demand") > 0, (
        "a network of its own width, a series"
    )


def test_a_plan_says_how_far_each_run_is_and_runs_nothing(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done, untested, owned, failed, new = (compose([*TINY, f"seed={seed}"]) for seed in range(5))
    train.run(done, echo=False)
    train.run(compose([*TINY, "seed=1", "trainer.test=false"]), echo=False)
    RunFolder.of(failed).begin(failed, {})
    RunFolder.of(failed).fail("Boom", "")
    with owning(RunFolder.of(owned).path):
        assert main.main(["plan", "-m", *TINY, "seed=range(5)", "trainer.num_threads=1,2"]) == 0
    said = capsys.readouterr().out
    assert "1 done, 1 to be tested, 1 training, 1 failed before, 1 to run; 5 duplicate cells; left: " in said
    assert f"runs it: snn-exp train -m {TINY[0]}" in said
    assert not RunFolder.of(new).path.exists() and plan.progress(untested) == ("to be tested", 0.0)


def test_the_commands_that_are_printed_bring_all_that_was_given_and_can_be_typed_as_they_stand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my configs"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment" / "mine.yaml").write_text("# @package _global_\nneuron: {tau: 3.0}\n")
    words = ["experiment=mine", "teacher=null", "optim.lr=1e-3", "logger=none", "--config-dir", str(folder)]
    config = read_command(words[:4], multirun=False, search=[str(folder)]).cells[0].config
    assert config is not None
    stored.store_of(config, split=stored.split_of(config))
    assert main.main(["train", *words]) == 0
    said = capsys.readouterr().out
    assert "done before; nothing to train" in said
    again = shlex.split(said.partition("  again  ")[2].splitlines()[0])
    assert again[:2] == ["snn-exp", "train"] and main.main(again[1:]) == 0
    assert "done before; nothing to train" in capsys.readouterr().out

    words[2] = "norm=bn,psp"
    assert main.main(["plan", "-m", *words, "neuron=lif,sign", "seed=range(2)", "neuron.tau=2"]) == 2
    runs_it = shlex.split(capsys.readouterr().out.partition("runs it: ")[2])
    assert runs_it[:4] == ["snn-exp", "train", "-m", "--skip-refused"] and str(folder) in runs_it
    planned = read_command([word for word in runs_it[2:] if "=" in word], multirun=True, search=[str(folder)])
    assert sum(cell.config is None for cell in planned.cells) > 0
    assert {cell.config.experiment for cell in planned.cells if cell.config} == {"mine"}


def test_cells_are_told_apart_in_a_plan_and_by_a_parameter_of_two_neurons(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["plan", "-m", "neuron=lif,plif", "neuron.tau=2,3", "optim.lr=0.1"]) == 0
    said = capsys.readouterr().out
    for neuron in ("lif", "plif"):
        for tau in ("2.0", "3.0"):
            assert said.count(f" neuron={neuron} neuron.tau={tau} seed=0 ") == 1


def test_a_killed_run_is_resumable_and_only_the_rest_of_it_counts() -> None:
    config = compose(TINY)
    folder = RunFolder.of(config)
    folder.checkpoints.mkdir(parents=True)
    (folder.checkpoints / "last.ckpt").touch()
    folder.metrics_csv.write_text("epoch,val/acc\n0,0.5\n")
    assert plan.progress(config) == ("resumes at epoch 1 of 2", 0.5)
    said = plan.total([config], {config.run_id: 100.0}, 0)
    assert said == "1 resumes; left: 50 s of CPU time"


def test_what_no_stored_run_tells_is_a_question_mark_until_it_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["plan", *TINY]) == 0
    assert "left: ? and 1 run without an estimate (--calibrate measures it)" in capsys.readouterr().out
    assert main.main(["plan", *TINY, "--calibrate"]) == 0
    said = capsys.readouterr().out
    assert "?" not in said and " s of CPU time" in said


def test_a_plan_names_what_is_refused_and_takes_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["plan", "-m", "neuron=lif,sign", "norm=psp"]) == 2
    said = capsys.readouterr()
    assert "refused neuron=sign norm=psp: norm=psp does nothing" in said.err and "1 to run" in said.out
    assert main.main(["plan", "psp_norms"]) == 0
    assert "(trials + final runs per method)" in capsys.readouterr().out
