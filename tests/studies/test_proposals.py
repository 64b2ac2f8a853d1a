"""A study whose tuning is a search: as many trials of each method, drawn in rounds from the rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.studies import joining, proposals, readme, runner, scope
from snn_exp.studies.proposals import ROUND, Drawn
from snn_exp.studies.spec import Study
from tests.studies.stand_in import Trainer, stand_in
from tests.studies.test_spec import folders, write  # noqa: F401  (folders is a fixture)

SPACE = {"optim.lr": "tag(log,interval(0.001,0.1))", "optim.batch_size": "128,256"}
TUNING = {"seeds": [100], "sampler": "tpe", "trials": 8, "space": SPACE}
BASE = ["network.width=4", "neuron=s2nn", "trainer.max_epochs=1", "logger=none"]


def tuned(tmp_path: Path, **changes: Any) -> Study:
    settings = {"net_d8": {"overrides": ["depth=d8"]}, "net_d14": {"overrides": ["depth=d14"], "tuned_in": "net_d8"}}
    return write(tmp_path, base=BASE, settings=settings, tuning={**TUNING, **changes}, claims=None)


def accuracy(config: ExperimentConfig) -> float:
    """Best at a rate of 0.01 without a norm, and at 0.05 with one."""
    best = 0.05 if config.norm["name"] == "bn" else 0.01
    return 1 - abs(float(config.optim["lr"]) - best)


def trainer(study: Study, rounds: list[list[ExperimentConfig]], stop_after: int = 99) -> Trainer:
    return stand_in(study, accuracy, rounds, stop_after)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sampler": "tpee"}, "There is no sampler in tiny/study.yaml 'tpee'; allowed: qmc, random, tpe; did you mean tpe"),
        ({"trials": None}, "tiny/study.yaml: a tuning by a search lacks trials; type tuning: {seeds: "),
        ({"seeds": None}, "a tuning by a search lacks seeds"),
        ({"trials": 1}, "tiny/study.yaml: tuning.trials must be a number of trials from 2, not 1"),
        ({"grid": {"optim.lr": [0.1]}}, "tiny/study.yaml: tuning has a grid and a space; leave one of them out"),
        ({"space": {"optim.lr": "0.1"}}, "tiny/study.yaml: optim.lr=0.1 leaves no choice; give values or a range"),
        ({"space": {"seed": "0,1"}}, "tiny/study.yaml: seed=0,1: tuning would choose the luckiest seed; give one value"),
        ({"space": {"optim.lr": 0.1}}, "tuning.space must be a mapping of keys to ranges, such as {optim.lr: 'interval(0.001,0.03)'}, not {'optim.lr': 0.1}"),
        ({"space": {"optim.lr": "interval(3,1)"}}, "optim.lr=interval(3,1): a range goes up"),
    ],
)  # fmt: skip
def test_a_fault_in_a_tuning_by_a_search_is_one_sentence(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refusal:
        tuned(tmp_path, **changes)
    assert sentence in str(refusal.value)


SURROGATES = {"base": [*BASE, "residual=none"], "methods": {"s2nn": ["surrogate=s2nn"], "triangle": ["surrogate=triangle"]},
              "reference": "triangle", "claims": None}  # fmt: skip


@pytest.mark.search
def test_a_parameter_of_one_option_is_drawn_for_the_methods_that_have_it(tmp_path: Path) -> None:
    space = {"surrogate.s2nn.alpha": "interval(1,5)", **SPACE}
    study = write(tmp_path, **SURROGATES, tuning={**TUNING, "space": space})
    progress, failures = runner.advance(study, trainer(study, []))
    assert not failures and not progress.todo()
    of = {method: [run for run in progress.trials if run.method == method] for method in study.methods}
    assert {method: len(runs) for method, runs in of.items()} == {"s2nn": 8, "triangle": 8}, "as many trials of each"
    assert len({run.config.surrogate["alpha"] for run in of["s2nn"]}) == 8
    assert all("alpha" not in run.config.surrogate for run in of["triangle"])
    shared = [tuple(word for word in run.point if word.startswith("optim.")) for run in of["s2nn"][:ROUND]]
    assert shared == [run.point for run in of["triangle"][:ROUND]], "what both have begins alike"
    assert progress.finals and {run.point for run in progress.finals} == set(progress.chosen.values())


def test_a_parameter_that_no_method_has_is_one_sentence(tmp_path: Path) -> None:
    study = write(
        tmp_path, **SURROGATES, tuning={**TUNING, "space": {"surrogate.rect.width": "interval(1,5)", **SPACE}}
    )
    with pytest.raises(UserError) as refusal:
        runner.trials(study)
    assert str(refusal.value) == (
        "tiny/study.yaml: surrogate.rect.width=interval(1,5) is a parameter of surrogate=rect, which no method "
        "has; leave it out of tuning.space, or give a method surrogate=rect"
    )


def test_without_optuna_a_study_that_is_tuned_by_a_search_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package optuna, which is not installed; type pip install"):
        runner.trials(tuned(tmp_path))


def test_a_setting_with_its_own_grid_does_not_search(tmp_path: Path) -> None:
    settings = {"a": {"grid": {"optim.lr": [0.1, 0.2]}}, "b": None}
    study = write(tmp_path, base=BASE, settings=settings, tuning=TUNING, claims=None)
    assert study.settings["a"].drawn is None and study.settings["a"].num_points == 2
    assert study.settings["b"].num_points == 8 and "8 trials by tpe over optim.lr=tag(log" in scope.searched(study)


def test_what_every_method_tunes_no_method_of_ones_own_may_set(tmp_path: Path) -> None:
    study = tuned(tmp_path)
    with pytest.raises(UserError, match=r"method mine may not set optim\.lr: in study tiny the methods are compared"):
        joining.read_method("mine=optim.lr=0.5", study)
    assert joining.read_method("mine=norm=layer", study) == ("mine", ("norm=layer",))


@pytest.mark.search
def test_every_method_has_as_many_trials_in_rounds_begins_alike_and_keeps_its_best(tmp_path: Path) -> None:
    study, rounds = tuned(tmp_path), list[list[ExperimentConfig]]()
    first = runner.survey(study)
    begin = {method: [run.point for run in first.trials if run.method == method] for method in study.methods}
    assert begin["bn"] == begin["none"] and len(begin["bn"]) == ROUND
    hours = first.hours_to_come()
    assert hours["net_d8"] > 0 and len(first.waiting()) == 8

    progress, failures = runner.advance(study, trainer(study, rounds))
    assert not failures and not progress.todo()
    assert [len(configs) for configs in rounds] == [2 * ROUND, 2 * (8 - ROUND), 8], "two rounds, then the answer"
    assert not any(config.trainer.test for configs in rounds[:2] for config in configs)
    for method in study.methods:
        of = [run for run in progress.trials if run.method == method]
        best = max(of, key=lambda run: accuracy(run.config))
        assert len(of) == 8
        assert progress.chosen["net_d8", method] == progress.chosen["net_d14", method] == best.point
    page = readme._tuning(progress)
    assert "net_d8: 8 trials by tpe over optim.lr=tag(log,interval(0.001,0.1)), optim.batch_size=128,256" in page
    assert page.count("| 8 |") == 2


@pytest.mark.search
def test_a_study_that_is_stopped_between_its_rounds_draws_what_it_would_have(tmp_path: Path) -> None:
    study, rounds = tuned(tmp_path), list[list[ExperimentConfig]]()
    with pytest.raises(KeyboardInterrupt):
        runner.advance(study, trainer(study, rounds, stop_after=1))
    halfway = runner.survey(study)
    assert len(halfway.trials) == 16 and len(halfway.todo()) == 4 and not halfway.finals
    runner.advance(study, trainer(study, rounds))
    stopped = [config.run_id for configs in rounds for config in configs]

    (study.folder / "results.jsonl").unlink()
    undisturbed: list[list[ExperimentConfig]] = []
    runner.advance(study, trainer(study, undisturbed))
    assert stopped == [config.run_id for configs in undisturbed for config in configs]


@pytest.mark.search
def test_what_was_found_decides_the_later_rounds_of_tpe_and_not_those_of_random() -> None:
    axes = ["optim.lr=interval(0.001,0.1)"]

    def points(sampler: str, best: float) -> list[float]:
        def merits(found: Any) -> list[float]:
            return [-abs(float(point[0].partition("=")[2]) - best) for point in found]

        return [float(point[0].partition("=")[2]) for point in Drawn.read(sampler, 30, axes, "").points(merits)]

    for sampler in ("random", "qmc"):
        assert points(sampler, 0.01) == points(sampler, 0.09)
    low, high = points("tpe", 0.01), points("tpe", 0.09)
    assert low[:ROUND] == high[:ROUND] and sum(low[12:]) < sum(high[12:])
