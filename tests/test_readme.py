"""The commands and Python blocks of README and docs run as they stand; commands marked long are composed and planned only."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from snn_exp.cli import main
from snn_exp.config import compose, config_files, schemas
from snn_exp.nn.neurons import NEURONS
from snn_exp.registry import Registry
from snn_exp.studies.spec import load
from tests.data.test_own_files import write_arrays, write_pictures
from tests.data.test_series import pair as write_series

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text()
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
}


def blocks(language: str, page: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


LINES = [
    line for page in PAGES.values() for block in blocks("bash", page) for line in block.splitlines() if line.strip()
]
COMMANDS = [
    (list(words), long)
    for words, long in dict.fromkeys((tuple(shlex.split(line, comments=True)), "# long" in line) for line in LINES)
]
PYTHON = [name for name, page in PAGES.items() if blocks("python", page) and name != "docs/adding.md"]
ONE_RUN = ["method=s2nn_bn", "trainer.max_epochs=2", "logger=none"]  # the one that the pages train and look at


@pytest.fixture(scope="module", autouse=True)
def output(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The output folder of all pages, so that what several of them show is trained once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_EXP_OUTPUT", str(tmp_path_factory.mktemp("pages")))
        yield Path(os.environ["SNN_EXP_OUTPUT"])


@pytest.fixture
def run_id(capsys: pytest.CaptureFixture[str]) -> str:
    assert main.main(["train", *ONE_RUN]) == 0
    (found,) = re.findall(r"^run (\w+): done", capsys.readouterr().out, re.MULTILINE)
    return found


def test_the_readme_fits_on_a_front_door() -> None:
    assert len(README.splitlines()) <= 110


def test_the_readme_has_commands_of_both_kinds() -> None:
    assert sum(long for _, long in COMMANDS) >= 3
    assert sum(not long for _, long in COMMANDS) >= 3


@pytest.mark.parametrize("page", PAGES)
def test_a_link_to_a_file_finds_it(page: str) -> None:
    links = re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", PAGES[page])
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("words", [words for words, long in COMMANDS if not long], ids=" ".join)
def test_a_short_command_runs_as_it_stands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert words[0] == "snn-exp"
    assert main.main(words[1:]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("words", [words for words, long in COMMANDS if long], ids=" ".join)
def test_a_long_command_is_one_that_could_run(words: list[str], tmp_path: Path) -> None:
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE)
        return
    if words[0] == "pip":
        extras = {extra for word in words for listed in re.findall(r"\[(.*)\]", word) for extra in listed.split(",")}
        assert words[1] in ("install", "wheel") and extras <= PYPROJECT["optional-dependencies"].keys()
        return
    if words[1] == "predict":  # test_predict runs those
        assert words[2] == "RUN"
        return
    if words[1] in ("pack", "unpack"):  # test_packing runs those
        assert words[2] in ("RUN", "FILE.zip") or load(words[2]).pairs()
        return
    if words[1] in ("report", "dashboard") and "=" in words[2]:
        assert compose.compose([word for word in words[2:4] if "=" in word and "," not in word])
        return
    if words[1] in ("study", "report", "dashboard"):
        assert load(words[2]).pairs()
        return
    if words[1] == "evidence":  # tests/studies/test_pages.py compares what it writes
        assert words[2:] == []
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


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_of_a_page_runs_as_printed(page: str, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = importlib.import_module("torch")
    names: dict[str, object] = {"pixels": torch.zeros(4, 1, 8, 8)}
    if "network.safetensors" in PAGES[page]:
        assert main.main(["export", run_id, "--format", "safetensors"]) == 0
    monkeypatch.chdir(next((Path(os.environ["SNN_EXP_OUTPUT"]) / "runs" / run_id).glob("export"), ROOT))
    for code in blocks("python", PAGES[page]):
        names.pop("logits", None)
        exec(compile(code.replace('"RUN"', repr(run_id)), page, "exec", dont_inherit=True), names)
        assert names["logits"].shape == (4, 10)  # type: ignore[attr-defined]


def test_the_neuron_of_the_docs_works_as_printed() -> None:
    page = PAGES["docs/adding.md"]
    (code,) = blocks("python", page)
    scratch: Registry[object] = Registry("neuron", NEURONS.traits)
    (file,) = re.findall(r"In `(\S+)\.py`:\n\n```python", page)
    names: dict[str, object] = dict(vars(importlib.import_module(file.replace("/", "."))))
    names["NEURONS"] = scratch
    exec(compile(code, "docs/adding.md", "exec", dont_inherit=True), names)
    torch = names["torch"]
    neuron = scratch.make({"name": "leakless", "gain": 2.0})
    assert neuron(torch.full((2, 1), 0.3)).flatten().tolist() == [0.0, 1.0]  # type: ignore[attr-defined]
    assert scratch.options()["leakless"].parameter("gain") is not None


@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_what_a_page_shows_is_what_the_commands_print(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", *ONE_RUN]) == 0
    assert main.main(["plan", "-m", "neuron=lif,plif", "depth=d8,d20", "seed=0,1,2"]) == 0
    printed = capsys.readouterr().out
    (shown,) = blocks("text", PAGES[page])
    # what was measured differs between machines, and so do the words for what is left out
    exact = re.findall(
        r"^(run \w+: done|runs it: .*|  (?:MACs dense|parameters) .*|\d+ to run|  [a-z ]+  )", shown, re.MULTILINE
    )
    assert len(exact) >= 6 and [line for line in exact if line not in printed] == []


def rows(page: str, neuron: str) -> set[str]:
    return {cell.strip() for line in page.splitlines() if f"| {neuron} |" in line for cell in line.split("|")}


@pytest.mark.parametrize("neuron", ["relu", "s2nn", "lif", "srm", "sign"])
def test_the_short_table_of_the_readme_says_what_the_long_one_says(neuron: str) -> None:
    assert len(rows(README, neuron)) > 6 and rows(README, neuron) <= rows(PAGES["docs/start.md"], neuron)


def test_the_picture_shows_what_the_page_of_its_study_says() -> None:
    page = (ROOT / "studies" / "s2nn_vs_all" / "README.md").read_text()
    drawn = pd.read_csv(DOCS / "pictures" / "accuracy_energy.csv")
    assert len(drawn) == 14
    for of in drawn.to_dict("records"):
        (section,) = re.findall(rf"^### {of['setting']}\n(.*?)(?=^##)", page, re.DOTALL | re.MULTILINE)
        (row,) = re.findall(rf"^\| {of['method']} \|.*", section, re.MULTILINE)
        assert f"{100 * of['test/acc']:.2f} ± {100 * of['sd']:.2f} | {of['n']} |" in row
        assert of["low"] < of["test/acc"] < of["high"]


def test_the_table_beside_the_peers_is_made_from_what_was_measured() -> None:
    script = [sys.executable, "benchmarks/peers_table.py"]
    made = subprocess.run(script, cwd=ROOT, check=True, capture_output=True, text=True)
    assert made.stdout in PAGES["docs/benchmarks.md"]
