"""A method that joins a study afterwards: what it runs, where it is kept, what it may not set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from snn_exp.cli import main
from snn_exp.studies import readme, runner
from snn_exp.studies.joining import own_folder
from snn_exp.studies.results import Ledger
from tests.studies.test_spec import finished, folders, write

__all__ = ["folders"]  # a fixture that every test here uses


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("bn=norm=none", "study tiny has a method bn already; give yours another name, such as my_bn"),
        ("mine", "--method mine has no overrides; type --method mine="),
        ("mine=", "--method mine= has no overrides"),
        ("mine='norm=x", "cannot be read (No closing quotation)"),
        ("Mine=norm=layer", "Mine cannot be the name of a method"),
        ("mine=depth=d20", "method mine may not set depth: in study tiny the methods are compared on equal terms, and "
         "its setting net_d14 sets it for all of them; leave depth=d20 out"),
        ("mine=depth.num_layers=20", "may not set depth.num_layers"),
        ("mine=optim.lr=0.5", "may not set optim.lr: in study tiny"),
        ("mine=trainer.max_epochs=50", "may not set trainer.max_epochs: in study tiny the methods are compared on equal "
         "terms, and it is the same for all of them"),
        ("mine=seed=7", "may not set seed"),
        ("mine=dataset.num_train=9", "may not set dataset.num_train"),
        ("mine=hydra.launcher.n_jobs=2", "says how runs are started; type it outside --method"),
        ("mine=norm", "norm is no override of method mine"),
        ("mine=norm=bm", "did you mean bn"),
        ("mine=norm=none weight_norm=none", "mine is the same network as none of study tiny in setting net_d8 (run "),
    ],
)  # fmt: skip
def test_what_cannot_join_is_refused(
    method: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    assert main.main(["study", "tiny", "--method", method]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "nothing is trained"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--best"], "--method runs a method of your own and neither --best nor --verify"),
        (["optim=sgd"], "optim=sgd would make tiny another study, which no method of your own can join"),
    ],
)
def test_what_does_not_go_with_a_method_of_ones_own(
    flags: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    assert main.main(["study", "tiny", "--method", "mine=norm=layer", *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_a_method_joins_by_an_option_of_a_further_folder_and_is_placed_among_the_committed_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {"settings": {"net_d8": {"overrides": ["depth=d8"]}}, "tuning": None, "seeds": [0, 1]}
    progress = finished(write(tmp_path, **changes))
    study = progress.study
    committed = (study.folder / "results.jsonl").read_bytes()
    before = readme.page(progress)
    mine = tmp_path / "configs" / "norm" / "my_norm.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# wide\ndefaults: [/schema/norm/bn@_here_, _self_]\neps: 0.1\n")
    flags = ["--method", "mine=norm=my_norm", "--config-dir", str(tmp_path / "configs")]
    assert main.main(["study", "tiny", *flags, "--plan"]) == 0
    assert "for mine 0 + 2" in capsys.readouterr().out
    assert main.main(["study", "tiny", *flags]) == 0
    assert "mine (joined" in capsys.readouterr().out
    folder = own_folder(study, "mine")
    rows = Ledger(folder / "results.jsonl").rows.values()
    assert sorted(int(row.result.config["seed"]) for row in rows) == [0, 1]
    assert all(row.result.config["norm"]["eps"] == 0.1 and "test/acc" in row.result.metrics for row in rows)
    page = (folder / "README.md").read_text()
    assert page.startswith("# mine, joined to tiny afterwards") and "- mine: `norm=my_norm`" in page
    assert "\n| mine (joined afterwards) | " in page and "\n| bn | " in page and "\n| none | " in page
    assert (study.folder / "results.jsonl").read_bytes() == committed and readme.page(runner.survey(study)) == before

    mine.rename(tmp_path / "gone.yaml")
    (folder / "method.yaml").write_text("overrides: [norm=bn, norm.eps=0.1]\n")
    shutil.copytree(folder, study.folder / "joined" / "mine")
    sent_in = readme.page(runner.survey(study))
    section = sent_in.partition("\n## Joined afterwards\n")[2].partition("\n\n## ")[0]
    assert "\n| mine (joined afterwards) | " in section
    assert sent_in.replace(f"## Joined afterwards\n{section}\n\n", "") == before, "claims and tables are as they were"
