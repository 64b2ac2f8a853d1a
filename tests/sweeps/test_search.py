"""A search with Optuna: what it may be asked for, and real ones; those that need Optuna are run by `make search`."""

from __future__ import annotations

import functools
import json
import re
import shlex
import signal
import subprocess
import sys
import time
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
from snn_exp.runs.paths import output_root
from snn_exp.runs.provenance import now
from snn_exp.runs.run_files import Result
from snn_exp.sweeps import launch, search
from snn_exp.sweeps.budget import Budget
from snn_exp.sweeps.search import Asked, Search
from tests.disturbing import wait_for
from tests.test_readme import COMMANDS

SMALL = ("logger=none", "residual=bireal", "optim.batch_size=128")
TINY = (*SMALL, "network.width=4", "neuron=s2nn", "trainer.max_epochs=1")
LONGER = (*TINY[:-1], "trainer.max_epochs=4")
RATES = "optim.lr=tag(log,interval(0.001,0.03))"


def trials_of(asked: Search) -> list[Any]:
    from snn_exp.sweeps import journal

    return list(journal.open_study(asked).trials)


def states(asked: Search) -> list[str]:
    return [trial.state.name for trial in trials_of(asked)]


def in_process(arguments: list[str], **flags: Any) -> Search:
    """The search of a command, worked on by this process alone until two trials are there."""
    from snn_exp.sweeps import trials

    asked, _ = search.read(arguments, Asked(**flags))
    assert trials.advance(asked, Budget(trials=2), 1) == []
    return asked


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
            "hydra.sweeper.direction=minimize was for hydra-optuna-sweeper, and snn-exp search proposes by itself now; "
            "leave it out",
        ),
        (
            ["hydra.sweeper.n_trials=40"],
            "hydra.sweeper.n_trials=40 was for hydra-optuna-sweeper, and snn-exp search proposes by itself now; type "
            "--budget 40",
        ),
        (
            ["hydra/sweeper/sampler=motpe"],
            "hydra/sweeper/sampler=motpe was for hydra-optuna-sweeper, and snn-exp search proposes by itself now; type "
            "--sampler tpe",
        ),
        (
            ["--sampler", "gird"],
            "There is no sampler 'gird'; allowed: grid, nsgaii, qmc, random, tpe; did you mean grid? Type --sampler grid",
        ),
        (
            ["optim.lr=interval(0.001,0.03)", "--sampler", "grid"],
            "optim.lr=interval(0.001,0.03) has no end of values, and a grid tries each; give values, such as "
            "optim.lr=0.001,0.01, or type --sampler qmc",
        ),
        (
            ["--pruner", "medain"],
            "There is no pruner 'medain'; allowed: hyperband, median, none; did you mean median? Type --pruner median",
        ),
        (
            ["--pruner", "median", "--objective", "val/acc,val/energy_pj"],
            "--pruner median stops a run by the curve of one objective, and --objective val/acc,val/energy_pj has 2; type "
            "--pruner none, or --objective val/acc",
        ),
        (
            ["--budget", "5 days"],
            "--budget 5 days: 5 days is no budget; give up to 100,000 trials, core hours or wall time, each once, such as "
            "--budget 40 or --budget 40,8core-h,2h (units: trials, core-h, core-min, h, min, s)",
        ),
        (
            ["--name", "../mine"],
            "--name ../mine is no name of a search; it has letters, digits, - and _, such as --name my-search",
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
        pytest.skip("optuna is installed")
    assert main.main(["search", "neuron=lif,plif"]) == 2
    assert capsys.readouterr().err == (
        "snn-exp: snn-exp search needs the package optuna, which is not installed; type pip install 'snn-exp[search]'\n"
    )
    assert not output.exists()


def test_the_sweeper_that_searched_before_is_named_with_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    if find_spec("hydra_plugins.hydra_optuna_sweeper"):
        pytest.skip("hydra-optuna-sweeper is installed")
    assert main.main(["train", "-m", "hydra/sweeper=optuna", "neuron=lif,plif"]) == 2
    assert capsys.readouterr().err == (
        "snn-exp: hydra/sweeper=optuna is not there any more; type snn-exp search with the same overrides, which proposes "
        "runs by itself\n"
    )


def test_the_space_of_an_experiment_is_searched_and_what_is_typed_overrules_it(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      neuron: lif,plif\n      depth: 8,20\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    space = compose.read_space(["experiment=mine", "neuron=s2nn"], [str(tmp_path)])
    assert space.axes == ("depth=d8,d20",)
    assert space.fixed == ("neuron=s2nn", "experiment=mine")
    assert space.hydra_overrides == ("experiment=mine",)


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
def test_a_space_in_which_nothing_can_be_trained_is_refused(output: Path) -> None:
    with pytest.raises(
        UserError, match=re.escape("no proposal of this search can be trained; neuron=lif optim.lrr=0.001: ")
    ):
        search.read(["optim.lrr=interval(0.001,0.03)", "neuron=lif,plif"])
    assert not output.exists()


@pytest.mark.search
def test_a_space_of_which_only_the_middle_can_be_trained_is_searched() -> None:
    _, configs = search.read(["neuron=lif", "encoding.num_steps=0,4,-1"])
    assert {config.num_steps for config in configs} == {4}


@pytest.mark.search
def test_a_search_is_found_again_by_what_decides_it() -> None:
    ours, _ = search.read([*TINY, RATES, "norm=bn,none"])
    same = ["norm=bn,none", RATES, *reversed(TINY), "trainer.num_threads=2", "hydra/launcher=joblib", "energy=h45_int8"]
    assert search.read(same)[0].id == ours.id
    others = [
        search.read([*TINY, RATES, "norm=bn,psp"]),
        search.read([*TINY, RATES, "norm=bn,none", "seed=1"]),
        search.read([*TINY, RATES, "norm=bn,none"], Asked("val/acc,val/energy_pj")),
        search.read([*TINY, RATES, "norm=bn,none", "energy=h45_int8"], Asked("val/acc,val/energy_pj")),
        search.read([*TINY, RATES, "norm=bn,none"], Asked(sampler="random")),
        search.read([*TINY, RATES, "norm=bn,none"], Asked(sampler_seed=1)),
    ]
    assert len({ours.id, *(other.id for other, _ in others)}) == 7
    assert len({search.read([*LONGER, RATES], Asked(pruner=name))[0].id for name in search.PRUNERS}) == 3


@pytest.mark.search
def test_a_name_holds_one_search(capsys: pytest.CaptureFixture[str]) -> None:
    ours, _ = search.read([*TINY, RATES], Asked(name="mine"))
    ours.folder.mkdir(parents=True)
    ours.keep()
    search.read([*TINY, RATES, "hydra/launcher=joblib"], Asked(name="mine"))[0].keep()
    assert main.main(["search", *TINY, "optim.lr=0.1,0.2", "--name", "mine"]) == 2
    assert (
        f"{ours.folder} holds another search (axes {RATES} there and optim.lr=0.1,0.2 here); type another --name, or leave "
        f"it out" in capsys.readouterr().err
    )


@pytest.mark.search
def test_a_study_of_the_sweeper_before_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from snn_exp.sweeps import trials

    monkeypatch.setattr(trials, "advance", lambda *given: [])
    asked, _ = search.read([*TINY, RATES])
    asked.folder.mkdir(parents=True)
    (asked.folder / "study.db").touch()
    assert main.main(["search", *TINY, RATES]) == 0
    assert (
        f"{asked.folder / 'study.db'} is of the sweeper that searched before, and is not read"
        in capsys.readouterr().err
    )


@pytest.mark.search
@pytest.mark.parametrize("sampler", search.SAMPLERS)
def test_every_sampler_proposes_within_the_space_and_after_a_kill_what_it_would_have(
    sampler: str, output: Path
) -> None:
    from snn_exp.sweeps import journal, trials

    space = ["surrogate=atan,s2nn", "surrogate.alpha=1.0,2.0", "surrogate.s2nn.beta=2.0"]
    space += ["optim.lr=0.1,0.2"] if sampler == "grid" else [RATES, "network.width=int(interval(4,8))"]
    given = [line for line in TINY if not line.startswith("network")]
    order = trials.Order(Budget(trials=6), time.time())

    def proposals(name: str, *, anew: bool) -> list[tuple[str, ...]]:
        asked, _ = search.read([*given, *space], Asked(sampler=sampler, sampler_seed=3, name=name))
        found = []
        study = journal.open_study(asked)
        with trials._enrolled(asked) as worker:
            while (trial := trials._claim(asked, study, order, worker)) is not None:
                found.append(journal.propose(asked, trial))
                study.tell(trial.number, 0.1 * len(found))
                study = journal.open_study(asked) if anew else study
        assert all(asked.config_of(lines) for lines in found)
        return found

    undisturbed = proposals("one", anew=False)
    assert undisturbed == proposals("two", anew=True)
    assert len(undisturbed) == 6
    for lines in undisturbed:
        keys = {line.partition("=")[0] for line in lines}
        assert ("surrogate.alpha" in keys) == ("surrogate=s2nn" in lines)
    if sampler == "grid":
        assert len(set(undisturbed)) == 6, "each cell once, those without alpha not twice"


@pytest.mark.search
def test_refused_diverged_and_crashed_trials_end_no_search(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from snn_exp.sweeps import journal, winners

    fixed = [*SMALL, "network.width=4", "neuron=sign", "trainer.max_epochs=1", "optim.weight_decay=50"]
    arguments = [*fixed, "norm=bn,psp,none", "optim.lr=0.01,1000.0"]
    asked, _ = search.read(arguments)
    study = journal.open_study(asked)
    for norm, rate in (("psp", "0.01"), ("bn", "1000.0"), ("bn", "0.01"), ("none", "0.01")):
        study.enqueue_trial({"norm": norm, "optim.lr": rate})
    finish = launch.finish

    def crash(config: Any, on_epoch: Any) -> Result | None:
        if config.norm["name"] != "none":
            return finish(config, on_epoch)
        RunFolder.of(config).fail("OSError: no space left", "")
        return None

    monkeypatch.setattr(launch, "finish", crash)
    assert main.main(["search", *arguments, "--budget", "4"]) == 1
    said, warned = capfd.readouterr()
    assert states(asked) == ["COMPLETE", "COMPLETE", "COMPLETE", "FAIL"]
    assert [trial.values for trial in trials_of(asked)[:2]] == [[0.0], [0.0]]
    assert "norm=psp optim.lr=0.01  refused, so it ranks last: norm=psp does nothing with neuron=sign" in said
    assert "norm=bn optim.lr=1000.0  run " in said and ": diverged, so it ranks last" in said
    assert warned.count("snn-exp: failed") == 1
    assert "snn-exp: failed norm=none optim.lr=0.01: OSError: no space left (log: " in warned
    (winner,) = winners.best(asked)
    assert winner.number == 2 and winner.values[0] > 0
    assert all("test/acc" not in r.metrics for f in (output_root() / "runs").iterdir() if (r := RunFolder(f).result()))

    repeating = f"snn-exp train -m {shlex.join(fixed)} norm=bn optim.lr=0.01 trainer.test=false seed=1,2,3,4,5"
    assert "the best by seed=0 alone; repeat on 5 further seeds" in said
    assert f":\n  {repeating}\n" in said
    cells = compose.read_command(repeating.split()[3:], multirun=True).cells
    assert [cell.config.seed for cell in cells if cell.config and not cell.config.trainer.test] == [1, 2, 3, 4, 5]
    stored = RunFolder.of(winner.config).result()
    assert stored is not None
    for cell in cells:  # as if they had been trained
        assert cell.config is not None
        path = output_root() / "runs" / cell.config.run_id
        path.mkdir()
        plain = json.loads((RunFolder.of(winner.config).path / "result.json").read_text())
        repeat = plain | {"run_id": cell.config.run_id, "config": cell.config.to_plain()}
        (path / "result.json").write_text(json.dumps(repeat))
    text = "\n".join(winners.answer(asked, winners.best(asked)))
    assert (
        f"best: trial 2; run the test set, which nothing has read so far:\n  {repeating.replace('trainer.test=false ', '')}"
        in text
    )


@pytest.mark.search
def test_the_same_command_goes_on_and_a_stored_run_costs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*TINY, "optim.lr=0.01"]
    asked = in_process([*arguments, "norm=bn,none"], sampler="grid")
    ended = {path: path.stat().st_mtime_ns for path in output_root().glob("runs/*/result.json")}
    assert states(asked) == ["COMPLETE", "COMPLETE"] and len(ended) == 2
    in_process([*arguments, "norm=bn,none"], sampler="grid")
    assert "2 trials; 2 done" in capsys.readouterr().out
    other = in_process([*arguments, "norm=none,bn"], sampler="grid", name="again")
    assert [trial.values for trial in trials_of(other)] == [trial.values for trial in trials_of(asked)][::-1]
    assert [trial.user_attrs["cpu_s"] for trial in trials_of(other)] == [0.0, 0.0]
    assert {path: path.stat().st_mtime_ns for path in output_root().glob("runs/*/result.json")} == ended


@pytest.mark.search
def test_a_trial_that_is_killed_again_and_again_without_progress_is_left_as_failed() -> None:
    from snn_exp.sweeps import journal, trials

    asked, _ = search.read([*TINY, RATES])
    study = journal.open_study(asked)
    order = trials.Order(Budget(trials=1), time.time())
    for kill in range(launch.MOST_KILLS):
        trial = trials._claim(asked, study, order, f"gone{kill}")  # whose process is not there
        assert trial is not None and trial.number == 0
        journal.propose(asked, trial)
    assert trials._claim(asked, study, order, "last") is None
    assert states(asked) == ["FAIL"]
    assert trials_of(asked)[0].user_attrs["why"] == "its process was killed 3 times, possibly for lack of memory"


@pytest.mark.search
def test_a_journal_whose_last_line_is_torn_is_read_and_written(output: Path) -> None:
    from snn_exp.sweeps import journal

    asked, _ = search.read([*TINY, RATES])
    study = journal.open_study(asked)
    journal.propose(asked, study.ask())
    with (asked.folder / "journal.log").open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    journal.propose(asked, study.ask())
    assert states(asked) == ["RUNNING", "RUNNING"]


@pytest.mark.search
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "trainer.max_epochs=1,4",
            "--pruner median stops a run after some of its epochs, and trainer.max_epochs=1 has no more than one; type "
            "trainer.max_epochs=12, say, or --pruner none",
        ),
        (
            "trainer.devices=2",
            "--pruner median stops runs of one process, and trainer.devices=2 starts several; type --pruner none, or "
            "trainer.devices=1",
        ),
    ],
)
def test_a_pruner_that_could_stop_no_run_is_refused(line: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        search.read(["trainer.accelerator=cpu", RATES, line], Asked(pruner="median"))


@pytest.mark.search
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_pruned_trial_is_no_whole_one_is_not_tested_and_is_no_best(
    pruner: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from snn_exp.sweeps import journal, trials, winners

    num_epochs, rates = 4, [0.011, 0.012, 0.013, 0.014, 0.015, *(0.001 * step for step in range(1, 6))]
    asked, _ = search.read([*LONGER, RATES], Asked(pruner=pruner))
    study = journal.open_study(asked)
    for rate in rates:
        study.enqueue_trial({"optim.lr": rate})
    asked_for: list[int] = []

    def train(config: Any, on_epoch: Any) -> Result | None:
        """As `launch.finish`, with the learning rate for validation accuracy."""
        folder = RunFolder.of(config)
        folder.begin(config, {})
        for epoch in range(1, num_epochs + 1):
            asked_for.append(epoch)
            curve = {"val/acc": config.optim["lr"] * epoch, "val/loss": 1.0}
            if on_epoch(epoch, curve) and epoch < num_epochs:
                folder.prune(epoch, curve, 1.0, 2.0)
                return None
        done = Result(config.run_id, "done", config.to_plain(), curve, 1.0, 8.0, now(), 0, "split")
        folder.finish(done)
        return done

    monkeypatch.setattr(launch, "finish", train)
    assert trials.advance(asked, Budget(trials=len(rates)), 1) == []
    said = capfd.readouterr().out
    count = {state: states(asked).count(state) for state in ("COMPLETE", "PRUNED")}
    assert count["PRUNED"] >= 1 and count["COMPLETE"] >= 1 and sum(count.values()) == len(rates)
    assert len(asked_for) < num_epochs * len(rates), "epochs were saved"
    assert said.count("pruned after epoch") == count["PRUNED"]
    for trial in trials_of(asked):
        run = RunFolder.of(asked.config_of(journal.proposed(asked, trial)))
        is_pruned = trial.state.name == "PRUNED"
        assert (run.result() is None) == (run.pruned() is not None) == is_pruned
        assert trial.user_attrs["cpu_s"] == (2.0 if is_pruned else 8.0)
    whole = [trial.number for trial in trials_of(asked) if trial.state.name == "COMPLETE"]
    assert {trial.number for trial in winners.best(asked)} <= set(whole)
    from snn_exp.sweeps import shown

    page = shown.write_page(asked, winners.best(asked), "snn-exp search").read_text()
    assert f"{count['COMPLETE']} whole, {count['PRUNED']} pruned, 0 refused, diverged or failed" in page
    assert page.count("<svg") == 3, "history, importance, parallel coordinates; no front of one objective"
    if pruner == "median":
        assert states(asked) == ["COMPLETE"] * 5 + ["PRUNED"] * 5
        said = f"{count['COMPLETE']} done, {count['PRUNED']} pruned"
        assert said in trials.interrupted(asked)


@pytest.mark.search
def test_a_trial_that_was_killed_between_its_pruning_and_the_journal_is_not_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from snn_exp.sweeps import pruning, trials

    asked, configs = search.read([*LONGER, "optim.lr=0.01,0.02"], Asked(pruner="median"))
    folder = RunFolder.of(configs[0])
    folder.begin(configs[0], {})
    folder.metrics_csv.write_text("epoch,val/acc\n0,0.1\n1,0.2\n")
    folder.prune(2, {"val/acc": 0.2}, 1.0, 2.0)

    class Stops:
        def report(self, value: float, step: int) -> None:
            told.append((step, value))

        def should_prune(self) -> bool:
            return True

    told: list[tuple[int, float]] = []
    stops: Any = Stops()
    curve = pruning.Curve(stops, {1}, folder)
    assert told == [(2, 0.2)], "each epoch once"
    stopped = curve.stopped_before()
    assert stopped is not None and stopped.num_epochs == 2

    monkeypatch.setattr(trials, "_curve", lambda *given: curve)
    monkeypatch.setattr(trials, "_trained", lambda *given: pytest.fail("it was trained on"))
    from snn_exp.sweeps import journal

    study = journal.open_study(asked)
    study.enqueue_trial({"optim.lr": "0.01"})
    trials._train(asked, study, study.ask())
    assert states(asked) == ["PRUNED"]


NUM_TRIALS, NUM_EPOCHS, NUM_KILLS = 7, 25, 3


@pytest.mark.search
def test_of_two_processes_one_is_killed_three_times_and_no_trial_is_lost_or_made_twice(output: Path) -> None:
    arguments = [*SMALL, "network.width=4", "neuron=s2nn", f"trainer.max_epochs={NUM_EPOCHS}", RATES]
    command = [sys.executable, "-m", "snn_exp", "search", *arguments, "--budget", str(NUM_TRIALS)]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def comes_further(process: subprocess.Popen[bytes], before: dict[Path, int]) -> bool:
        """Whether a run has a checkpoint more by this process: a kill without one would count against the trial."""
        mine = [path for path in output.glob("runs/*") if f'"pid": {process.pid}' in owner_text(RunFolder(path))]
        return process.poll() is not None or any(len(RunFolder(p).epochs()) > before.get(p, 0) + 1 for p in mine)

    steady, victim, killed = start(), start(), 0
    try:
        for _ in range(NUM_KILLS):
            before = {path: len(RunFolder(path).epochs()) for path in output.glob("runs/*")}
            wait_for(functools.partial(comes_further, victim, before), 600)
            if victim.poll() is None:
                victim.send_signal(signal.SIGKILL)
                killed += 1
            victim.wait()
            victim = start()
        assert victim.wait(600) == 0 and steady.wait(600) == 0
    finally:
        for process in (steady, victim):
            process.kill()
            process.wait()
    asked, _ = search.read(arguments)
    assert killed >= 2, "it was in the way of the kills"
    assert states(asked) == ["COMPLETE"] * NUM_TRIALS, "none is lost, none is made beyond the budget"
    logs = [path.read_text() for path in output.glob("runs/*/train.log")]
    assert len(logs) == NUM_TRIALS
    assert all(log.count(f"epoch 1/{NUM_EPOCHS}") == 1 for log in logs), "a killed one went on from its checkpoint"


def owner_text(folder: RunFolder) -> str:
    try:
        return (folder.path / "owner" / "owner.json").read_text()
    except OSError:
        return ""


@pytest.mark.search
def test_accuracy_against_energy_gives_a_front_with_a_command_for_each_of_it(
    output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from snn_exp.sweeps import journal, winners

    arguments = [*SMALL, "network.width=2,4", "neuron=s2nn", "trainer.max_epochs=1", RATES, "hydra/launcher=joblib",
                 "hydra.launcher.n_jobs=2"]  # fmt: skip
    objectives = "val/acc,val/energy_pj"
    assert main.main(["search", *arguments, "--objective", objectives, "--budget", "4", "--sampler", "nsgaii"]) == 0
    said = capfd.readouterr().out
    asked, _ = search.read(arguments, Asked(objectives, "nsgaii"))
    assert states(asked) == ["COMPLETE"] * 4
    front = winners.best(asked)
    assert {trial.number for trial in front} == {trial.number for trial in journal.open_study(asked).best_trials}
    assert said.count("snn-exp train -m ") == len(front) and "the Pareto front" in said
    page = asked.folder / "search.html"
    assert f"written: {page}" in said and 'id="front"' in page.read_text()
    for trial in front:
        stored = RunFolder.of(trial.config).result()
        assert stored and trial.values == search.objectives_of(stored, asked.objectives, trial.config.energy)
        assert " ".join(trial.proposed) in said and trial.config.run_id in said


@pytest.mark.search
def test_the_commands_of_the_documentation_are_read() -> None:
    commands = [words for words, _ in COMMANDS if words[1:2] == ["search"]]
    assert commands
    for words in commands:
        overrides = [word for word in words[2:] if "=" in word]
        objectives = words[words.index("--objective") + 1] if "--objective" in words else "val/acc"
        sampler = words[words.index("--sampler") + 1] if "--sampler" in words else "tpe"
        assert search.read(overrides, Asked(objectives, sampler))[1]
