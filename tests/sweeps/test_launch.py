"""A multirun that its launcher gives up, or that cannot be launched at all; tests/sweeps/test_slurm.py has the real thing."""

from __future__ import annotations

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig
from rich.console import Console

from snn_exp.cli import main
from snn_exp.config import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.files import Unreadable, write_json
from snn_exp.runs.folder import RunFolder
from snn_exp.sweeps import launch
from snn_exp.training import train
from tests import stored

TINY = ("network.width=4", "logger=none", "neuron=s2nn", "trainer.max_epochs=1", "optim.batch_size=128")


@pytest.mark.parametrize(
    ("launcher", "package", "extra"),
    [("submitit_slurm", "hydra-submitit-launcher", "slurm"), ("ray", "hydra-ray-launcher", "ray")],
)
def test_a_launcher_without_its_package_is_refused_before_anything_starts(
    launcher: str, package: str, extra: str, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    if find_spec("hydra_plugins.hydra_ray_launcher" if launcher == "ray" else "hydra_plugins.hydra_submitit_launcher"):
        pytest.skip(f"{package} is installed")
    sentence = (
        f"hydra/launcher={launcher} needs the package {package}, which is not installed; type pip install "
        f"'snn-exp[{extra}]'"
    )
    assert main.main(["train", "-m", "seed=0,1", f"hydra/launcher={launcher}"]) == 2
    assert capsys.readouterr().err == f"snn-exp: {sentence}\n"
    with pytest.raises(UserError) as refusal:  # as a study asks for it
        launch.train_all([compose.compose(TINY)], Console(), [f"hydra/launcher={launcher}"])
    assert str(refusal.value) == sentence
    assert not output.exists()


def test_slurm_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "launcher_of", lambda *_: compose.Launcher("submitit_slurm", {}, "nowhere"))
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(
        UserError, match="needs Slurm, and there is no sbatch here; type the command where you submit jobs"
    ):
        launch.train_all([compose.compose(TINY)], Console())


def test_when_the_launcher_gives_up_it_is_said_with_every_run_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [compose.compose([*TINY, f"seed={seed}"]) for seed in range(3)]

    def give_up(arguments: list[str], job: object) -> None:
        train.run(configs[0], echo=False)
        RunFolder.of(configs[1]).begin(configs[1], {})
        raise RuntimeError("a worker died")

    monkeypatch.setattr(launch, "run_hydra", give_up)
    failures = launch.train_all(configs, Console())
    said, _, trace = failures[0].removesuffix(")").partition(" (log: ")
    assert said == "the launcher basic gave up: a worker died" and "in give_up" in Path(trace).read_text()
    assert failures[1] == f"failed {configs[1].label}: it was stopped before it finished (log: {trace})"
    assert failures[2] == f"failed {configs[2].label}: it was not started (log: {trace})" and len(failures) == 3
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_a_sweep_is_not_composed_a_second_time_before_its_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[object] = []
    compose_job = ConfigLoaderImpl.load_sweep_config
    monkeypatch.setattr(
        ConfigLoaderImpl, "load_sweep_config", lambda *args, **kw: composed.append(0) or compose_job(*args, **kw)
    )
    counts: list[int] = []
    monkeypatch.setattr(launch, "finish", lambda config: counts.append(len(composed)))
    launch.train_all([compose.compose([*TINY, f"seed={seed}"]) for seed in range(4)], Console())
    assert counts == [1, 2, 3, 4], "each by its job alone"


CRASHING = ("train", "-m", "logger=none", "residual=none,pre", "optim.batch_size=32,128", "optim.lr=0.001,0.002")


def crash(config: ExperimentConfig, **_: object) -> None:
    """Stand in for training: every run of batch size 32 crashes, before or behind its first words."""
    folder = RunFolder.of(config)
    if config.optim["batch_size"] == 32:
        if config.optim["lr"] == 0.002:
            folder.begin(config, {})
            (folder.path / "train.log").write_text("epoch 1/1\n")
        raise ValueError("odd shapes")
    stored.store_of(config)


def crashing_job(cfg: DictConfig) -> None:
    """Do a job in which some runs crash, in whatever process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "run", crash)
        job(cfg)


job = launch._job


JOBLIB = pytest.param(("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), marks=pytest.mark.killed)


@pytest.mark.parametrize("launcher", [(), JOBLIB])
def test_every_cell_that_fails_is_named_by_what_varies_with_a_log_of_its_error_and_the_others_go_on(
    launcher: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    monkeypatch.setattr(launch, "_job", crashing_job)
    assert main.main([*CRASHING, *launcher]) == 1
    said = capsys.readouterr()
    failed = re.findall(r"^snn-exp: failed (.*): ValueError: odd shapes \(log: (.*)\)$", said.err, re.MULTILINE)
    assert [name for name, _ in failed] == [
        f"residual={residual} optim.lr={lr} optim.batch_size=32 seed=0"
        for residual in ("none", "pre")
        for lr in (0.001, 0.002)
    ], said.err
    assert len({log for _, log in failed}) == 4
    assert all('raise ValueError("odd shapes")' in Path(log).read_text() for _, log in failed)
    assert len(list(output.glob("runs/*/result.json"))) == 4, "the others went on"


def test_what_failed_in_an_earlier_sweep_is_not_given_as_the_reason_of_today(
    monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    config = compose.compose(TINY)
    RunFolder.of(config).fail("ValueError: of yesterday", "trace")
    os.utime(RunFolder.of(config).path / "failure.json", (0, 0))
    monkeypatch.setattr(launch, "run_hydra", lambda *_: None)
    assert launch.train_all([config], Console()) == [f"failed {config.label}: it was not started"]


def test_a_run_that_is_trained_but_could_not_be_tested_has_failed(
    monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    config = compose.compose(["logger=none"])
    stored.store(acc=None)
    monkeypatch.setattr(launch, "run_hydra", lambda *_: RunFolder.of(config).fail("ValueError: odd", "trace"))
    (failure,) = launch.train_all([config], Console())
    assert failure.startswith(f"failed {config.label}: ValueError: odd (log: ")


def test_a_job_writes_where_its_command_was_given(monkeypatch: pytest.MonkeyPatch, output: Path) -> None:
    found: list[str] = []

    def look(config: ExperimentConfig, **_: object) -> None:
        found.append(os.environ["SNN_EXP_OUTPUT"])

    monkeypatch.chdir(output.parent)
    monkeypatch.setenv("SNN_EXP_OUTPUT", "out")
    monkeypatch.setattr("snn_exp.training.job.run_or_store_failure", look)
    launch.train_all([compose.compose(TINY)], Console())
    assert found == [str(output)] and os.environ["SNN_EXP_OUTPUT"] == "out"


def test_the_runs_of_a_sweep_come_back_as_they_were_handed_over(tmp_path: Path) -> None:
    config = compose.compose(["logger=none"])
    handed = {f"run_{config.run_id}": config.to_plain()}
    write_json(tmp_path / "runs.json", handed)
    assert launch.read_handed_over(tmp_path / "runs.json") == handed


def test_a_sweeps_hand_over_that_is_none_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "runs.json", {"run_0123456789": {"neuron": {}}})
    with pytest.raises(Unreadable, match=r"is not the runs of a sweep \(run_0123456789\.dataset: is missing\)"):
        launch.read_handed_over(tmp_path / "runs.json")
