"""A multirun that its launcher gives up, or that cannot be launched at all; tests/test_slurm.py has the real thing."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from snn_exp import cli, compose, launch, train
from snn_exp.config import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.results import RunFolder

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
    assert cli.main(["train", "-m", "seed=0,1", f"hydra/launcher={launcher}"]) == 2
    assert capsys.readouterr().err == f"snn-exp: {sentence}\n"
    with pytest.raises(UserError) as refusal:  # as a study asks for it
        launch.train_all([compose.compose(TINY)], Console(), [f"hydra/launcher={launcher}"])
    assert str(refusal.value) == sentence
    assert not output.exists()


def test_slurm_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "launcher_of", lambda *_: compose.Launcher("submitit_slurm", {}, "nowhere"))
    monkeypatch.setattr(launch.shutil, "which", lambda program: None)
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
    log = RunFolder.of(configs[1]).path / "train.log"
    assert failures[1] == f"failed {configs[1].label}: it was stopped before it ended (log: {log})"
    assert failures[2].startswith(f"failed {configs[2].label}: it was not started") and len(failures) == 3
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_a_job_writes_where_its_command_was_given(monkeypatch: pytest.MonkeyPatch, output: Path) -> None:
    found: list[str] = []

    def look(config: ExperimentConfig) -> None:
        found.append(os.environ["SNN_EXP_OUTPUT"])

    monkeypatch.chdir(output.parent)
    monkeypatch.setenv("SNN_EXP_OUTPUT", "out")
    monkeypatch.setattr(train, "run_or_store_failure", look)
    launch.train_all([compose.compose(TINY)], Console())
    assert found == [str(output)] and os.environ["SNN_EXP_OUTPUT"] == "out"
