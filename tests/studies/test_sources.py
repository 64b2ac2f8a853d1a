"""A study whose runs start from, or learn from, other runs of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.studies import readme, runner
from snn_exp.studies.spec import Study
from tests.studies.stand_in import Trainer, stand_in
from tests.studies.test_spec import folders, write  # noqa: F401  (folders is a fixture)

pytestmark = pytest.mark.usefixtures("folders")

BASE = ["network.width=4", "depth=d8", "neuron=lif", "trainer.max_epochs=1", "logger=none"]
METHODS = {
    "steps_4": ["encoding.num_steps=4"],
    "chain": ["encoding.num_steps=1", "init_from='same encoding.num_steps=4'"],
    "scratch": ["encoding.num_steps=1"],
}


def chained(tmp_path: Path, **changes: Any) -> Study:
    written: dict[str, Any] = {
        "base": BASE,
        "methods": METHODS,
        "reference": "scratch",
        "settings": {"net_d8": {}},
        "tuning": {"seeds": [100], "grid": {"optim.lr": [0.01, 0.05]}},
        "tuned_as": {"steps_4": "chain"},
        "claims": None,
    }
    return write(tmp_path, **{**written, **changes})


def accuracy(config: ExperimentConfig) -> float:
    """Four steps are best at a rate of 0.01, one step at 0.05."""
    best = 0.01 if config.num_steps == 4 else 0.05
    return 1 - abs(float(config.optim["lr"]) - best)


def trainer(study: Study, rounds: list[list[ExperimentConfig]]) -> Trainer:
    return stand_in(study, accuracy, rounds)


def test_what_others_start_from_is_trained_at_the_point_that_they_chose(tmp_path: Path) -> None:
    study = chained(tmp_path)
    rounds: list[list[ExperimentConfig]] = []
    progress, failures = runner.advance(study, trainer(study, rounds))
    trained = [config for configs in rounds for config in configs]
    assert failures == []
    assert progress.chosen["net_d8", "steps_4"] == progress.chosen["net_d8", "chain"] == ("optim.lr=0.05",)
    runs = {(run.method, run.config.seed): run.config for run in progress.finals}
    assert all(runs["chain", seed].init_from == runs["steps_4", seed].run_id for seed in study.seeds)
    assert all(config.init_from in {c.run_id for c in trained} for config in trained if config.init_from)
    assert "steps_4 uses the choice of chain" in readme.page(progress).replace("\\_", "_").replace("`", "")


def test_two_methods_may_have_the_same_source_and_each_has_its_rows(tmp_path: Path) -> None:
    methods = {**METHODS, "again": METHODS["steps_4"]}
    study = chained(tmp_path, methods=methods, tuned_as={"steps_4": "chain", "again": "chain"}, seeds=[0])
    progress, _ = runner.advance(study, trainer(study, []))
    assert progress.rows_of(("net_d8", "again")) == progress.rows_of(("net_d8", "steps_4")) != {}


def test_a_source_whose_row_is_here_and_whose_weights_are_not_is_trained_again(tmp_path: Path) -> None:
    study = chained(tmp_path)
    runner.advance(study, trainer(study, []))
    progress = runner.survey(study)
    last = next(run for run in progress.finals if run.method == "chain")
    source = last.config.init_from
    path = study.folder / "results.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if last.config.run_id not in line))
    assert [run.config.run_id for run in runner.survey(study).todo()] == [source, last.config.run_id]
    again: list[list[ExperimentConfig]] = []
    _, failures = runner.advance(study, trainer(study, again), only="*/chain")
    assert failures == [] and [config.run_id for configs in again for config in configs] == [source, last.config.run_id]
    assert runner.survey(study).todo() == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"steps_4": "chian"}, "There is no method in tiny/study.yaml 'chian'; allowed: chain, scratch, steps_4; did you"),
        ({"steps_4": "chain", "chain": "scratch"}, "tuned_as: chain takes the point of scratch and cannot give one of its"),
        (["chain"], "tuned_as must be a mapping of methods to methods, not ['chain']; type tuned_as: {four_steps: one_step}"),
    ],
)  # fmt: skip
def test_a_fault_in_tuned_as_is_one_sentence(given: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        chained(tmp_path, tuned_as=given)
    assert sentence in str(refusal.value)
