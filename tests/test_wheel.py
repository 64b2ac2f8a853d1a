"""The wheel: it has all that the package needs, and works from an empty folder where there is no checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from snn_exp.studies import spec

ROOT = Path(__file__).parent.parent
STUDY = """question: Does batch norm help?
base: [dataset=digits_200, trainer.max_epochs=1, depth=d8, network.width=4, logger=none]
methods: {bn: [norm=bn], none: [norm=none]}
seeds: [1, 2]
status: exploratory
budget_core_hours: 1
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(built)


def test_the_wheel_has_every_module_template_kernel_and_config_and_nothing_else(wheel: Path) -> None:
    def files(folder: str) -> set[str]:
        paths = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path.relative_to(ROOT).as_posix() for path in paths}

    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == files("snn_exp") | {f"snn_exp/{name}" for name in files("configs")}
    assert {"snn_exp/py.typed", "snn_exp/nn/kernels/fused.cpp", "snn_exp/cli/templates/neuron.py.txt"} <= held


def test_the_wheel_states_its_command_its_extras_and_its_page(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "snn-exp = snn_exp.cli.main:entry_point" in texts["entry_points.txt"]
    assert {"events", "search", "tensorboard"} <= set(re.findall(r"Provides-Extra: (\S+)", texts["METADATA"]))
    assert "snn-exp train" in texts["METADATA"], "the README is its description"


def test_the_code_of_studies_is_not_taken_for_studies_once_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SNN_EXP_STUDIES", raising=False)
    monkeypatch.setattr(spec, "config_dir", lambda: ROOT / "snn_exp" / "configs")
    assert spec.studies_root() == Path("studies"), "a folder of the one who works here"


@pytest.mark.plugins
def test_from_an_empty_folder_a_wheel_trains_reports_studies_and_takes_a_plugin(wheel: Path, tmp_path: Path) -> None:
    site, here = tmp_path / "site", tmp_path / "empty"
    here.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SNN_EXP", "PYTHONPATH"))}
    environment |= {"PYTHONPATH": str(site), "NO_COLOR": "1"}

    def process(*words: str) -> str:
        done = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def install(package: str) -> None:
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
        process(*pip, "--no-index", "--no-build-isolation", "--upgrade", "--target", str(site), package)

    def snn_exp(line: str) -> str:
        return process(sys.executable, str(site / "bin" / "snn-exp"), *line.split())

    install(str(wheel))
    where = process(sys.executable, "-c", "import snn_exp; print(snn_exp.__file__)")
    assert Path(where).is_relative_to(site), "it is the wheel that is tried, and not the checkout"
    assert re.fullmatch(r"snn-exp \d\S+\n", snn_exp("--version"))
    assert "psp" in snn_exp("options norm")
    tiny = "dataset=digits_200 depth=d8 network.width=4 trainer.max_epochs=1"
    assert "test acc" in snn_exp(f"train {tiny}")
    assert "done" in snn_exp("runs") and (here / "outputs" / "runs").is_dir()
    assert "report.html" in snn_exp("report neuron=lif")
    assert f"there is no study in {here / 'studies'}" in snn_exp("study")
    (here / "mine" / "tiny").mkdir(parents=True)
    (here / "mine" / "tiny" / "study.yaml").write_text(STUDY)
    assert f"written: {here / 'mine' / 'tiny' / 'README.md'}" in snn_exp("study tiny --studies mine")
    snn_exp("new neuron mine")
    install("./snn_mine")
    assert "neuron=mine" in snn_exp("options neuron=mine")
    assert "has no fused form" in snn_exp(f"train neuron=mine {tiny}")
    joined = snn_exp("study tiny --studies mine --method own=neuron=mine hydra/launcher=joblib hydra.launcher.n_jobs=2")
    assert "own (joined afterwards)" in joined, "the workers know the plugin, and the study its method"
