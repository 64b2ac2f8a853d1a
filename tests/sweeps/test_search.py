"""A search with Optuna: what it may be asked for, and real ones; those that need Optuna are run by `make search`."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from snn_exp.cli import main
from snn_exp.config import compose
from snn_exp.config.experiment import EnergyConfig
from snn_exp.config.hydra_setup import config_dir
from snn_exp.errors import UserError
from snn_exp.metrics.energy import energy_pj
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import owning
from snn_exp.runs.paths import output_root
from snn_exp.runs.provenance import now
from snn_exp.runs.run_files import Result
from snn_exp.sweeps import launch, search, trials
from tests.disturbing import has_a_checkpoint_and_goes_on, hold, wait_for
from tests.test_readme import COMMANDS

NUM_EPOCHS = 12
SMALL = ("logger=none", "residual=bireal", "optim.batch_size=128")
TINY = (*SMALL, "network.width=4", "neuron=s2nn", "trainer.max_epochs=1")
RATES = "optim.lr=tag(log,interval(0.001,0.03))"


def states(asked: search.Search) -> list[str]:
    return [trial.state.name for trial in asked.study().trials]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--objective", "test/acc"],
            "--objective test/acc would choose on the test set, which then could not judge what was chosen; type "
            "--objective val/acc",
        ),
        (
            ["--objective", "val/acc,val/energy"],
            "There is no objective 'val/energy'; allowed: val/acc, val/energy_pj; did you mean val/energy_pj? Type "
            "--objective val/energy_pj",
        ),
        (
            ["--objective", "val/energy_pj"],
            "--objective val/energy_pj minimises energy alone, which selects a silent network; type --objective val/acc,val/energy_pj",
        ),
        (
            ["seed=0,1"],
            "seed=0,1: a search would choose the luckiest seed; give one value of seed",
        ),
        (
            ["dataset.split_seed=range(3)"],
            "dataset.split_seed=range(3): a search would choose the easiest data; give one value of dataset.split_seed",
        ),
        (["trainer.test=true"], "trainer.test=true: no run of a search reads the test set; leave it out"),
        (
            ["hydra.sweeper.direction=minimize"],
            "hydra.sweeper.direction=minimize follows from the rest of snn-exp search; leave it out: of hydra.sweeper, "
            "n_trials, n_jobs and sampler can be set",
        ),
        (
            ["hydra/sweeper/sampler=grid"],
            "hydra/sweeper/sampler=grid would try every combination, as snn-exp train -m does; choose tpe, random or "
            "nsgaii",
        ),
        (
            ["norm=interval(0,1)"],
            "norm=interval(0,1) is a range, and norm a choice among options; name some of: "
            + ", ".join(sorted(path.stem for path in (config_dir() / "norm").glob("*.yaml"))),
        ),
    ],
)
def test_what_a_search_cannot_be_asked_for_is_said_before_anything_starts(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    assert main.main(["search", "neuron=lif,plif", *arguments]) == 2
    assert capsys.readouterr().err == f"snn-exp: {sentence}\n"
    assert not output.exists()


def test_a_search_needs_something_to_choose_from() -> None:
    with pytest.raises(UserError, match="give values or a range, such as neuron=lif,plif or 'optim"):
        search.read(["neuron=lif"])


def test_without_its_package_a_search_says_what_to_type(capsys: pytest.CaptureFixture[str], output: Path) -> None:
    if find_spec("optuna"):
        pytest.skip("hydra-optuna-sweeper is installed")
    sentence = (
        "hydra/sweeper=optuna needs the package hydra-optuna-sweeper, which is not installed; type pip install "
        "'snn-exp[search]'"
    )
    for command in (["search", "neuron=lif,plif"], ["train", "-m", "hydra/sweeper=optuna", "neuron=lif,plif"]):
        assert main.main(command) == 2
        assert capsys.readouterr().err == f"snn-exp: {sentence}\n"
    assert not output.exists()


def test_the_space_of_an_experiment_is_searched_and_what_is_typed_overrules_it(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      neuron: lif,plif\n      depth: 8,20\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    space = compose.read_space(["experiment=mine", "neuron=s2nn", "hydra.sweeper.n_trials=3"], [str(tmp_path)])
    assert space.axes == ("depth=d8,d20",)
    assert space.fixed == ("neuron=s2nn", "experiment=mine")
    assert space.hydra_overrides == ("experiment=mine", "hydra.sweeper.n_trials=3")


def result(status: str, **metrics: float) -> Result:
    return Result("0" * 10, status, {}, metrics, 1.0, 1.0, now(), 0, "split")


def test_objectives_are_read_from_validation_and_a_diverged_run_has_the_worst() -> None:
    counts = dict.fromkeys(("mac", "filter_mac", "norm_mac", "neuron_updates", "ac", "xnor"), 10.0)
    metrics = {"val/acc": 0.9, "test/acc": 0.1} | {f"val/synops_{name}": count for name, count in counts.items()}
    metrics |= {f"test/synops_{name}": 0.0 for name in counts}
    profile = EnergyConfig(mac_pj=2.0, ac_pj=1.0, xnor_fj=1000.0)
    done = result("done", **metrics)
    assert search.objectives_of(done, ["val/acc"], profile) == (0.9,)
    assert search.objectives_of(done, ["val/acc", "val/energy_pj"], profile) == (0.9, 4 * 10 * 2 + 10)
    assert search.objectives_of(done, ["val/energy_pj", "val/acc"], profile)[0] == sum(
        energy_pj(metrics, "val", profile).values()
    )
    assert search.objectives_of(result("diverged"), ["val/acc", "val/energy_pj"], profile) == (0.0, 1e12)


@pytest.mark.search
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["optim.lr=interval(0.03,0.001)"],
            "optim.lr=interval(0.03,0.001) cannot be searched by Optuna: The `low` value must be smaller than or "
            "equal to the `high` value (low=0.03, high=0.001).",
        ),
        (
            ["optim.lrr=interval(0.001,0.03)", "neuron=lif,plif"],
            "no proposal of this search can be trained; optim.lrr=0.001 neuron=lif: ",
        ),
    ],
)
def test_a_space_in_which_nothing_can_be_trained_is_refused(arguments: list[str], sentence: str, output: Path) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        search.read(arguments)
    assert not output.exists()


@pytest.mark.search
def test_a_search_is_found_again_by_what_decides_it() -> None:
    ours, _ = search.read([*TINY, RATES, "norm=bn,none"])
    same = [RATES, "norm=bn,none", *reversed(TINY), "trainer.num_threads=2", "hydra/launcher=joblib"]
    assert search.read([*same, "hydra.sweeper.n_trials=50", "energy=h45_int8"])[0].id == ours.id
    others = [
        search.read([*TINY, RATES, "norm=bn,psp"]),
        search.read([*TINY, RATES, "norm=bn,none", "seed=1"]),
        search.read([*TINY, RATES, "norm=bn,none"], "val/acc,val/energy_pj"),
        search.read([*TINY, RATES, "norm=bn,none", "energy=h45_int8"], "val/acc,val/energy_pj"),
    ]
    assert len({ours.id, *(other.id for other, _ in others)}) == 5


@pytest.mark.search
def test_train_hands_a_search_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", "-m", "hydra/sweeper=optuna", "neuron=lif,plif"]) == 2
    assert "hydra/sweeper=optuna proposes its runs one after the other" in capsys.readouterr().err


@pytest.mark.search
@pytest.mark.filterwarnings("ignore:.*_trial is experimental")
def test_refused_diverged_and_crashed_trials_end_no_search(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = [*SMALL, "network.width=4", "neuron=sign", "trainer.max_epochs=1", "optim.weight_decay=50"]
    arguments = [*fixed, "norm=bn,psp,none", "optim.lr=0.01,1000.0", "hydra.sweeper.n_jobs=1"]
    asked, _ = search.read(arguments)
    asked.folder.mkdir(parents=True)
    for norm, rate in (("psp", 0.01), ("bn", 1000.0), ("bn", 0.01), ("none", 0.01)):
        asked.study().enqueue_trial({"+choice.norm": norm, "+value.optim.lr": rate})
    finish = launch.finish

    def crash(config: Any) -> Result | None:
        if config.norm["name"] != "none":
            return finish(config)
        RunFolder.of(config).fail("OSError: no space left", "")
        return None

    monkeypatch.setattr(launch, "finish", crash)
    assert main.main(["search", *arguments, "hydra.sweeper.n_trials=4"]) == 1
    said, warned = capfd.readouterr()
    assert states(asked) == ["COMPLETE", "COMPLETE", "COMPLETE", "FAIL"]
    assert [trial.values for trial in asked.study().trials[:2]] == [[0.0], [0.0]]
    assert "norm=psp optim.lr=0.01  refused, so it ranks last: norm=psp does nothing with neuron=sign" in said
    assert "norm=bn optim.lr=1000.0  run " in said and ": diverged, so it ranks last" in said
    assert warned.count("snn-exp: failed") == 1
    assert "snn-exp: failed norm=none optim.lr=0.01: OSError: no space left (log: " in warned
    (winner,) = trials.best(asked)
    assert winner.number == 2 and winner.values[0] > 0
    assert all("test/acc" not in r.metrics for f in (output_root() / "runs").iterdir() if (r := RunFolder(f).result()))
    command = f"snn-exp train -m {shlex.join(fixed)} norm=bn optim.lr=0.01 seed=1,2,3,4,5"
    assert f"without seed=0, by which it was chosen:\n  {command}\n" in said
    tested = compose.read_command(command.split()[3:], multirun=True)
    assert [cell.config.seed for cell in tested.cells if cell.config and cell.config.trainer.test] == [1, 2, 3, 4, 5]


@pytest.fixture
def killed(output: Path) -> tuple[list[str], RunFolder]:
    """A search that was killed in its first run, behind a checkpoint."""
    command = ["search", *SMALL, "network.width=4", "neuron=s2nn", f"trainer.max_epochs={NUM_EPOCHS}", RATES,
               "hydra.sweeper.sampler.seed=7", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"]  # fmt: skip
    with Path(os.devnull).open("w") as nowhere:
        process = subprocess.Popen([sys.executable, "-m", "snn_exp", *command], stdout=nowhere, stderr=nowhere)
    try:
        wait_for(lambda: any(map(has_a_checkpoint_and_goes_on, map(RunFolder, (output / "runs").glob("*")))), 180)
        (folder,) = map(RunFolder, (output / "runs").glob("*"))
        hold(folder)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return command, folder


@pytest.mark.search
def test_a_killed_search_goes_on_up_to_its_number_of_trials(
    killed: tuple[list[str], RunFolder], output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command, folder = killed
    (kept,) = (output / "searches").iterdir()
    asked, _ = search.read(command[1:])
    assert kept.name == asked.id and states(asked) == ["RUNNING"]
    assert main.main(command) == 0
    assert f"search {asked.id}: 2 trials, 0 done before" in capfd.readouterr().out
    assert states(asked) == ["FAIL", "COMPLETE", "COMPLETE"]
    first, again, other = asked.study().trials
    assert first.params == again.params != other.params
    assert folder.result() is not None
    assert (folder.path / "train.log").read_text().count(f"epoch 1/{NUM_EPOCHS}") == 1, "it went on from its checkpoint"
    ended = {path: path.stat().st_mtime_ns for path in output.glob("runs/*/result.json")}
    assert len(ended) == 2

    assert main.main(command) == 0
    assert f"search {asked.id}: 2 trials, 2 done before" in capfd.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.glob("runs/*/result.json")} == ended


@pytest.mark.search
def test_accuracy_against_energy_gives_a_front_with_a_command_for_each_of_it(
    output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL, "network.width=2,4", "neuron=s2nn", "trainer.max_epochs=1", RATES, "hydra/launcher=joblib",
                 "hydra.launcher.n_jobs=2"]  # fmt: skip
    objectives = "val/acc,val/energy_pj"
    assert main.main(["search", *arguments, "--objective", objectives, "hydra.sweeper.n_trials=4"]) == 0
    said = capfd.readouterr().out
    asked, _ = search.read(arguments, objectives)
    assert states(asked) == ["COMPLETE"] * 4
    front = trials.best(asked)
    assert {trial.number for trial in front} == {trial.number for trial in asked.study().best_trials}
    assert said.count("snn-exp train -m ") == len(front) and "the Pareto front" in said
    for trial in front:
        stored = RunFolder.of(trial.config).result()
        assert stored and trial.values == search.objectives_of(stored, asked.objectives, trial.config.energy)
        assert " ".join(trial.proposed) in said and trial.config.run_id in said


@pytest.mark.search
def test_two_processes_do_not_go_on_with_one_search(capsys: pytest.CaptureFixture[str]) -> None:
    asked, _ = search.read([*TINY, RATES])
    with owning(asked.folder):
        assert main.main(["search", *TINY, RATES]) == 2
    assert f"snn-exp: search {asked.id} is already running: " in capsys.readouterr().err


@pytest.mark.search
def test_the_commands_of_the_documentation_are_read() -> None:
    commands = [words for words, _ in COMMANDS if words[1:2] == ["search"]]
    assert commands
    for words in commands:
        overrides = [word for word in words[2:] if "=" in word]
        objectives = words[words.index("--objective") + 1] if "--objective" in words else "val/acc"
        assert search.read(overrides, objectives)[1]
