"""Reading the test set after every epoch: what it says, and that nothing else comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.errors import UserError
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import read_epochs
from snn_exp.studies import runner
from snn_exp.studies.spec import load
from snn_exp.training.peeking import Peek
from snn_exp.training.train import run

TINY = ["method=s2nn_bn", "network.width=4", "optim.batch_size=128", "trainer.max_epochs=3", "logger=none"]


def test_a_peeked_run_has_the_same_weights_and_test_figures_and_is_another_run_with_the_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    configs = [compose([*TINY, f"trainer.peek={peek}"]) for peek in ("false", "true")]
    plain, peeked = (run(config, echo=False) for config in configs)
    assert plain.run_id == compose(TINY).run_id != peeked.run_id
    folders = [RunFolder.of(config) for config in configs]
    assert folders[0].weights.read_bytes() == folders[1].weights.read_bytes()
    of = peeked.metrics
    assert {key: value for key, value in of.items() if not key.startswith("peek/")} == plain.metrics
    curve = [float(row["peek/test_acc"]) for row in read_epochs(folders[1].metrics_csv)]
    assert len(curve) == 3 and of["peek/best_test_acc"] == pytest.approx(max(curve))
    assert peeked.best_epoch is not None
    assert of["peek/chosen_test_acc"] == pytest.approx(of["test/acc"]) == pytest.approx(curve[peeked.best_epoch])
    assert of["peek/price"] == of["peek/best_test_acc"] - of["peek/chosen_test_acc"] >= 0

    assert main.main(["report", "norm=bn"]) == 0
    assert "1 run with trainer.peek=true left out" in capsys.readouterr().out
    assert main.main(["train", *TINY, "trainer.peek=true"]) == 0
    assert "  peeked       best epoch on the test set " in capsys.readouterr().out


def test_a_resumed_run_goes_on_with_the_epochs_that_it_kept() -> None:
    before = Peek(None)
    before.accuracies = [0.2, 0.9, 0.6]
    after = Peek(None)
    after.load_state_dict(before.state_dict())
    assert after.metrics(2) == {
        "peek/best_test_acc": 0.9, "peek/best_epoch": 1.0, "peek/chosen_test_acc": 0.6,
        "peek/price": pytest.approx(0.3),
    }  # fmt: skip
    assert after.metrics(None) == {}, "a run that diverged has chosen none"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("trainer.test=false", "trainer.peek=true reads the test set after every epoch, and trainer.test=false never"),
        ("trainer.devices=2", "trainer.peek=true is for a run that trains alone, and trainer.devices says otherwise"),
        ("trainer.vectorized_seeds=true", "and trainer.vectorized_seeds says otherwise"),
    ],
)
def test_where_there_is_nothing_to_peek_at_it_is_refused(override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        compose([*TINY, "trainer.peek=true", override])


def test_a_study_takes_no_peeked_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_STUDIES", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    study = {
        "question": "Does it?", "seeds": [0], "budget_core_hours": 1, "base": [*TINY[1:], "trainer.peek=true"],
        "methods": {"bn": ["norm=bn"], "none": ["norm=none"]},
    }  # fmt: skip
    (tmp_path / "tiny" / "study.yaml").write_text(yaml.safe_dump(study))
    with pytest.raises(UserError, match=r"study tiny, main/bn: trainer\.peek=true .* no claim may rest on that"):
        runner.survey(load("tiny"))
