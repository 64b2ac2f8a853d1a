"""A dashboard shows what copies hold, of the runs that were asked for, and is saved once."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.runs import wandb_record
from snn_exp.runs.folder import RunFolder
from snn_exp.training import train
from tests.stored import store
from tests.test_readme import COMMANDS
from tests.training.test_wandb_logger import TINY
from tests.wandb_server import Server


@pytest.fixture(autouse=True)
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    return tmp_path / "out"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    import wandb

    with Server() as server:
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        wandb.teardown()  # it remembers another server
        yield server
    wandb.teardown()


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main.main(["dashboard", *words]) == 2
    return capsys.readouterr().err


def specification(output: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "dashboards" / f"{name}.json").read_text())
    return content


def panels(board: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    sections = board["spec"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: [panel["config"] for panel in section["panels"]] for section in sections}


def test_runs_that_are_not_there_are_refused_before_anything_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    store("neuron=lif")
    assert refusal(capsys, "neuron=relu") == (
        "snn-exp: no run has neuron=relu; there are lif; snn-exp runs lists what is stored\n"
    )
    assert "did you mean neuron?" in refusal(capsys, "nuron=lif")
    assert "There is no study 'psp_dept'" in refusal(capsys, "psp_dept")


def test_a_missing_package_is_named_with_what_to_type(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    store("neuron=lif")
    assert refusal(capsys, "neuron=lif") == (
        "snn-exp: snn-exp dashboard needs the package wandb-workspaces, which is not installed; type pip install "
        "'snn-exp[dashboard]'\n"
    )


@pytest.mark.wandb
def test_runs_of_two_projects_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    store("neuron=lif")
    store("neuron=plif", "logger.project=other")
    assert refusal(capsys, "dataset=digits") == (
        "snn-exp: the runs are in the W&B projects other and snn_exp, and a dashboard shows one; filter them, or train "
        "them with logger.project=other\n"
    )


@pytest.mark.wandb
def test_offline_the_specification_is_written_and_a_line_says_how_to_save_it(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [store("norm=bn", f"depth={depth}", f"seed={seed}").path.name for depth in ("d8", "d20") for seed in (0, 1)]
    store("neuron=plif")
    assert main.main(["dashboard", "neuron=lif"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        f"written: {output}/dashboards/neuron=lif.json; W&B is offline; to save it there, type wandb login and snn-exp "
        f"dashboard neuron=lif"
    )
    assert second.startswith("W&B has no copy of 4 of 4 runs, trained with logger=none: ")
    board = specification(output, "neuron=lif")
    assert board["url"] is None and board["project"] == "snn_exp" and board["displayName"] == "neuron lif"
    (runs,) = board["spec"]["section"]["runSets"]
    (wanted,) = runs["filters"]["filters"]
    assert (wanted["key"]["name"], wanted["op"]) == ("name", "IN") and sorted(wanted["value"]) == sorted(ids)
    assert [key["name"] for key in runs["grouping"]] == ["depth.value.num_layers"], "a line has all seeds of a depth"


@pytest.mark.wandb
def test_every_panel_reads_what_a_copy_holds(output: Path) -> None:
    config = compose([*TINY, "logger=none", "trainer.max_epochs=1"])
    result = train.run(config, echo=False)
    assert main.main(["dashboard", "dataset=digits"]) == 0
    shown = panels(specification(output, "dataset=digits"))
    assert list(shown) == ["Accuracy", "Pareto", "Firing by layer", "Depth"]
    epochs = RunFolder.of(config).epochs()[0].keys()
    layers = {key for row in wandb_record.layer_rows(result.layers) for key in row}
    known = {f"summary:{key}" for key in wandb_record.summary_of(result)} | {"config:depth.value.num_layers"}
    for panel in [panel for section in shown.values() for panel in section]:
        if "yAxis" in panel:
            assert {panel["xAxis"], panel["yAxis"]} <= known, panel
        elif "metricRegex" in panel:
            assert any(re.fullmatch(panel["metricRegex"], key) for key in epochs)
        else:
            assert {panel["xAxis"], *panel["metrics"]} <= (epochs if panel["xAxis"] == "epoch" else layers), panel
    (pareto, _) = shown["Pareto"]
    assert pareto["xAxis"] == "summary:test/energy_pj/h45_fp32" and "no memory traffic" in pareto["chartTitle"]


@pytest.mark.wandb
def test_online_it_is_saved_and_the_next_time_changed(
    output: Path, online: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    store("neuron=lif")
    for views in (1, 1):
        assert main.main(["dashboard", "neuron=lif"]) == 0
        said = capsys.readouterr().out.splitlines()[0]
        assert len(online.views) == views
        board = specification(output, "neuron=lif")
        assert said == f"saved: {board['url']} (as specified in {output}/dashboards/neuron=lif.json)"
        assert board["url"].startswith(f"{online.address}/somebody/snn_exp?nw=")
        (view,) = online.views.values()
        assert view["displayName"] == "neuron lif"
        assert list(panels({"spec": json.loads(view["spec"])})) == ["Accuracy", "Pareto", "Firing by layer", "Depth"]
    online.views.clear()
    assert main.main(["dashboard", "neuron=lif"]) == 0
    assert len(online.views) == 1, "one that somebody has removed is saved anew"


@pytest.mark.wandb
def test_a_server_that_does_not_answer_leaves_the_file(
    output: Path, online: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "2")
    online.stop()
    store("neuron=lif")
    assert main.main(["dashboard", "neuron=lif"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith(f"written: {output}/dashboards/neuron=lif.json; W&B failed (")
    assert said.endswith("); to save it there, type snn-exp dashboard neuron=lif")
    assert specification(output, "neuron=lif")["url"] is None


@pytest.mark.wandb
def test_the_commands_of_the_documentation_run_and_a_study_is_shown_by_the_runs_that_answer_it(output: Path) -> None:
    commands = [words for words, _ in COMMANDS if words[:2] == ["snn-exp", "dashboard"]]
    assert ["snn-exp", "dashboard", "psp_depth"] in commands
    store("neuron=lif")
    assert [main.main(words[1:]) for words in commands] == [0] * len(commands)
    (runs,) = specification(output, "psp_depth")["spec"]["section"]["runSets"]
    (wanted,) = runs["filters"]["filters"]
    lines = (Path(__file__).parents[2] / "studies" / "psp_depth" / "results.jsonl").read_text().splitlines()
    finished = {json.loads(line)["run_id"] for line in lines}
    assert set(wanted["value"]) < finished, "the trials are left out"
