"""What is stored is read through a schema: a bad run is named once, left out, can be removed, and stops no command."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import GROUPS, KEYS, resolve
from snn_exp.runs.folder import DamagedRun, RunFolder
from snn_exp.runs.run_files import StoredConfig
from snn_exp.runs.store import stored_runs
from snn_exp.sweeps import launch
from tests import stored

Tampering = Callable[[Path], Any]


def text(name: str, content: str | bytes) -> Tampering:
    """The file's content is another one."""
    return lambda run: (run / name).write_bytes(content.encode() if isinstance(content, str) else content)


def key(name: str, *path: str, to: Any) -> Tampering:
    """A key of the file has another value; without one, it is not there."""

    def tamper(run: Path) -> None:
        content = json.loads((run / name).read_text())
        inner = content
        for word in path[:-1]:
            inner = inner[word]
        if to is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = to
        (run / name).write_text(json.dumps(content))

    return tamper


def replaced(name: str, make: Callable[[Path], Any]) -> Tampering:
    """Something else is in the file's place."""

    def tamper(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        make(run / name)

    return tamper


DEEP = "[" * 50_000

# what is done to a run -> what is said of it
TAMPERED: dict[str, tuple[Tampering, str]] = {
    "empty result": (text("result.json", ""), "result.json is not a result (no JSON: EOF while parsing a value"),
    "cut result": (text("result.json", '{"run_id": "01234'), "result.json is not a result (no JSON: EOF while parsing"),
    "result of null": (text("result.json", "null"), "result.json is not a result (should be a mapping)"),
    "no UTF-8": (text("result.json", b'{"run_id": "\xff"}'), "result.json is not a result (no JSON: invalid unicode"),
    "deep": (text("result.json", DEEP), "result.json is not a result (no JSON: recursion limit exceeded"),
    "deep config": (
        text("result.json", '{"config": ' + '{"a":' * 50_000),
        "result.json is not a result (no JSON: recursion limit exceeded",
    ),
    "config null": (
        text("result.json", '{"config": null}'),
        "result.json is not a result (run_id: is missing)",
    ),
    "other run": (key("result.json", "run_id", to="0123456789"), "result.json is of run 0123456789"),
    "metrics of words": (
        key("result.json", "metrics", "val/acc", to="high"),
        "result.json is not a result (metrics.val/acc: should be a valid number)",
    ),
    "metrics list": (
        key("result.json", "metrics", to=[1]),
        "result.json is not a result (metrics: should be a mapping)",
    ),
    "NaN accuracy": (
        key("result.json", "metrics", "test/acc", to=float("nan")),
        "result.json is not a result (metrics: test/acc should be a finite number)",
    ),
    "accuracy of 99": (
        key("result.json", "metrics", "test/acc", to=99.0),
        "result.json is not a result (metrics: test/acc should be a fraction from 0 to 1)",
    ),
    "half the counts": (
        key("result.json", "metrics", "test/synops_mac", to=None),
        "result.json is not a result (metrics: test/synops_mac is missing, and others of its kind are there)",
    ),
    "no val/acc": (
        key("result.json", "metrics", "val/acc", to=None),
        "result.json is not a result (metrics: val/acc is missing from a run that is done)",
    ),
    "no neuron": (
        key("result.json", "config", "neuron", to=None),
        "result.json is not a result (config.neuron: is missing)",
    ),
    "path as a name": (
        key("result.json", "config", "dataset", "name", to="a/../../../x"),
        "result.json is not a result (config.dataset.name: should be a name of letters, digits, '_', '.' and '-')",
    ),
    "list in config": (
        key("result.json", "config", "neuron", "tau", to=[[2.0]]),
        "result.json is not a result (config.neuron.tau: should be a finite number, a short text, true, false or null)",
    ),
    "zero layers": (
        key("result.json", "config", "depth", "num_layers", to=0),
        "result.json is not a result (config.depth.num_layers: should be greater than or equal to 1)",
    ),
    "unknown status": (
        key("result.json", "status", to="fine"),
        "result.json is not a result (status: should be 'done' or 'diverged')",
    ),
    "escape code": (
        key("result.json", "split_fingerprint", to="\x1b[2J"),
        "result.json is not a result (split_fingerprint: should have no control characters)",
    ),
    "unknown key": (
        key("result.json", "met\x1brics", to={}),
        r"result.json is not a result (met\x1brics: is not one of its keys)",
    ),
    "other layers": (
        key("result.json", "layers", "init", to={"variance": [1.0], "variance_theory": []}),
        "result.json is not a result (layers: init: variance and variance_theory should have a value for each layer)",
    ),
    "many digits": (
        text("result.json", '{"best_epoch": ' + "9" * 5000 + "}"),
        "result.json is not a result (no JSON: number out of range",
    ),
    "result is a pipe": (replaced("result.json", os.mkfifo), "result.json is a named pipe, not a file"),
    "result is a folder": (replaced("result.json", Path.mkdir), "result.json is a folder, not a file"),
    "result is a loop": (
        replaced("result.json", lambda path: path.symlink_to("result.json")),
        "result.json is a link that leads out of ",
    ),
    "result is outside": (
        replaced("result.json", lambda path: path.symlink_to("/etc/hostname")),
        "result.json is a link that leads out of ",
    ),
    "manifest of null": (text("manifest.json", "null"), "manifest.json is not a manifest (should be a mapping)"),
    "manifest without a config": (
        text("manifest.json", '{"config": null}'),
        "manifest.json is not a manifest (config: should be a mapping)",
    ),
    "manifest is a pipe": (replaced("manifest.json", os.mkfifo), "manifest.json is a named pipe, not a file"),
    "manifest, deep": (text("manifest.json", DEEP), "manifest.json is not a manifest (no JSON: recursion limit"),
    "versions of numbers": (
        key("manifest.json", "versions", "torch", to=2),
        "manifest.json is not a manifest (versions.torch: should be a valid string)",
    ),
    "failure of words": (text("failure.json", "boom"), "failure.json is not a failure (no JSON: expected value"),
    "failure of numbers": (
        text("failure.json", '{"error": 3}'),
        "failure.json is not a failure (error: should be a valid string)",
    ),
    "failure is a loop": (
        replaced("failure.json", lambda path: path.symlink_to("failure.json")),
        "failure.json is a link that leads out of ",
    ),
    "owner of nothing": (
        lambda run: ((run / "owner").mkdir(), (run / "owner" / "owner.json").write_text("")),
        "owner/owner.json is not an owner (no JSON: EOF",
    ),
    "owner of paths": (
        lambda run: ((run / "owner").mkdir(), (run / "owner" / "owner.json").write_text('{"token": "../../x"}')),
        "owner/owner.json is not an owner (token: String should match pattern",
    ),
    "epochs of words": (
        text("metrics.csv", "epoch,val/acc\n0,high\n"),
        "metrics.csv is not a table of epochs (0.val/acc: should be a number)",
    ),
    "epochs without a number": (
        text("metrics.csv", "val/acc\n0.5\n"),
        "metrics.csv is not a table of epochs (0.epoch: is missing)",
    ),
    "epochs, NUL": (
        text("metrics.csv", "epoch,val/acc\n0,\x00\n"),
        "metrics.csv is not a table of epochs (0.val/acc: should be a number)",
    ),
    "epochs, columns": (
        text("metrics.csv", "epoch,val/acc\n0,0.5,0.5\n"),
        "metrics.csv is not a table of epochs (line 2 has 3 values for 2 columns)",
    ),
    "epochs, no UTF-8": (text("metrics.csv", b"epoch\xff\n"), "metrics.csv is not UTF-8 text (byte 5)"),
    "epochs, long field": (
        text("metrics.csv", "epoch," + "x" * 200_000 + "\n"),
        "metrics.csv is not a table of epochs (field larger than field limit",
    ),
    "epochs, pipe": (replaced("metrics.csv", os.mkfifo), "metrics.csv is a named pipe, not a file"),
    "log leads out": (
        lambda run: (run / "train.log").symlink_to("/tmp/a log"),
        "train.log is a link that leads out of ",
    ),
    "checkpoint leads out": (
        lambda run: ((run / "checkpoints").mkdir(), (run / "checkpoints" / "last.ckpt").symlink_to("/tmp/x")),
        "checkpoints/last.ckpt is a link that leads out of ",
    ),
    "folder leads out": (
        lambda run: (shutil.rmtree(run), run.symlink_to("/usr")),
        "it is a link that leads out of ",
    ),
    "folder is a loop": (
        lambda run: (shutil.rmtree(run), run.symlink_to(run.name)),
        "its folder cannot be read (Too many levels of symbolic links)",
    ),
    "folder is a file": (lambda run: (shutil.rmtree(run), run.write_text("")), "it is not a folder"),
    "folder is a pipe": (lambda run: (shutil.rmtree(run), os.mkfifo(run)), "it is not a folder"),
    "newer": (
        key("result.json", "schema_version", to=2),
        "result.json is not a result (a newer snn_exp has written it: its schema_version is above 1)",
    ),
}


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    begun = time.process_time()
    yield
    assert time.process_time() - begun < 60


@pytest.fixture(scope="module")
def tampered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """An output root with one sound run, of seed 0, and one for each tampering; name of the tampering -> run id."""
    root = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_EXP_OUTPUT", str(root))
        plain = compose(["logger=none", "neuron=lif"])
        folder = stored.store_of(plain, split=stored.split_of(plain))
        files = {path.name: path.read_text() for path in folder.path.iterdir()}
        ids = {}
        for seed, (name, (tamper, _)) in enumerate(TAMPERED.items(), 1):
            run_id = dataclasses.replace(plain, seed=seed).run_id
            other = folder.path.with_name(run_id)
            other.mkdir()
            for file, content in files.items():
                changed = content.replace(folder.path.name, run_id).replace('"seed": 0', f'"seed": {seed}')
                (other / file).write_text(changed)
            tamper(other)
            ids[name] = run_id
    return root, ids


@pytest.fixture(autouse=True)
def output(tampered: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tampered[0]))
    return tampered[0]


