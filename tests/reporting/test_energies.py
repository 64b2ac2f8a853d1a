"""The table of the three energies: of which runs, whose E3, and where there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.metrics.data_movement import three_energies
from snn_exp.reporting import energies
from snn_exp.reporting.comparison import Comparison, of_runs
from snn_exp.runs.store import stored_runs
from tests.metrics.test_data_movement import COUNTED
from tests.stored import store

PROFILE = compose(["energy=h45_fp32_onchip"]).energy
QRELU = ("neuron=qrelu", "neuron.bits=3")  # four steps of a spike are 0 to 4, which are three bits


def counted(*overrides: str, work: float = 1.0, inside: float = 1.0, dense: float = 1.0) -> dict[str, float]:
    """Store a run with what data movement is of: `inside` times as many operations of inputs that are not 0.

    `dense` times as many of all inputs.
    """
    folder = store(*overrides, work=work)
    path = folder.path / "result.json"
    found = json.loads(path.read_text())
    more = {f"test/synops_{name}": count for name, count in COUNTED.items()}
    more["test/synops_effective_once"] = 100 + 1000 * inside
    more["test/synops_dense_once"] = 200 + 4000 * dense
    found["metrics"] |= more
    path.write_text(json.dumps(found))
    metrics: dict[str, float] = found["metrics"]
    return metrics


def compared(energy: str = "h45_fp32_onchip") -> Comparison:
    profile = compose([f"energy={energy}"]).energy
    return of_runs(stored_runs([]), metric="test/acc", by=["neuron"], profile=profile, title="t")


def nj(energy: Mapping[str, float]) -> str:
    return f"{sum(energy.values()) / 1e3:.{0 if sum(energy.values()) >= 1e5 else 1}f}"


def lines(found: Comparison) -> dict[str, dict[str, str]]:
    (panel,) = found.panels
    made = energies.table(found, panel)
    assert made is not None
    headings, rows = made
    return {row[0].text: dict(zip(headings, (entry.text for entry in row), strict=True)) for row in rows}


def test_e3_is_that_of_the_trained_network_of_equal_bits() -> None:
    lif, twin = counted("neuron=lif"), counted(*QRELU, inside=0.5)
    of = {name: three_energies(m, "test", PROFILE, compose([*words, "logger=none"]))
          for name, m, words in (("lif", lif, ["neuron=lif"]), ("qrelu", twin, QRELU))}  # fmt: skip
    found = lines(compared())
    assert found["lif"]["E3 of"] == "qrelu, trained" and found["qrelu"]["E3 of"] == "itself"
    zeros = nj(of["qrelu"].with_zeros)
    assert found["lif"]["E3, zeros skipped, nJ"] == found["qrelu"]["E3, zeros skipped, nJ"] == zeros
    assert nj(of["lif"].with_zeros) != zeros, "its own count is another"
    assert found["lif"]["E2 nJ"] == nj(of["lif"].moved)
    ratio = sum(of["lif"].moved.values()) / sum(of["qrelu"].with_zeros.values())
    assert found["lif"]["E2 / E3, zeros skipped"] == f"{ratio:#.3g}"
    assert (found["lif"]["bits"], found["lif"]["bits of weights"]) == ("3", "32")
    assert found["lif"]["break-even rate"] == f"{of['lif'].break_even:.3f}"


def test_where_any_rate_breaks_even_it_says_so() -> None:
    counted("neuron=s2nn")
    counted("neuron=lif", dense=10.0)
    found = lines(compared())
    assert found["lif"]["break-even rate"] == "any" and found["lif"]["firing rate"] == "0.100"
    assert 0 < float(found["s2nn"]["break-even rate"]) < 1


@pytest.mark.parametrize(
    "other", [["neuron.bits=2"], ["neuron.bits=3", "weight_quant=int"], ["neuron.bits=3", "network.width=8"]]
)
def test_with_other_bits_weights_or_layers_it_is_no_twin(other: list[str]) -> None:
    lif = counted("neuron=lif")
    counted("neuron=qrelu", *other, inside=0.5)
    (found,) = (row for name, row in lines(compared()).items() if "lif" in name)
    assert found["E3 of"] == "its own count"
    own = three_energies(lif, "test", PROFILE, compose(["neuron=lif", "logger=none"]))
    assert found["E3 nJ"] == nj(own.quantized)


def test_there_is_no_table_without_prices_of_movement_or_without_counts() -> None:
    store("neuron=lif")
    found = compared()
    assert energies.table(found, found.panels[0]) is None, "stored before the counts were"
    counted("neuron=relu")
    lif = lines(compared())["lif"]
    assert lif["E2 nJ"] == lif["E2 / E3"] == "-" and lif["E1 nJ"] != "-"
    found = compared("h45_fp32")
    assert energies.table(found, found.panels[0]) is None, "compute alone"


def test_files_of_a_report_have_the_table_where_its_profile_prices_movement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    counted("neuron=lif")
    asked = ["report", "neuron=lif", "--format", "html,md,tex"]
    assert main.main([*asked, "--energy", "h45_fp32_onchip"]) == 0
    folder = tmp_path / "reports" / "neuron=lif_energy=h45_fp32_onchip"
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text()
        assert energies.TITLE in text and "its own count" in text and "a bit of a weight 1.5625 pJ" in text
    assert "tab:0:energy" in (folder / "report.tex").read_text()
    assert main.main(asked) == 0
    assert energies.TITLE not in (tmp_path / "reports" / "neuron=lif" / "report.md").read_text()


def test_a_profile_that_is_none_and_one_for_a_study_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    store("neuron=lif")
    assert main.main(["report", "neuron=lif", "--energy", "h45_fp32_onchp"]) == 2
    assert "h45_fp32_onchp" in capsys.readouterr().err
    assert main.main(["report", "precision", "--energy", "h45_fp16"]) == 2
    assert "study precision is priced with energy=h45_fp32, which its study.yaml says" in capsys.readouterr().err
