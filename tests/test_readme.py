"""The commands of README and docs run as they stand; those marked long are composed and planned only."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from snn_exp.cli import main
from snn_exp.config import compose, config_files, schemas
from snn_exp.nn.neurons import NEURONS
from snn_exp.registry import Registry
from snn_exp.studies.spec import load
from tests.data.test_own_files import write_arrays, write_pictures
from tests.data.test_series import pair as write_series

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MAKEFILE = (Path(__file__).parent.parent / "Makefile").read_text()
PAGES = [README, *(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))]
BLOCKS = [block for page in PAGES for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)]
LINES = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
COMMANDS = [(shlex.split(line, comments=True), "# long" in line) for line in dict.fromkeys(LINES)]


def test_the_readme_has_commands_of_both_kinds() -> None:
    assert sum(long for _, long in COMMANDS) >= 3
    assert sum(not long for _, long in COMMANDS) >= 3


@pytest.mark.parametrize("words", [words for words, long in COMMANDS if not long], ids=" ".join)
def test_a_short_command_runs_as_it_stands(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "out"))
    assert words[0] == "snn-exp"
    assert main.main(words[1:]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("words", [words for words, long in COMMANDS if long], ids=" ".join)
def test_a_long_command_is_one_that_could_run(words: list[str], tmp_path: Path) -> None:
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE)
        return
    if words[1] in ("report", "dashboard") and "=" in words[2]:
        assert compose.compose([word for word in words[2:4] if "=" in word and "," not in word])
        return
    if words[1] in ("study", "report", "dashboard"):
        assert load(words[2]).pairs()
        return
    if words[1] == "data":
        assert words[2] in ("check", "fetch") and words[3] in schemas.load()["dataset"]
        return
    if words[1] == "search":  # test_search reads those as well
        assert compose.read_space([word for word in words[2:] if "=" in word and not word.startswith("hydra")]).axes
        return
    assert words[:2] == ["snn-exp", "train"]
    own = {"FOLDER": tmp_path / "own", "FILE.npz": tmp_path / "own.npz"}
    if any(word.endswith("=NAME_TRAIN.ts") for word in words):
        own["NAME_TRAIN.ts"] = write_series(tmp_path / "series")
    if any(word.endswith(("=FOLDER", "=FILE.npz")) for word in words):
        write_pictures(own["FOLDER"])
        write_arrays(own["FILE.npz"])
    overrides = [
        f"{key}={own.get(value, value)}" if sign else key
        for key, sign, value in (word.partition("=") for word in words[2:] if word != "-m")
    ]
    if any(guest in words for guest in config_files.GUESTS):  # test_slurm and test_ray read those as well
        overrides = [word for word in overrides if not word.lstrip("+").startswith("hydra")]
    sweep = compose.read_command(overrides, multirun="-m" in words)
    assert sweep.cells and all(cell.config for cell in sweep.cells)


def test_make_run_trains_what_the_readme_says() -> None:
    sweep = compose.read_command(["experiment=quick"], multirun=False)
    found = {
        (c.config.neuron["name"], c.config.norm["name"], c.config.residual["name"], c.config.depth.num_layers)
        for c in sweep.cells
        if c.config
    }
    assert found == {
        ("relu", "bn", "bireal", 8),
        ("s2nn", "bn", "bireal", 8),
        ("lif", "bn", "pre", 8),
        ("srm", "psp", "pre", 8),
        ("sign", "bn", "bireal", 8),
    }
    assert sweep.multirun and len(sweep.cells) == 15
    assert "snn-exp train experiment=quick" in MAKEFILE.replace("$(BIN)/", "")


def test_the_neuron_of_the_readme_works_as_printed() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scratch: Registry[object] = Registry("neuron", NEURONS.traits)
    (file,) = re.findall(r"In `(\S+)\.py`:\n\n```python", README)
    names: dict[str, object] = dict(vars(importlib.import_module(file.replace("/", "."))))
    names["NEURONS"] = scratch
    exec(compile(code, "README", "exec", dont_inherit=True), names)
    torch = names["torch"]
    neuron = scratch.make({"name": "leakless", "gain": 2.0})
    assert neuron(torch.full((2, 1), 0.3)).flatten().tolist() == [0.0, 1.0]  # type: ignore[attr-defined]
    assert scratch.options()["leakless"].parameter("gain") is not None


def test_the_table_beside_the_peers_is_made_from_what_was_measured() -> None:
    script = [sys.executable, "benchmarks/peers_table.py"]
    made = subprocess.run(script, cwd=ROOT, check=True, capture_output=True, text=True)
    assert textwrap.indent(made.stdout, "  ") in README
