"""Plugins: what is wrong with one is said in a sentence; the page on adding a part works step by step."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from snn_exp import plugins
from snn_exp.cli import main, new
from snn_exp.errors import UserError

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "adding.md").read_text()
RUN_ALL = """
import shlex, sys
from snn_exp.cli.main import main
for line in sys.argv[1:]:
    print("$", line, flush=True)
    assert main(shlex.split(line)[1:]) == 0, line
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin that is no Python, installed and not imported yet."""
    file = tmp_path / "snn_broken.py"
    file.write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("broken", "snn_broken", plugins.GROUP)
    monkeypatch.setattr(plugins, "installed", lambda: (entry,))
    plugins.load_plugins.cache_clear()
    return file


def test_a_plugin_that_cannot_be_imported_is_named_with_its_error(broken: Path) -> None:
    try:
        with pytest.raises(
            UserError, match=r"the plugin broken \(snn_broken\) cannot be imported: ModuleNotFound"
        ) as e:
            plugins.load_plugins()
        assert "pip uninstall snn_broken" in str(e.value)
    finally:
        plugins.load_plugins.cache_clear()


def test_the_menu_is_read_anew_when_the_source_of_a_plugin_changes(broken: Path) -> None:
    before = plugins.plugins_hash()
    broken.write_text("x = 1")
    assert before is not None and plugins.plugins_hash() not in (before, None)
    assert "snn_broken" not in sys.modules, "no plugin is imported for that"


@pytest.mark.parametrize("kind", new.KINDS)
def test_new_writes_a_package_with_an_entry_point_and_a_test(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["new", kind, "my_part", "--into", str(tmp_path)]) == 0
    folder = tmp_path / "snn_my_part"
    assert f"now: pip install -e {folder}; snn-exp train {kind}=my_part" in capsys.readouterr().out
    files = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*")}
    assert set(files) == {"snn_my_part.py", "tests/test_my_part.py", "pyproject.toml", "README.md"}
    assert 'my_part = "snn_my_part"' in files["pyproject.toml"]
    assert f'contract("{kind}", "my_part")' in files["tests/test_my_part.py"]
    assert f'@{kind.upper()}S.register("my_part")\nclass MyPart(' in files["snn_my_part.py"]
    assert not any(re.search("@[a-zA-Z]+@", text) for text in files.values()), "every blank is filled in"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["neuron", "lif"], "there is a neuron lif already; type another name, such as snn-exp new neuron my_lif"),
        (["nueron", "x"], "There is no kind 'nueron'"),
        (["neuron", "../x"], "'../x' is not a name for a neuron"),
        (["neuron", "class"], "'class' is not a name for a neuron"),
    ],
)
def test_new_refuses_what_it_cannot_write(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["new", *words, "--into", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_new_writes_over_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new.write_package("neuron", "mine", tmp_path)
    assert main.main(["new", "norm", "mine", "--into", str(tmp_path)]) == 2
    assert "snn_mine is there already" in capsys.readouterr().err


def test_new_says_where_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main.main(["new", "norm", "mine", "--into", str(tmp_path / "file")]) == 2
    assert "snn_mine cannot be written (Not a directory); type --into and a folder that can" in capsys.readouterr().err


def process(words: list[str], cwd: Path, installed: Path) -> str:
    """Run a process that finds what is installed in a folder; return what it prints."""
    environment = os.environ | {"PYTHONPATH": f"{installed}{os.pathsep}{ROOT}", "NO_COLOR": "1"}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def install(package: Path, installed: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    process([*pip, "--no-build-isolation", "--upgrade", "--target", str(installed), str(package)], package, installed)


def snn_exp(lines: list[str], cwd: Path, installed: Path) -> str:
    return process([sys.executable, "-c", RUN_ALL, *lines], cwd, installed)


@pytest.mark.plugins
def test_the_page_leads_from_nothing_to_a_report_of_a_neuron_of_ones_own(tmp_path: Path, output: Path) -> None:
    first, second = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    before, after = re.findall(r"^```py\n(.*?)\n```", PAGE, re.DOTALL | re.MULTILINE)
    make, pip, options = first.splitlines()
    test, *train_and_report = second.splitlines()
    (name,) = re.findall(r"new neuron (\w+)", make)
    site, package = tmp_path / "site", tmp_path / f"snn_{name}"
    assert main.main([*make.split()[1:], "--into", str(tmp_path)]) == 0
    assert pip == f"pip install -e snn_{name}", "here with --target, which leaves the environment as it is"
    file = package / f"snn_{name}.py"
    assert file.read_text().count(before) == 1
    file.write_text(file.read_text().replace(before, after))
    install(package, site)
    assert test == f"python -m pytest snn_{name}"
    process([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package)], tmp_path, site)
    chosen = f"neuron={name} dataset=digits_200 depth=d8 trainer.max_epochs=3"
    said = snn_exp(
        [options, *train_and_report, f"snn-exp show {chosen}", f"snn-exp runs neuron={name}", f"snn-exp plan {chosen}"],
        tmp_path, site,
    )  # fmt: skip
    assert "neuron.tau" in said and "A membrane that leaks to 0" in said
    assert "1 done" in said.rpartition("$ snn-exp plan")[2]
    (page,) = (output / "reports").glob("*/report.html")
    assert f">{name}" in page.read_text() or name in page.read_text()
    run_id = re.findall(rf"│ (\w{{10}}) │ done +│ {name} ", said)[0]
    log = (output / "runs" / run_id / "train.log").read_text()
    assert f"neuron={name} (of snn_{name}) has no fused form, so this run takes the plain path" in log
    assert "test acc" in snn_exp([f"snn-exp eval {run_id}"], tmp_path, site)
    assert f"neuron={name}\t" in snn_exp(["snn-exp completion answer train neuron=bou"], tmp_path, site)


@pytest.mark.plugins
@pytest.mark.parametrize("kind", [kind for kind in new.KINDS if kind != "neuron"])
def test_a_new_part_of_every_kind_keeps_its_contract_and_trains(kind: str, tmp_path: Path) -> None:
    package, site = new.write_package(kind, "mine", tmp_path), tmp_path / "site"
    install(package, site)
    asked = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules", str(package)]
    process(asked, tmp_path, site)
    data = [] if kind == "dataset" else ["dataset=digits_200"]
    line = " ".join(["snn-exp train", f"{kind}=mine", *data, "depth=d8 trainer.max_epochs=1 logger=none"])
    said = snn_exp([line], tmp_path, site)
    assert ": done" in said
    assert ("norm=mine (of snn_mine) has no fused form, so it computes by itself" in said) == (kind == "norm")


@pytest.mark.search
def test_a_search_proposes_a_part_of_ones_own(tmp_path: Path) -> None:
    package, site = new.write_package("neuron", "mine", tmp_path), tmp_path / "site"
    install(package, site)
    optuna = Path(importlib.util.find_spec("optuna").origin).parents[1]
    line = "snn-exp search neuron=lif,mine dataset=digits_200 depth=d8 network.width=4 trainer.max_epochs=1 --budget 2"
    said = snn_exp([f"{line} --sampler grid"], tmp_path, Path(f"{site}{os.pathsep}{optuna}"))
    assert re.search(r"neuron=mine +run \w{10}: val/acc", said)