def named(err: str, ids: dict[str, str]) -> dict[str, str]:
    """name of the tampering -> the line that says that it is left out; each is said once."""
    lines = [line for line in err.splitlines() if line.startswith("snn-exp: left out: run ")]
    assert len(set(lines)) == len(lines)
    by_id = {line.split()[4].rstrip(":"): line for line in lines}
    assert len(by_id) == len(lines), "a run is named once"
    return {name: by_id[run_id] for name, run_id in ids.items() if run_id in by_id}


@pytest.mark.parametrize(
    "command",
    [
        ["runs"],
        ["runs", "list", "neuron=lif"],
        ["runs", "clean", "state=damaged"],
        ["report", "neuron=lif", "--format", "csv,md"],
    ],
    ids=" ".join,
)
def test_each_damaged_run_is_named_once_with_its_reason_and_the_others_are_read(
    command: list[str], tampered: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(command) == 0
    said = capsys.readouterr()
    found = named(said.err, tampered[1])
    assert set(found) == set(TAMPERED)
    for name, (_, reason) in TAMPERED.items():
        assert f": {reason}" in found[name], name
        assert found[name].endswith("`snn-exp runs clean state=damaged` removes it") == (name != "newer")
    assert "\x1b" not in said.err
    if command[0] == "report":
        assert "n = 1" in said.out or "│ 1 " in said.out


@pytest.mark.parametrize(
    "command",
    [
        ["plan", "-m", "neuron=lif", "logger=none", "seed=0,1,2,3"],
        ["train", "neuron=lif", "logger=none", "seed=0"],
        ["train", "-m", "neuron=lif", "logger=none", "seed=0"],
        ["study", "tiny", "--plan"],
    ],
    ids=" ".join,
)
def test_another_runs_folder_stops_no_command(
    command: list[str],
    tampered: tuple[Path, dict[str, str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SNN_EXP_STUDIES", str(tmp_path))
    for name in ("tiny", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.yaml").write_text(
            "question: q\nseeds: [0, 1, 2]\nbudget_core_hours: 1\nbase: [logger=none]\nmethods: {a: [neuron=lif], b: [neuron=if]}\n"
        )
    os.mkfifo(tmp_path / "other" / "results.jsonl")
    assert main.main(command) == (2 if command[0] == "plan" else 0)
    said = capsys.readouterr()
    found = named(said.err, tampered[1])
    if command[0] == "study":
        assert f"left out: {tmp_path}/other/results.jsonl is a named pipe, not a file" in said.err
    if command[0] != "study":
        assert "cut result" in found or command[:2] == ["train", "-m"]
    if command == ["train", "neuron=lif", "logger=none", "seed=0"]:
        assert "done before; nothing to train" in said.out
    if command[0] == "plan":
        assert f"seed=1: run {tampered[1]['empty result']} is damaged: result.json is not a result" in said.err
        assert said.err.count("snn-exp: refused ") == 3 and "1 done" in said.out


@pytest.mark.parametrize("name", TAMPERED)
def test_the_damaged_run_itself_is_refused_in_a_sentence_that_says_what_to_type(
    name: str, tampered: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    run, seed = tampered[1][name], list(TAMPERED).index(name) + 1
    assert main.main(["train", "neuron=lif", "logger=none", f"seed={seed}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"snn-exp: run {run} ") and said.count("\n") == 1
    assert "--rerun" in said and TAMPERED[name][1] in said
    for command in (["eval", run], ["fold", run], ["export", run, "--format", "safetensors"], ["verify", run],
                    ["diff", run, run]):  # fmt: skip
        if command[0] == "diff" and not TAMPERED[name][1].startswith(("result.json", "it", "its")):
            continue  # it needs the result alone
        assert main.main(command) == 2, command
        said = capsys.readouterr().err
        assert said.startswith("snn-exp: ") and said.count("\n") == 1 and run in said, command


def test_a_damaged_cell_of_a_sweep_or_study_is_named_and_nothing_is_written_to_it(
    tampered: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    outside = [compose(["neuron=lif", "logger=none", f"seed={seed}"]) for seed in range(1, 1 + len(TAMPERED))]
    names = {config.run_id: f"seed={config.seed}" for config in outside}
    said = launch.train_all(outside, Console(), names=names)
    assert [line.partition(":")[0] for line in said] == [f"failed seed={seed}" for seed in range(1, 1 + len(TAMPERED))]
    for sentence, (_, reason) in zip(said, TAMPERED.values(), strict=True):
        assert reason in sentence and "--rerun" in sentence
    assert launch.finish(outside[0]) is None
    assert launch.why_open("seed=1", RunFolder.of(outside[0])) == said[0]


def test_rerun_puts_a_damaged_run_aside_whatever_it_is(tampered: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    for name, run_id in tampered[1].items():
        folder = RunFolder(tampered[0] / "runs" / run_id)
        folder.set_aside()
        assert not os.path.lexists(folder.path), name
        (aside,) = folder.path.parent.glob(f"{run_id}.kept-*")
        aside.rename(folder.path)
    assert Path("/usr").is_dir()


def test_clean_removes_what_is_damaged_never_follows_a_link_and_goes_on_after_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "out"))
    sound, empty, linked, newer = (stored.store(f"seed={seed}") for seed in range(4))
    (empty.path / "result.json").write_text("")
    (newer.path / "result.json").write_text(
        (newer.path / "result.json").read_text().replace('_version": 1', '_version": 2')
    )
    outside = linked.path.rename(tmp_path / "outside")
    linked.path.symlink_to(outside)
    stuck = tmp_path / "out" / "runs" / "0123456789"
    stuck.write_text("")
    (stuck.parent / "notes").mkdir()
    remove = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path == stuck:
            raise PermissionError(13, "Permission denied")
        remove(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert main.main(["runs", "clean", "state=damaged", "--yes"]) == 1
    said = capsys.readouterr()
    assert f"snn-exp: {stuck} cannot be removed (Permission denied)\n" in said.err
    assert f"skipped in {stuck.parent} (not a run): notes" in said.err
    assert f"removed {empty.path}" in said.out and f"removed {linked.path}" in said.out
    left = {path.name for path in stuck.parent.iterdir()}
    assert left == {sound.path.name, newer.path.name, stuck.name, "notes"}
    assert (outside / "result.json").exists(), "what a link leads to stays"


def test_folders_deep_in_each_other_are_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    folder = stored.store()
    (folder.path / "result.json").write_text("")
    monkeypatch.chdir(folder.path)
    for _ in range(1500):
        Path("d").mkdir()
        Path("d", "file").touch()
        os.chdir("d")
    os.chdir(tmp_path)
    assert main.main(["runs", "clean", "state=damaged", "--yes"]) == 0
    assert not folder.path.exists()


def test_a_folder_that_may_not_be_read_is_one_of_them(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    folder, other = stored.store("seed=0"), stored.store("seed=1")
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path) == folder.path:
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert {run.name: run.state for run in stored_runs()} == {folder.path.name: "damaged", other.path.name: "done"}
    assert "its folder cannot be read (Permission denied)" in capsys.readouterr().err


# --- the schemas ----------------------------------------------------------------------------------


def test_each_file_of_a_run_comes_back_as_it_was_written(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    made = compose(["logger=none"])
    folder = RunFolder.of(made)
    folder.begin(made, {"cores": 2, "gpu": None})
    manifest = folder.manifest()
    assert manifest == json.loads((folder.path / "manifest.json").read_text())
    assert resolve(manifest["config"]) == made
    folder.fail("it broke", "trace\n")
    assert folder.contents().failure == "it broke"
    result = stored.store("seed=1").result()
    assert result is not None
    finished = dataclasses.replace(
        result, run_id=made.run_id, config=made.to_plain(), operations={"val": {"stem": {"ac": 1.0}}},
        metrics={**result.metrics, "val/loss": float("inf")}, layers={"init": {"variance": [float("nan")]}},
    )  # fmt: skip
    folder.finish(finished)
    again = folder.result()
    assert again is not None and repr(again) == repr(finished)


def test_the_schema_of_a_config_names_every_group() -> None:
    assert set(StoredConfig.model_fields) == {*GROUPS, *KEYS}


def test_a_refusal_of_a_damaged_run_comes_back_from_another_process() -> None:
    import pickle

    refusal = DamagedRun("0123456789", "it is not a folder")
    assert str(pickle.loads(pickle.dumps(refusal))) == str(refusal)
