"""Runs that start from the weights of another: what is taken, what is refused, and what becomes of their identity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from snn_exp.cli import main
from snn_exp.config.compose import compose, overrides_of, read_command
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.files import read_json
from snn_exp.runs.choices import choices
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.source import source_of
from snn_exp.runs.store import stored_runs
from snn_exp.sweeps.cells import in_stages
from snn_exp.training import checkpoints, train
from snn_exp.training.build import build_data, build_task
from snn_exp.training.start import start_from
from tests.stored import store

OURS = "network.width=4 trainer.max_epochs=1 optim.batch_size=100 neuron=lif dataset=digits_200"
TINY = (*OURS.split(), "logger=none")


def tiny(*overrides: str) -> ExperimentConfig:
    """The tiny run, with other values."""
    given = {word.partition("=")[0] for word in overrides}
    return compose([*(word for word in TINY if word.partition("=")[0] not in given), *overrides])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExperimentConfig]:
    """An output root with a trained run of four steps."""
    root = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_EXP_OUTPUT", str(root))
        config = tiny("encoding.num_steps=4")
        train.run(config, echo=False)
        return root, config


@pytest.fixture
def start(source: tuple[Path, ExperimentConfig], monkeypatch: pytest.MonkeyPatch) -> str:
    """init_from, of the trained run."""
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(source[0]))
    return f"init_from={source[1].run_id}"


def taken(config: ExperimentConfig) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], str]:
    """The state of an untrained network, the same begun from a run, and the line that says what was taken."""
    said: list[str] = []
    data = build_data(config)
    torch.manual_seed(0)
    network = build_task(config, data).network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    start_from(network, config, data.dataset.fingerprint, said.append)
    return before, dict(network.state_dict()), said[0]


def test_a_run_of_one_step_starts_from_the_weights_of_one_of_four(
    source: tuple[Path, ExperimentConfig], start: str
) -> None:
    config = tiny("encoding.num_steps=1", start)
    train.run(config, echo=False)
    folder = RunFolder.of(config)
    log = (folder.path / "train.log").read_text()
    assert f"starts from run {source[1].run_id}: 44 of 44 tensors taken\n" in log
    initial = read_json(folder.path / "manifest.json")["initial"]
    assert initial["run"] == source[1].run_id and initial["taken"] == "44 of 44" and len(initial["weights"]) == 16
    begun = taken(config)[1]
    stored = load_file(RunFolder.of(source[1]).weights)
    assert all(torch.equal(begun[name], stored[name]) for name in stored)
    alone, chained = tiny("encoding.num_steps=1"), tiny("encoding.num_steps=1", f"init_from={config.run_id}")
    assert len({c.run_id for c in (alone, config, chained)}) == 3
    train.run(chained, echo=False)  # and a run that starts from it in turn
    assert source_of(chained) == folder


def test_an_interrupted_run_goes_on_from_its_checkpoint_and_not_from_its_source(
    start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(start, "trainer.max_epochs=2", "encoding.num_steps=1")
    undisturbed = train.run(config, echo=False, folder=RunFolder(tmp_path / config.run_id)).metrics
    keep = checkpoints.keep_best
    monkeypatch.setattr(checkpoints, "keep_best", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train.run(config, echo=False)
    monkeypatch.setattr(checkpoints, "keep_best", keep)
    assert train.run(config, echo=False).metrics == undisturbed


def test_other_classes_and_other_parts_start_anew_and_are_named(start: str) -> None:
    before, after, said = taken(tiny("dataset=digits_200", "norm=tebn", "encoding.num_steps=4", start))
    assert "; new: " in said and "not there" in said
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert any(name.endswith("weight") and before[name].dim() == 4 for name in changed)
    assert all(
        torch.equal(before[name], after[name]) for name in before if name.split(" ")[0] in said.split("; new: ")[1]
    )


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        source_of(tiny(*overrides))
    return str(caught.value)


def test_another_network_and_what_may_have_been_seen_are_refused_in_a_sentence(start: str) -> None:
    assert "network.width is 4 there and 8 here; type network.width=4" in refused(start, "network.width=8")
    assert "depth.num_layers is 8 there and 20 here" in refused(start, "depth=d20")
    assert "residual is pre there and post here" in refused(start, "residual=post")
    assert "network is resnet there and mlp here" in refused(start, "network=mlp")
    assert "has seed=0 and so another split" in refused(start, "seed=1")
    assert "has seed=0 and so another split" in refused(start, "seed=1", "dataset=digits_clutter")
    assert "dataset.split_seed is 0 there and 1 here" in refused(start, "dataset.split_seed=1")
    assert "init_from=0123456789 is not a run in" in refused("init_from=0123456789")
    assert source_of(tiny(start, "seed=1", "dataset=mnist")) is not None, "no sample is in both"
    assert source_of(tiny(start, "neuron=relu", "norm=none", "dataset=digits")) is not None
    with pytest.raises(UserError, match=r"init_from=x is neither a run id, .* or init_from='neuron=lif encoding"):
        tiny("init_from=x")


def test_what_an_earlier_run_of_a_chain_has_seen_counts(start: str) -> None:
    between = store(*(word for word in TINY if not word.startswith("dataset")), "dataset=mnist", start)
    assert "init_from=" in refused(f"init_from={between.path.name}", "seed=1")
    assert source_of(tiny(f"init_from={between.path.name}")) == between


def test_weights_none_of_which_fits_are_refused(start: str, source: tuple[Path, ExperimentConfig]) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 3))
    with pytest.raises(
        UserError, match=r"has no weights that fit: 0.weight \(3, 3\), not there; 0.bias \(3,\), not there"
    ):
        start_from(network, tiny(start), build_data(tiny()).dataset.fingerprint, print)
    with pytest.raises(UserError, match="was trained on another split, although its config is the same"):
        start_from(network, tiny(start, "encoding.num_steps=4"), "another", print)


def test_a_source_is_found_by_its_overrides_on_the_same_data_and_seed(source: tuple[Path, ExperimentConfig]) -> None:
    asked = f"init_from='{OURS} encoding.num_steps=4'"
    assert tiny("encoding.num_steps=1", asked).init_from == source[1].run_id
    sweep = read_command([*TINY, "seed=0,1", asked], multirun=True)
    assert len({cell.config.init_from for cell in sweep.cells if cell.config}) == 2, "every seed has its own"
    config = tiny(f"init_from={source[1].run_id}")
    assert compose(overrides_of(config)).run_id == config.run_id
    with pytest.raises(UserError, match=r"init_from='neuron=lfi': There is no neuron 'lfi'|lfi.*did you mean lif"):
        tiny("init_from='neuron=lfi'")


def test_plan_refuses_a_source_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["plan", *TINY, "init_from=0123456789"])
    shown = capsys.readouterr()
    assert "init_from=0123456789 is not a run in" in " ".join((shown.out + shown.err).split())


def test_runs_are_told_apart_and_found_by_their_source(start: str, source: tuple[Path, ExperimentConfig]) -> None:
    begun = store(*TINY, "encoding.num_steps=2", start)
    assert [run.name for run in stored_runs([start])] and begun.path.name in [run.name for run in stored_runs([start])]
    config = tiny("encoding.num_steps=2", start)
    assert choices(config.to_plain())["init_from"] == "lif bn pre d8 digits_200 T=4"
    assert begun.path.name in [run.name for run in stored_runs(["init_from='neuron=lif encoding.num_steps=4'"])]
    assert "init_from" not in choices(tiny().to_plain())


# --- chains -----------------------------------------------------------------------------------------

CHAIN = ("steps_4", "steps_4_2", "steps_4_2_1")


def test_same_names_the_run_that_differs_in_what_follows_alone(output: Path) -> None:
    words = [word for word in TINY if not word.startswith("neuron")]
    links = [compose([*words, f"experiment={name}", "depth=d14", "seed=3"]) for name in CHAIN]
    assert [link.num_steps for link in links] == [4, 2, 1]
    assert [link.init_from for link in links] == [None, links[0].run_id, links[1].run_id]
    assert links[0].run_id == compose([*words, "method=lif_bn", "encoding.num_steps=4", "depth=d14", "seed=3"]).run_id
    other = tiny("init_from='same optim.lr=0.1 seed=5'").init_from
    assert other == tiny("optim.lr=0.1", "seed=5").run_id
    with pytest.raises(UserError, match=r"There is no neuron 'lfi'; .* did you mean lif"):
        tiny("init_from='same neuron=lfi'")
    with pytest.raises(UserError, match=r"init_from=same is neither a run id, .* nor overrides"):
        tiny("init_from=same")


def test_a_sweep_trains_first_what_the_others_start_from(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["-m", *(word for word in TINY if not word.startswith("neuron")), f"experiment={','.join(reversed(CHAIN))}"]
    assert main.main(["plan", *line]) == 0
    assert main.main(["train", *line, "trainer.test=false"]) == 0, capsys.readouterr().err
    runs = {run.config["encoding"]["num_steps"]: run for run in stored_runs([])}
    for T, source in ((1, 2), (2, 4)):
        log = (runs[T].folder.path / "train.log").read_text()
        assert f"starts from run {runs[source].folder.path.name}: 44 of 44 tensors taken" in log
    assert main.main(["train", *line, "trainer.test=false"]) == 0
    assert "3 done before, 0 to train" in capsys.readouterr().out
    assert main.main(["train", *line[1:-1], "experiment=steps_4_2", "seed=9"]) == 2, (
        "alone it has nothing to start from"
    )
    assert "is not a run in" in capsys.readouterr().err


def test_a_chain_whose_networks_differ_is_refused_before_its_first_run(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tiny("encoding.num_steps=4", "depth=d14")
    second = tiny("encoding.num_steps=2", "init_from='same encoding.num_steps=4 depth=d14'")
    assert second.init_from == first.run_id
    with pytest.raises(UserError, match=r"depth\.num_layers is 14 there and 8 here; type depth.num_layers=14"):
        source_of(second, {first.run_id: first})
    stages = in_stages([second, first])
    assert stages == [[first], [second]]
    line = ["train", "-m", *TINY, "depth=d14,d8", "init_from='same depth=d14 init_from=null',null"]
    assert main.main(line) == 2
    assert "depth.num_layers is 14 there and 8 here" in capsys.readouterr().err
    assert not stored_runs([])


def test_a_source_that_failed_fails_what_starts_from_it_with_a_reason(
    output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = train.run

    def failing(config: ExperimentConfig, **given: object) -> object:
        return 1 / 0 if config.num_steps == 4 else fit(config, echo=False)

    monkeypatch.setattr(train, "run", failing)
    words = [word for word in TINY if not word.startswith("neuron")]
    assert main.main(["train", "-m", *words, "experiment=steps_4,steps_4_2", "trainer.test=false"]) == 1
    said = capsys.readouterr().err
    assert "failed encoding.num_steps=4" in said and "failed encoding.num_steps=2" in said and "init_from=" in said
