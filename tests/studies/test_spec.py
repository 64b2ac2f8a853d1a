"""A study: what its file may say, the way from trials to fresh seeds, and that it goes on where it was stopped."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.reporting.claims import CLAIMS, DifferenceClaim, Margin, Outcome, keys_of
from snn_exp.runs.row import Row
from snn_exp.runs.run_files import Result
from snn_exp.studies import readme, repeats, runner
from snn_exp.studies.results import Ledger
from snn_exp.studies.runner import StudyRun
from snn_exp.studies.spec import Study, load, names, studies_root
from snn_exp.training import train

TINY: dict[str, Any] = {
    "question": "Does batch norm help a tiny network?",
    "seeds": [0, 1],
    "budget_core_hours": 1,
    "reference": "none",
    "base": ["network.width=4", "neuron=s2nn", "optim.batch_size=256", "trainer.max_epochs=1", "logger=none"],
    "methods": {"bn": ["norm=bn"], "none": ["norm=none"]},
    "tuning": {"seeds": [100], "grid": {"optim.lr": [0.01, 0.001]}},
    "settings": {"net_d8": {"overrides": ["depth=d8"]}, "net_d14": {"overrides": ["depth=d14"], "tuned_in": "net_d8"}},
    "claims": [
        {"says": "BN helps.", "test": "higher", "of": "bn", "than": "none"},
        {
            "says": "BN spends half of the dense count.",
            "test": "ratio",
            "value": "1/2",
            "of": "bn",
            "than": "none",
            "metric": "test/energy_pj",
            "than_metric": "test/energy_dense_pj",
        },
    ],
}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("SNN_EXP_STUDIES", str(tmp_path / "studies"))


def write(tmp_path: Path, **changes: Any) -> Study:
    folder = tmp_path / "studies" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    content = {key: value for key, value in {**TINY, **changes}.items() if value is not None}
    (folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return load("tiny")


def row_of(run: StudyRun, acc: float, loss: float = 0.1, status: str = "done") -> Row:
    metrics = {} if status == "diverged" else {"val/acc": acc, "val/loss": loss, "test/acc": acc}
    result = Result(
        run.config.run_id, status, run.config.to_plain(), metrics, 36.0, 36.0, "2026-01-01T00:00:00+00:00", 0, "f"
    )
    return Row(result, {}, {}, {}, {}, "code")


# --- study.yaml -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"methodz": {}}, r"There is no key of tiny/study.yaml 'methodz'; allowed: .*; did you mean methods\? Type methods: ..."),
        ({"seeds": None}, r"tiny/study.yaml lacks seeds; type seeds: ..."),
        ({"methods": {}}, r"tiny/study.yaml has no methods"),
        ({"methods": ["bn"]}, r"tiny/study.yaml: methods must be a mapping, not \['bn'\]; type methods: {bn: \[norm=bn\]"),
        ({"methods": {"a": 5}}, r"tiny/study.yaml: methods.a must be a list of overrides, not 5; type methods: "),
        ({"methods": {"a": [5]}}, r"tiny/study.yaml: methods.a must be a list of overrides, not \[5\]; type methods: "),
        ({"methods": {"a/../../x": []}}, r"tiny/study.yaml: methods: the name must be of a-z, 0-9, .*, not 'a/../../x'; type methods: "),
        ({"methods": {True: []}}, r"tiny/study.yaml: methods: the name must be of a-z, 0-9, .*, not True; type methods: "),
        ({"settings": {"a/../../../x": {}}}, r"tiny/study.yaml: settings: the name must be of a-z, .*, not 'a/../../../x'; type settings: "),
        ({"settings": {"..": {}}}, r"tiny/study.yaml: settings: the name must be of a-z, 0-9"),
        ({"settings": {"a": {"overrids": []}}}, r"no key of tiny/study.yaml: settings.a 'overrids'; allowed: grid, overrides, tuned_in; did you mean overrides"),
        ({"settings": {"a": 5}}, r"tiny/study.yaml: settings.a must be a mapping, not 5; type settings: "),
        ({"seeds": 5}, r"tiny/study.yaml: seeds must be a list of whole numbers from 0 to 4294967295, not 5; type seeds: \[0, 1, 2\]"),
        ({"seeds": [2**32]}, r"seeds must be a list of whole numbers from 0 to 4294967295, not \[4294967296\]"),
        ({"seeds": [1.5]}, r"seeds must be a list of whole numbers"),
        ({"base": 5}, r"tiny/study.yaml: base must be a list of overrides, not 5; type base: \[depth=d20"),
        ({"claims": 5}, r"tiny/study.yaml: claims must be a valid list, not 5; type claims: "),
        ({"claims": [5]}, r"tiny/study.yaml: claims.0 must be a mapping, not 5; type claims: "),
        ({"claims": [{"test": "higher"}]}, r"tiny/study.yaml: claims.0 lacks says, of; type says: \.\.\."),
        ({"claims": [{"says": "x", "test": "higher", "of": {"a": 1}}]}, r"tiny/study.yaml: claims.0.of must be a name or a list of names, not {'a': 1}"),
        ({"status": "nope"}, r"tiny/study.yaml: status must be claims or exploratory, not 'nope'; type status: claims"),
        ({"budget_core_hours": float("nan")}, r"tiny/study.yaml: budget_core_hours must be a positive number of core hours, not nan; type budget_core_hours: 10"),
        ({"budget_core_hours": -1}, r"budget_core_hours must be a positive number of core hours, not -1"),
        ({"budget_core_hours": "ten"}, r"budget_core_hours must be a positive number of core hours, not 'ten'"),
        ({"question": 5}, r"tiny/study.yaml: question must be a text, not 5; type question: Does it help\?"),
        ({"tuning": {"grid": {"optim.lr": 5}}}, r"tiny/study.yaml: tuning.grid must be a mapping of keys to lists of values, not {'optim.lr': 5}; type tuning: "),
        ({"tuning": {"seeds": [100], "grid": {f"a{n}": list(range(100)) for n in range(3)}}}, r"tiny/study.yaml asks for 2,000,008 runs, and a study may have 100,000; give it a smaller grid"),
        ({"more_seeds": {"*/bn": 5}}, r"tiny/study.yaml: more_seeds.\*/bn must be a list of whole numbers"),
        ({"exclude": {"*/bn": 5}}, r"tiny/study.yaml: exclude.\*/bn must be a text, not 5; type exclude: "),
        ({"claims": [{"says": "x", "test": "at_most", "of": "bn", "value": "1e999999999"}]}, r"value must be a number such as 0.01 or 1/12, not '1e999999999'"),
        ({"claims": [{"says": "x", "test": "at_most", "of": "bn", "value": float("nan")}]}, r"value must be a number such as 0.01 or 1/12, not nan"),
        ({"reference": "bm"}, r"There is no method in tiny/study.yaml 'bm'; allowed: bn, none; did you mean bn\?"),
        ({"tuning": {"seeds": [1]}}, r"tunes on seed 1, which is also a final seed; final seeds must be fresh"),
        ({"more_seeds": {"*/bn": [100]}}, r"tunes on seed 100, which is also a final seed"),
        ({"exclude": {"net_d9/*": "typo"}}, r"net_d9/\* is not a SETTING/METHOD of this study; type '\*/bn'"),
        ({"settings": {"a": {"tuned_in": "b"}}}, r"There is no setting in tiny/study.yaml 'b'; allowed: a"),
        ({"claims": [{"says": "x", "test": "bigger", "of": "bn"}]}, r"There is no test of tiny/study.yaml: claims 'bigger'"),
        ({"claims": [{"says": "x", "test": "equivalent", "of": "bn", "than": "none"}]}, r"test: equivalent needs margin: \.\.\."),
        ({"claims": [{"says": "x", "test": "ratio", "of": "bn", "value": 0.5}]}, r"test: ratio needs than: \.\.\."),
        ({"claims": [{"says": "x", "test": "ratio", "of": "bn", "than": "none"}]}, r"test: ratio needs value: \.\.\."),
        ({"claims": [{"says": "x", "test": "lower", "of": "bn", "than": "none", "than_metric": "test/acc"}]},
         r"test: lower takes than, than_in and no than_metric; leave than_metric out"),
        ({"claims": [{"says": "x", "test": "at_most", "of": "bn", "than": "none", "value": 1}]},
         r"test: at_most takes value and no than; leave than out"),
        ({"claims": [{"says": "x", "test": "within", "of": "bn", "than": "none", "margin": -0.01}]},
         r"claims: margin must be above 0, not -0.01; type margin: 0.01"),
        ({"claims": [{"says": "x", "test": "higher", "of": "bn", "than": {"a": 1}}]}, r"tiny/study.yaml: claims.0.than must be a name or a list of names, not {'a': 1}; type claims: "),
        ({"claims": [{"says": "x", "test": "higher", "of": "bn", "then": "none"}]}, r"There is no key of tiny/study.yaml: claims.0 'then'; allowed: beside, in, margin, metric, of, says, states, test, than, than_in, than_metric, value; did you mean than"),
        ({"claims": [{"says": "x", "test": "at_most", "of": "bn", "value": "a twelfth"}]},
         r"claims: value must be a number such as 0.01 or 1/12, not 'a twelfth'"),
        ({"claims": [{"says": "x", "test": "within", "of": "bn", "than": "none", "margin": "1/0"}]},
         r"claims: margin must be a number such as 0.01 or 1/12, not '1/0'"),
        ({"claims": [{"says": "x", "test": "higher", "of": "bn", "than_in": "net_d9"}]}, r"There is no setting in tiny/study.yaml: claims 'net_d9'"),
        ({"claims": [{"says": "x", "test": "higher", "of": "bn"}]}, r"test: higher needs than: \.\.\."),
        ({"claims": [{"says": "x", "test": "higher", "of": "bn", "than": "bn"}]}, r"claims: bn is compared with itself, which shows nothing; name another"),
        ({"seeds": []}, r"tiny/study.yaml has no seeds, so nothing is answered; type seeds: \[0, 1, 2\]"),
        ({"exclude": {"*/*": "all"}}, r"tiny/study.yaml excludes every SETTING/METHOD, so nothing is left to compare"),
        ({"settings": {"a": {"tuned_in": "b"}, "b": {"tuned_in": "a"}}}, r"a is tuned_in b, which takes the choice of a and tunes nothing; name a"),
        ({"base": ["seed=3"]}, r"tiny/study.yaml sets seed=3, and the seeds are the same for all methods; leave it out, and type seeds: "),
        ({"tuning": {"seeds": [100], "grid": {"seed": [1, 2]}}}, r"tiny/study.yaml sets seed, and the seeds are the same for all methods"),
        ({"claims": [{"says": "x", "test": "higher", "of": "lif", "than": "none"}]}, r"There is no method in tiny/study.yaml: claims 'lif'"),
    ],
)  # fmt: skip
def test_a_fault_in_the_file_is_one_sentence(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        write(tmp_path, **changes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "tiny/study.yaml must be a mapping of keys to values; type question: Does it help?"),
        ("5", "tiny/study.yaml must be a mapping of keys to values"),
        ("a: [", "tiny/study.yaml is broken YAML: "),
        ("[" * 10_000, "tiny/study.yaml is refused: lists and mappings nested more than 50 deep"),
        ("a: &a [*a]", "tiny/study.yaml is refused: the alias *a stands for something that holds itself"),
    ],
)
def test_a_file_that_holds_no_study_is_one_sentence_and_the_others_are_listed(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    good = tmp_path / "studies" / "good"
    good.mkdir()
    (tmp_path / "studies" / "tiny" / "study.yaml").rename(good / "study.yaml")
    (tmp_path / "studies" / "tiny" / "study.yaml").write_text(text)
    assert main.main(["study", "tiny", "--plan"]) == 2
    assert capsys.readouterr().err.startswith(f"snn-exp: {sentence}")
    assert main.main(["study"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"snn-exp: left out: {sentence}") and "good " in said.out


def test_a_study_is_a_folder_with_a_name_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    (tmp_path / "studies" / "tiny").rename(tmp_path / "studies" / "Ti ny")
    assert names() == []
    assert main.main(["study", "Ti ny"]) == 2
    assert "the folder Ti ny of " in capsys.readouterr().err
    write(tmp_path)
    (tmp_path / "studies" / "tiny" / "study.yaml").unlink()
    os.mkfifo(tmp_path / "studies" / "tiny" / "study.yaml")
    assert main.main(["study", "tiny"]) == 2
    assert capsys.readouterr().err == "snn-exp: tiny/study.yaml is a named pipe, not a file\n"


def test_a_study_whose_folder_is_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "studies" / "tiny").rename(tmp_path / "elsewhere")
    (tmp_path / "studies" / "tiny").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"is a link that leads out of .*studies, where its page would be written"):
        load("tiny")


def test_a_studys_page_is_written_into_its_folder_alone(tmp_path: Path) -> None:
    study = write(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "README.md").write_text("mine")
    (study.folder / "figures").symlink_to(outside)
    with pytest.raises(UserError, match=r"figures leads out of .*, so nothing is written there; remove it"):
        readme.write(runner.survey(study))
    (study.folder / "figures").unlink()
    (study.folder / "README.md").symlink_to(outside / "README.md")
    readme.write(runner.survey(study))
    assert (outside / "README.md").read_text() == "mine" and not (study.folder / "README.md").is_symlink()


def test_the_studies_there_are_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNN_EXP_STUDIES")
    assert len(names()) >= 8
    for name in names():
        study = load(name)
        assert study.num_runs() > 0
        answered = (study.folder / "README.md").exists()  # one that was only just written down has neither
        assert Ledger(study.folder / "results.jsonl").rows or not answered


@pytest.mark.parametrize("method", ["relu", "s2nn"])
def test_the_experiment_of_fashion_mnist_is_what_its_study_chose(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNN_EXP_STUDIES")
    rows = Ledger(studies_root() / "fashion_start" / "results.jsonl").rows.values()
    judged = {row.result.run_id for row in rows if "test/acc" in row.result.metrics}
    assert {compose([f"experiment=fashion_{method}", f"seed={seed}"]).run_id for seed in range(5)} <= judged


@pytest.mark.parametrize("name", ["precision", "s2nn_depth"])  # the cheapest two; what changes a word changes both
def test_a_committed_page_is_what_the_command_writes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNN_EXP_STUDIES")
    study = load(name)
    pages = (study.folder / "README.md").read_text(), readme.page(runner.survey(study))
    # but for the values of its runs, to which a parameter that is added later adds one that changed nothing
    committed, written = (re.sub(r"(?s)(## What was run\n).*?(\n## Claims)", r"\1\2", page) for page in pages)
    assert committed == written, f"type snn-exp report {name}, and for the other studies likewise"
    assert "\n## Claims\n\n| claim | verdict |" in committed and "\n## Results\n" in committed


def test_an_unknown_study_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert names() == ["tiny"]
    assert main.main(["study", "tyni"]) == 2
    assert "did you mean tiny? Type snn-exp study tiny" in capsys.readouterr().err
    assert main.main(["study"]) == 0
    assert "Does batch norm help a tiny network?" in capsys.readouterr().out


def test_methods_that_are_the_same_network_are_refused(tmp_path: Path) -> None:
    study = write(
        tmp_path,
        methods={"bn": ["norm=bn"], "batch_norm": ["norm=bn", "norm.momentum=0.1"]},
        reference=None,
        claims=None,
    )
    with pytest.raises(
        UserError, match="the methods bn and batch_norm of study tiny are the same network in setting net_d8"
    ):
        runner.finals(study, runner.first_points(study, study.pairs()))


def test_what_cannot_be_built_is_refused_unless_it_is_excluded(tmp_path: Path) -> None:
    methods = {"bn": ["norm=bn"], "none": ["norm=none"], "psp_of_signs": ["norm=psp", "neuron=sign"]}
    with pytest.raises(
        UserError, match=r"study tiny, net_d8/psp_of_signs: norm=psp does nothing .*or name net_d8/psp_of_signs"
    ):
        runner.trials(write(tmp_path, methods=methods))
    study = write(tmp_path, methods=methods, exclude={"*/psp_of_signs": "nothing to normalize"})
    assert {run.method for run in runner.trials(study)} == {"bn", "none"}
    page = readme.write(runner.survey(study)).read_text()
    assert "- `*/psp_of_signs`: nothing to normalize" in page


def test_a_study_takes_no_seed_of_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert main.main(["study", "tiny", "seed=5", "--plan"]) == 2
    assert (
        "the seeds of study tiny stand in its study.yaml and are the same for all methods; leave seed=5 out"
        in capsys.readouterr().err
    )


def test_a_note_stands_on_top_of_the_page(tmp_path: Path) -> None:
    page = readme.write(runner.survey(write(tmp_path, note="Only one\nwidth was run."))).read_text()
    assert page.index("**Note.** Only one width was run.") < page.index("## Claims")
    assert "**Note.**" not in readme.write(runner.survey(write(tmp_path))).read_text()


def test_a_study_has_one_energy_profile(tmp_path: Path) -> None:
    study = write(tmp_path, methods={"bn": ["norm=bn"], "none": ["norm=none", "energy=h45_int8"]})
    with pytest.raises(UserError, match=r"^study tiny prices net_d8/bn with energy=h45_fp32 and net_d8/none with "):
        runner.trials(study)
    study = write(tmp_path, base=[*TINY["base"], "energy=h45_int8"])
    assert runner.survey(study).profile.name == "h45_int8"


# --- which runs -----------------------------------------------------------------------------------


def test_every_method_has_the_same_trials_and_none_of_them_reads_the_test_set(tmp_path: Path) -> None:
    study = write(tmp_path)
    tried = runner.trials(study)
    tried_by = {m: [(r.point, r.config.seed) for r in tried if r.method == m] for m in study.methods}
    assert tried_by["bn"] == tried_by["none"] == [(("optim.lr=0.01",), 100), (("optim.lr=0.001",), 100)]
    assert all(run.setting == "net_d8" and not run.config.trainer.test for run in tried)
    answering = runner.finals(study, runner.first_points(study, study.pairs()))
    assert len(answering) == 2 * 2 * 2 and all(run.config.trainer.test for run in answering)
    assert not {r.config.run_id for r in tried} & {r.config.run_id for r in answering}


def test_a_cell_may_have_more_seeds_than_the_others(tmp_path: Path) -> None:
    study = write(tmp_path, more_seeds={"net_d8/bn": [2, 3]})
    seeds: dict[tuple[str, str], list[int]] = {}
    for run in runner.finals(study, runner.first_points(study, study.pairs())):
        seeds.setdefault(run.key, []).append(run.config.seed)
    assert seeds.pop(("net_d8", "bn")) == [0, 1, 2, 3]
    assert set(map(tuple, seeds.values())) == {(0, 1)}


def test_a_method_keeps_its_best_point_ties_go_to_the_loss_and_divergence_ranks_last(tmp_path: Path) -> None:
    study = write(tmp_path)
    tried = runner.trials(study)

    def kept(*outcomes: tuple[Any, ...]) -> str:
        bn = [run for run in tried if run.method == "bn"]
        rows = {run.config.run_id: row_of(run, *outcome) for run, outcome in zip(bn, outcomes, strict=True)}
        return runner.choose(study, tried, rows)["net_d14", "bn"][0]

    assert kept((0.9, 0.1), (0.8, 0.1)) == "optim.lr=0.01"
    assert kept((0.8, 0.1), (0.9, 0.1)) == "optim.lr=0.001"
    assert kept((0.9, 0.3), (0.9, 0.2)) == "optim.lr=0.001"
    assert kept((0.9, 0.1, "diverged"), (0.1, 0.1)) == "optim.lr=0.001"
    assert ("net_d8", "none") not in runner.choose(study, tried, {}), "nothing is kept before the trials have ended"


def test_a_study_over_its_budget_is_refused_and_says_what_to_drop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, budget_core_hours=0.0001)
    assert main.main(["study", "tiny", "--plan"]) == 2
    said = capsys.readouterr()
    assert "net_d8" in said.out and "core hours" in said.out
    assert "and its budget_core_hours is 0.0001; drop the setting net_d8 (0.0" in said.err
    assert not (tmp_path / "out").exists(), "nothing is trained"


# --- doing them -----------------------------------------------------------------------------------


def in_process(stop_after: int = 10**9) -> Callable[..., list[str]]:
    """Trains here, one after the other; stands in for the person who stops it."""
    done = 0

    def train_all(configs: list[ExperimentConfig], keep: Callable[[Result], None]) -> list[str]:
        nonlocal done
        for config in configs:
            if done == stop_after:
                raise KeyboardInterrupt
            keep(train.run(config, echo=False))
            done += 1
        return []

    return train_all


def test_a_study_whose_teachers_are_not_there_trains_nothing_of_their_students(tmp_path: Path) -> None:
    methods = {"bn": ["norm=bn"], "taught": ["norm=none", "teacher='neuron=relu'"]}
    study = write(tmp_path, methods=methods, reference="bn", claims=None)
    with pytest.raises(
        UserError, match=r"^study tiny, net_d8/taught: teacher=[0-9a-f]{10} is not a run in .*train it first$"
    ):
        runner.advance(study, lambda configs, keep: pytest.fail("it was launched"))
    launched: list[ExperimentConfig] = []
    runner.advance(study, lambda configs, keep: launched.extend(configs) or [], only="*/bn")
    assert launched and all(config.teacher is None for config in launched)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for what is not there")
def test_a_study_that_this_machine_cannot_run_is_refused_before_its_first_run(tmp_path: Path) -> None:
    study = write(tmp_path, methods={"bn": ["norm=bn"], "gpu": ["norm=none"]}, reference="bn", claims=None)
    with pytest.raises(UserError, match=r"^study tiny, net_d8/bn: trainer.accelerator=gpu"):
        runner.advance(study, lambda configs, keep: pytest.fail("launched"), overrides=("trainer.accelerator=gpu",))


def test_a_study_goes_on_where_it_was_stopped_and_its_rows_outlive_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        runner.advance(study, in_process(stop_after=5))
    rows = Ledger(study.folder / "results.jsonl").rows
    assert len(rows) == 5 and sum("test/acc" in row.result.metrics for row in rows.values()) == 1
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "another machine"))
    progress, failures = runner.advance(study, in_process())
    assert not failures and not progress.todo() and len(progress.rows()) == 12
    assert len(list((tmp_path / "another machine" / "runs").iterdir())) == 7, "what the file holds is not done again"
    assert main.main(["report", "tiny"]) == 0
    page = (study.folder / "README.md").read_text()
    assert "BN helps." in page and "### net_d14" in page and "2 trials per method and seed (seed 100)" in page
    assert (study.folder / "figures" / "layers_net_d8.png").stat().st_size > 10_000
    assert (study.folder / "figures" / "depth.png").exists()
    assert (study.folder / "figures" / "pareto_net_d8.png").stat().st_size > 10_000
    assert "![pareto_net_d8](figures/pareto_net_d8.png)" in page
    caption = page.partition("\n\nAccuracy against energy: ")
    assert caption[0].endswith("![pareto_net_d14](figures/pareto_net_d14.png)"), "under the pictures that it is of"
    assert "MAC 4.6 pJ, AC 0.9 pJ, XNOR 20 fJ; compute only, no memory traffic.\n\n![layers_net_d8]" in caption[2]
    assert "| T | firing rate | highest layer | energy nJ | energy / none |" in page
    (ratio,) = re.findall(
        r"\*\*holds\*\*: .* \(test/energy_pj / test/energy_dense_pj, ratio 0.5\)\.\n\n.*\n.*\n(.*)", page
    )
    assert re.fullmatch(r"\| net_d8 \| bn against none \| 0\.\d+( \[.*\])? \| 2 \| holds \|", ratio)


def test_what_another_study_has_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write(tmp_path, settings=None, tuning=None, seeds=[0])
    runner.advance(study, in_process())
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "elsewhere"))
    twin = tmp_path / "studies" / "twin"
    twin.mkdir()
    (twin / "study.yaml").write_text((study.folder / "study.yaml").read_text())
    assert runner.survey(load("twin")).todo() == []


def test_a_stored_run_that_is_done_again_and_differs_is_named(tmp_path: Path) -> None:
    study = write(tmp_path, settings={"net_d8": {"overrides": ["depth=d8"]}}, tuning=None, seeds=[0])
    progress, _ = runner.advance(study, in_process())
    assert repeats.contradictions(progress) == []
    path = progress.ledger.path
    path.write_text(
        path.read_text().replace('"finished_at":"2', '"finished_at":"1').replace('"test/acc":0.', '"test/acc":0.0', 1)
    )
    (said,) = repeats.contradictions(runner.survey(study))
    assert "gives another test/acc on the same machine" in said


def test_the_command_trains_through_hydra_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write(tmp_path, settings=None, tuning=None, seeds=[0])
    assert main.main(["study", "tiny"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"main +0 done, .* core hours for bn 0 \+ 1, none 0 \+ 1", said)
    assert "not decided yet: BN helps." in said and "written: " in said
    assert len(Ledger(study.folder / "results.jsonl").rows) == 2
    assert main.main(["study", "tiny", "trainer.max_epochs=2", "--plan"]) == 0
    assert "for bn 0 + 1, none 0 + 1" in capsys.readouterr().out, "another number of epochs is another study"


def test_verify_does_a_stored_run_again_and_warns_where_its_row_was_tampered_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write(
        tmp_path, settings=None, tuning=None, seeds=[0], methods={"bn": ["norm=bn"]}, reference=None, claims=None
    )
    assert main.main(["study", "tiny"]) == 0
    capsys.readouterr()
    assert main.main(["study", "tiny", "--verify", "1", "--only", "main/bn"]) == 0
    said = capsys.readouterr()
    assert "warning" not in said.err
    assert re.search(r"^repeated main/bn seed=0 \(run \w{10}\): all \d+ metrics are equal$", said.out, re.MULTILINE)
    rows = study.folder / "results.jsonl"
    rows.write_text(rows.read_text().replace('"test/acc":0.', '"test/acc":0.0', 1))
    assert main.main(["study", "tiny", "--verify", "1"]) == 1
    said = capsys.readouterr()
    assert "gives another test/acc on the same machine; the first 1 of 1 epochs agree within 0.1%" in said.err
    assert "repeated main/bn" not in said.out


def test_verify_repeats_the_runs_of_one_cell_alone(tmp_path: Path) -> None:
    progress = finished(write(tmp_path))
    for only, keys in (("net_d14/none", {("net_d14", "none")}), ("*/bn", {("net_d8", "bn"), ("net_d14", "bn")})):
        assert {run.key for run in repeats.sample_of_finished(progress, 4, only)} == keys
    again = repeats.sample_of_finished(progress, 1, "net_d8/bn")
    (run,) = again
    assert repeats.confirmations(progress, again) == [], "none yet"
    assert run.config.trainer.kernels == "reference" and run.config.run_id in progress.rows(), "as the row was computed"


def test_the_best_run_is_rebuilt_from_its_row_where_there_is_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write(
        tmp_path, settings=None, tuning=None, seeds=[0, 1], methods={"bn": ["norm=bn"]}, reference=None, claims=None
    )
    assert main.main(["study", "tiny"]) == 0
    rows = Ledger(study.folder / "results.jsonl").rows
    of = {run_id: row.result.metrics for run_id, row in rows.items()}
    best = max(rows, key=lambda run_id: (of[run_id]["val/acc"], -of[run_id]["val/loss"]))
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "a clone"))
    capsys.readouterr()
    assert main.main(["study", "tiny", "--best", "--only", "main/bn"]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"^repeated main/bn seed=\d \(run {best}\): all \d+ metrics are equal$", said, re.MULTILINE)
    assert f"  snn-exp export {best} --format safetensors" in said
    assert [path.name for path in (tmp_path / "a clone" / "runs").iterdir()] == [best], "and nothing else is trained"
    assert main.main(["eval", best]) == 0, "its weights are there"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--best", "--plan"], "--best and --plan are two errands; type one of them"),
        (["--best"], "study tiny has no finished run of * to rebuild; type snn-exp study tiny --plan"),
        (["--verify", "-1"], "--verify -1 repeats no run; type --verify 1 or a larger number"),
        (["--verify", "0"], "--verify 0 repeats no run"),
        (["--only", "net_d9/*"], "--only net_d9/* matches no SETTING/METHOD of study tiny; type --only 'net_d8/bn'"),
        (
            ["--verify", "1", "--only", "*/bn"],
            "study tiny has no finished run of */bn to repeat; type snn-exp study tiny",
        ),
    ],
)
def test_what_cannot_be_repeated_is_refused(
    flags: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    assert main.main(["study", "tiny", *flags]) == 2
    assert sentence in capsys.readouterr().err


def finished(study: Study) -> runner.Progress:
    """The progress of a study all of whose runs have ended, bn a point and a bit above the others."""
    for list_of in ("trials", "finals"):
        progress = runner.survey(study)
        for run in getattr(progress, list_of):
            better = 0.012 * (run.method == "bn") * (1 + run.config.seed / 100)
            progress.ledger.add(row_of(run, 0.9 + run.config.seed % 10 / 100 + better))
    return runner.survey(study)


def test_a_new_kind_of_claim_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CLAIMS, "_classes", dict(CLAIMS._classes))

    @CLAIMS.register("higher_by")
    @dataclasses.dataclass(frozen=True)
    class HigherBy(DifferenceClaim):
        """The mean is higher by some margin."""

        holds_where = "the interval lies above `by`"
        by: Margin

        def decided(self, difference: Any, figures: str, rows: Any, others: Any) -> Outcome:
            return Outcome("holds" if difference.low > self.by else "not shown", f"{figures}; by {self.by}")

    claim = {"says": "BN is better by a point.", "test": "higher_by", "of": "bn", "than": "none"}
    with pytest.raises(UserError, match=r"claims: test: higher_by needs by: \.\.\."):
        write(tmp_path, claims=[claim])
    with pytest.raises(UserError, match=r"claims: by must be above 0, not 0; type by: 0\.01"):
        write(tmp_path, claims=[{**claim, "by": 0}])
    with pytest.raises(UserError, match="test: higher takes than, than_in and no by; leave by out"):
        write(tmp_path, claims=[{**claim, "test": "higher", "by": "1/100"}])
    study = write(tmp_path, claims=[{**claim, "by": "1/100"}])
    page = readme.write(finished(study)).read_text()
    assert "**holds**: BN is better by a point (test/acc, higher by 1.00 %).\n" in page
    assert (
        "\n| net_d8 | bn against none | +1.2" in page
        and "*holds*: for `higher_by`, the interval lies above `by`. *not shown*" in page
    )


def test_the_docs_list_each_kind_of_claim_with_its_keys() -> None:
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", page, re.MULTILINE)
    listed = [(name, keys, where) for name, keys, where in rows if name in CLAIMS]
    assert listed == [
        (name, ", ".join(f"`{key}`" if of.needed else f"(`{key}`)" for key, of in keys_of(CLAIMS[name]).items()),
         CLAIMS[name].holds_where)
        for name in CLAIMS
    ]  # fmt: skip


def test_the_page_says_what_its_statements_are_about(tmp_path: Path) -> None:
    study = write(tmp_path, methods={"bn": ["norm=bn"], "none": ["norm=none"], "lif": ["neuron=lif", "norm=bn"]})
    progress = runner.survey(study)
    assert "## What was run" not in readme.write(progress).read_text(), "nothing was"
    for run in progress.trials:
        progress.ledger.add(row_of(run, 0.9))
    for run in runner.survey(study).finals:
        progress.ledger.add(row_of(run, 0.9 + run.config.seed / 100))
    page = readme.write(runner.survey(study)).read_text()
    assert "- norm=bn (eps=1e-05, momentum=0.1); norm=none\n" in page
    assert re.search(r"- surrogate=s2nn \(.*peak=.*\) with neuron=s2nn; surrogate=atan \(.*\) with neuron=lif\n", page)
    assert "- trainer.max_epochs=1, trainer.precision=32-true, trainer.peek=false\n" in page
    assert "optim=adamw" in page and " lr=" not in page.partition("## What was run")[2].partition("##")[0]
    assert (
        "What was searched: optim.lr of 0.01, 0.001, in net_d8; the same for every method, on validation data." in page
    )
