"""Stored runs: listed, compared, removed; and their networks, loaded, evaluated and trained again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import snn_exp
from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import owning
from snn_exp.runs.run_files import Result
from snn_exp.runs.store import stored_runs
from snn_exp.training import train
from snn_exp.training.build import build_data, build_task
from snn_exp.training.load import evaluate
from snn_exp.training.saved_weights import write_weights

TINY = ("network.width=4", "logger=none", "trainer.max_epochs=1", "optim.batch_size=128", "neuron=lif")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(autouse=True)
def folders(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(output))


@pytest.fixture
def trained() -> tuple[RunFolder, ExperimentConfig]:
    """Trained by the first test that asks for it."""
    config = compose(TINY)
    train.run(config, echo=False)
    return RunFolder.of(config), config


def test_a_loaded_network_gives_the_stored_accuracy_from_pixels(trained: tuple[RunFolder, ExperimentConfig]) -> None:
    folder, config = trained
    task = snn_exp.load(folder.path.name[:6])
    val = build_data(config).dataset.val
    with torch.no_grad():
        accuracy = (task(val.samples).argmax(1) == val.labels).float().mean().item()
    result = folder.result()
    assert result is not None and accuracy == pytest.approx(result.metrics["val/acc"], abs=1 / len(val))


def test_an_evaluation_repeats_the_test_and_takes_other_data_and_more_steps(
    trained: tuple[RunFolder, ExperimentConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, config = trained
    result = folder.result()
    assert result is not None
    again = evaluate(folder, config)
    tested = {key: value for key, value in result.metrics.items() if key.startswith("test/")}
    assert again == tested, "bitwise, although Lightning evaluated the run and nothing of it is used here"
    run = folder.path.name
    assert main.main(["eval", run]) == 0
    assert f"test acc     {100 * result.metrics['test/acc']:.2f} %" in capsys.readouterr().out
    assert main.main(["eval", run, "dataset=digits_clutter", "dataset.difficulty=0", "encoding.num_steps=2"]) == 0
    said = capsys.readouterr().out
    assert "evaluated on digits_clutter" in said and "energy " in said
    assert main.main(["eval", run, "neuron=if"]) == 2
    assert f"neuron=if would change the network of run {run}; eval takes dataset=" in capsys.readouterr().err
    assert main.main(["eval", run, "dataset=digits_dvs", "encoding=frames"]) == 2
    assert "does not fit dataset=digits_dvs: stem.conv.weight must be (4, 2, 3, 3) and is (4, 1, 3, 3)" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("part", "overrides"),
    [
        ("norm=bntt", ["norm=bntt"]),
        ("norm=tebn", ["norm=tebn"]),
        ("norm=tab", ["norm=tab"]),
        ("norm=psp", ["norm=psp", "norm.over=channel_step"]),
        ("neuron=psn", ["neuron=psn"]),
        ("neuron=glif", ["neuron=glif"]),
    ],
)
def test_parameters_that_depend_on_the_number_of_steps_are_not_blamed_on_the_data(
    part: str, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [word for word in TINY if "neuron" not in word or not part.startswith("neuron")]
    config = compose([*chosen, *overrides, "dataset=digits_200", "trainer.test=false"])
    folder = RunFolder.of(config)
    data = build_data(config)
    folder.begin(config, {}, split_fingerprint=data.dataset.fingerprint)
    write_weights(build_task(config, data).network, folder.weights)
    folder.finish(Result(config.run_id, "done", config.to_plain(), {"val/acc": 0.1, "val/loss": 2.3, "params": 1.0}, 1.0, 1.0,
                         "2026-01-01T00:00:00+00:00", 0, data.dataset.fingerprint))  # fmt: skip
    assert main.main(["eval", config.run_id, "encoding.num_steps=8"]) == 2
    assert capsys.readouterr().err == (
        f"snn-exp: {part} of run {config.run_id} was trained for 4 steps and its parameters depend on their number, so it "
        f"cannot be evaluated with encoding.num_steps=8; type encoding.num_steps=4\n"
    )
    assert main.main(["eval", config.run_id, "encoding.num_steps=4", "dataset=digits_clutter"]) == 0


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def of_another_network(path: Path) -> None:
    weights = load_file(path)
    weights["stem.conv.weight"] = torch.zeros(7, 1, 3, 3)
    save_file(weights, path)


def of_nan(path: Path) -> None:
    weights = load_file(path)
    weights["stem.conv.weight"][0, 0, 0, 0] = torch.nan
    save_file(weights, path)


def of_half_precision(path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)


def no_weights_at_all(path: Path) -> None:
    path.write_bytes(b"PK" * 1000)


def a_named_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (Path.unlink, "are missing; put the file back, or train run {run} again with --rerun"),
        (cut_short, "are damaged ("),
        (no_weights_at_all, "are damaged ("),
        (a_named_pipe, "are damaged (it is no regular file)"),
        (of_another_network, "are of another network: stem.conv.weight must be (4, 1, 3, 3) and is (7, 1, 3, 3); put"),
        (of_nan, "are damaged (stem.conv.weight holds values that are NaN or infinite); put"),
        (of_half_precision, "are of another network: stem.conv.weight must be float32 and is float16; put"),
    ],
)
def test_weights_that_are_missing_cut_or_of_another_network_are_one_sentence_in_every_command(
    harm: Callable[[Path], None],
    said: str,
    trained: tuple[RunFolder, ExperimentConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _ = trained
    run, content = folder.path.name, folder.weights.read_bytes()
    by_header = harm in (Path.unlink, cut_short, no_weights_at_all, a_named_pipe)
    untested = json.loads((folder.path / "result.json").read_text())
    result = json.dumps(untested)
    untested["metrics"] = {key: value for key, value in untested["metrics"].items() if not key.startswith("test/")}
    harm(folder.weights)
    try:
        expected = f"the weights {folder.weights} {said.format(run=run)}"
        for command in (
            ("eval", run), ("eval", run, "encoding.num_steps=2"), ("fold", run), ("verify", run),
            ("export", run, "--format", "safetensors"), ("train", *TINY, f"teacher={run}", "optim.lr=0.1"),
            ("predict", run, "nowhere.png"), ("fold", run, "--int8"),
            *([("pack", run)] if harm is not Path.unlink else []),  # which names every file that it lacks
            *([("plan", *TINY, f"{key}={run}", "optim.lr=0.1") for key in ("teacher", "init_from")] if by_header else []),
        ):  # fmt: skip
            capsys.readouterr()
            assert main.main(command) == 2, command
            error = capsys.readouterr().err
            assert expected in error and error.count("\n") == 1, command
        with pytest.raises(UserError) as refusal:
            snn_exp.load(run)
        assert expected in str(refusal.value)
        (folder.path / "result.json").write_text(json.dumps(untested))
        assert main.main(["train", *TINY]) == 2, "a test that comes later"
        assert expected in capsys.readouterr().err
    finally:
        folder.weights.unlink(missing_ok=True)
        folder.weights.write_bytes(content)
        (folder.path / "result.json").write_text(result)


def test_a_run_trained_again_is_bitwise_equal_and_a_forged_one_is_caught(
    trained: tuple[RunFolder, ExperimentConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = trained
    assert main.main(["verify", folder.path.name]) == 0
    assert "bitwise equal" in capsys.readouterr().out
    weights, result = folder.weights.read_bytes(), (folder.path / "result.json").read_text()
    values = load_file(folder.weights)
    values["stem.conv.weight"][0, 0, 0, 0] += 1e-6
    save_file(values, folder.weights)
    assert main.main(["verify", folder.path.name]) == 1
    assert "different\n  the weights differ in stem.conv.weight" in capsys.readouterr().out
    folder.weights.write_bytes(weights)
    stored = json.loads(result)
    stored["metrics"]["test/acc"] = 0.99
    (folder.path / "result.json").write_text(json.dumps(stored))
    assert main.main(["verify", folder.path.name]) == 1
    assert "different\n  another test/acc" in capsys.readouterr().out
    (folder.path / "result.json").write_text(result)


def test_what_makes_two_runs_differ_is_listed(
    trained: tuple[RunFolder, ExperimentConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    other = compose([*TINY, "neuron.tau=3"])
    train.run(other, echo=False)
    assert main.main(["diff", trained[0].path.name, other.run_id]) == 0
    said = capsys.readouterr().out
    assert "neuron.tau" in said and "test/acc" in said and "norm.momentum" not in said
    assert main.main(["diff", trained[0].path.name, trained[0].path.name]) == 0
    assert "the two do not differ" in capsys.readouterr().out


def test_runs_are_listed_by_filters_and_removed_only_when_named_and_confirmed(
    trained: tuple[RunFolder, ExperimentConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    failed, training = compose([*TINY, "seed=7"]), compose([*TINY, "seed=8"])
    RunFolder.of(failed).begin(failed, {})
    RunFolder.of(failed).fail("Boom", "trace")
    with owning(RunFolder.of(training).path):
        RunFolder.of(training).begin(training, {})
        assert [run.name for run in stored_runs(["state=training"])] == [training.run_id]
        assert main.main(["runs", "clean", "seed=8", "--yes"]) == 1
        assert "is being trained by process" in capsys.readouterr().err
    assert [run.name for run in stored_runs(["state=failed", "neuron=lif"])] == [failed.run_id]
    assert trained[0].path.name in {run.name for run in stored_runs(["neuron.tau=2.0", "seed=0"])}
    assert main.main(["runs", "clean"]) == 2
    assert "needs a filter, so that it does not remove every run" in capsys.readouterr().err
    assert main.main(["runs", "clean", "state=failed"]) == 0
    assert failed.run_id in (said := capsys.readouterr().out) and "nothing is removed yet; add --yes" in said
    assert RunFolder.of(failed).path.exists()
    assert main.main(["runs", "clean", "state=failed", "--yes"]) == 0
    assert not RunFolder.of(failed).path.exists() and trained[0].path.exists()


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        (["lif"], "'lif' is not a valid filter; type key=value, such as neuron=lif or state=failed"),
        (["state=crashed"], "There is no state 'crashed'; allowed: damaged, diverged, done, failed, "),
        (["neuronn=lif"], "did you mean neuron? Type neuron=lif"),
    ],
)
def test_a_filter_that_cannot_be_is_one_sentence(
    trained: tuple[RunFolder, ExperimentConfig], filters: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["runs", "list", *filters]) == 2
    assert sentence in capsys.readouterr().err
