"""Tables of results: what makes a row, what stands in it."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from snn_exp.config.compose import compose
from snn_exp.config.experiment import EnergyConfig
from snn_exp.metrics.energy import DEFAULT_PROFILE, energy_pj, price_list, with_energy
from snn_exp.reporting import terminal
from snn_exp.reporting.comparison import of_sweep
from snn_exp.reporting.summary import summary
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Result
from snn_exp.runs.store import StoredRun


def made(*overrides: str, acc: float = 0.9, status: str = "done") -> Result:
    config = compose(overrides)
    metrics = {"test/acc": acc, "val/acc": acc, "test/firing_rate": 0.1, "params": 10, "macs_dense": 1000}
    return Result(config.run_id, status, config.to_plain(), metrics if status == "done" else {"macs_dense": 1000},
                  1.0, 1.0, "now", 0, "f")  # fmt: skip


def drawn(results: list[Result], profile: EnergyConfig = DEFAULT_PROFILE, width: int = 200) -> str:
    runs = [StoredRun(RunFolder(Path("nowhere") / r.run_id), r.status, r.config, r) for r in results]
    compared = of_sweep(runs, profile)
    console = Console(width=width, record=True, file=io.StringIO())
    terminal.show(compared, console)
    return console.export_text() + terminal.outcome(compared)


def lines_with(text: str, word: str) -> list[str]:
    return [line for line in text.splitlines() if word in line and "│" in line]


def cells_of(text: str, first: str) -> dict[str, str]:
    """Heading -> cell of the one line of a table whose name begins with a word."""
    (heads,) = {line for line in text.splitlines() if "┃" in line}
    (row,) = [line for line in lines_with(text, first) if line.split("│")[1].strip().startswith(first)]
    headings, cells = ([cell.strip() for cell in line.split(bar)] for line, bar in ((heads, "┃"), (row, "│")))
    return {heading: cell for heading, cell in zip(headings, cells, strict=True) if heading}


def test_seeds_share_a_row_with_mean_sd_and_n() -> None:
    text = drawn([made("neuron=lif", f"seed={s}", acc=a) for s, a in enumerate((0.8, 0.9, 1.0))])
    (row,) = lines_with(text, "lif")
    assert "90.00 ± 10.00" in row
    assert " 3 " in row


def test_what_differs_makes_a_row_and_what_does_not_is_not_shown() -> None:
    text = drawn([made("neuron=lif"), made("neuron=s2nn")])
    assert len(lines_with(text, "lif")) == len(lines_with(text, "s2nn")) == 1
    assert "residual" not in text and "surrogate" not in text


@pytest.mark.parametrize(
    "axis", ["surrogate=atan,sigmoid", "synapse=identity,alpha", "neuron.tau=2,3", "optim.lr=0.1,0.2"]
)
def test_runs_that_differ_in_anything_never_share_a_row(axis: str) -> None:
    key, _, values = axis.partition("=")
    text = drawn(
        [made("neuron=lif", f"{key}={value}", acc=a) for value, a in zip(values.split(","), (0.2, 0.6), strict=True)]
    )
    assert "20.00" in text and "60.00" in text
    assert key in text


def test_n_counts_the_runs_that_have_the_metric_and_the_others_are_named() -> None:
    tested, untested = made("neuron=lif", acc=0.9), made("neuron=lif", "seed=1", "trainer.test=false", acc=0.7)
    untested = dataclasses.replace(untested, metrics={k: v for k, v in untested.metrics.items() if k != "test/acc"})
    nan = dataclasses.replace(untested, metrics={**untested.metrics, "test/acc": math.nan})
    for without in (untested, nan):
        text = drawn([tested, without])
        assert cells_of(text, "lif")["test/acc %"] == "90.00" and cells_of(text, "lif")["n"] == "1"
        assert f"test/acc: 1 run ended without it and is left out: {without.run_id}" in text


def test_a_sweep_without_tests_is_compared_on_validation_data() -> None:
    found = []
    for seed, acc in enumerate((0.8, 0.9)):
        run = with_counts(made("neuron=lif", f"seed={seed}", "trainer.test=false", acc=acc), "val")
        metrics = {k: v for k, v in run.metrics.items() if not k.startswith("test/")} | {"val/firing_rate": 0.25}
        found.append(dataclasses.replace(run, metrics=metrics))
    text = drawn(found, PROFILE)
    cells = cells_of(text, "lif")
    assert cells["val/acc %"] == "85.00 ± 7.07" and cells["firing rate"] == "0.250 ± 0.000"
    assert cells["energy nJ"] == "0.7 ± 0.0" and "one validation sample" in " ".join(text.split())
    assert text.count("val/acc %") == 1


def test_a_sweep_of_which_all_runs_diverged_has_its_table() -> None:
    text = drawn([made("neuron=lif", f"seed={seed}", status="diverged") for seed in (0, 1)])
    assert cells_of(text, "lif")["n"] == "0 (2 of 2 diverged)"
    assert "digits: no run has ended with val/acc." in text


def test_a_narrow_terminal_shows_what_there_is_room_for_and_names_the_rest() -> None:
    runs = [with_counts(made(f"neuron={name}", f"seed={seed}")) for name in ("lif", "plif") for seed in (0, 1)]
    wide, narrow = drawn(runs), drawn(runs, width=80)
    assert "Without room" not in wide and all(len(line) <= 80 for line in narrow.splitlines() if "│" in line)
    assert "Without room at 80 columns: fit, CPU s; AC; MAC." in " ".join(narrow.split())
    kept = cells_of(narrow, "plif")
    assert {"runs", "test/acc %", "n"} <= kept.keys() and "MAC" not in kept
    assert kept.items() <= cells_of(wide, "plif").items(), "what is shown is what the wide table shows"


def test_execution_makes_no_row() -> None:
    text = drawn([made("neuron=lif"), made("neuron=lif", "seed=1", "trainer.num_threads=2", "logger=none")])
    assert len(lines_with(text, "lif")) == 1


def test_diverged_runs_are_counted_and_not_averaged() -> None:
    text = drawn([made("neuron=lif", acc=0.9), made("neuron=lif", "seed=1", status="diverged")])
    (row,) = lines_with(text, "lif")
    assert "90.00" in row and "±" not in row.partition("90.00")[2].partition("│")[0]
    assert "1 of 2 diverged" in row


# 1000 additions of 3000 operations, 200 of them of signs and binary weights, and 100 + 10 + 20 + 5 multiplications
COUNTS = {"ac": 1000, "xnor": 200, "mac": 100, "filter_mac": 10, "norm_mac": 20, "neuron_updates": 5, "dense": 3000,
          "ac_trained": 0, "xnor_trained": 0, "mac_trained": 1000, "filter_mac_trained": 8, "norm_mac_trained": 20}  # fmt: skip
PROFILE = EnergyConfig(name="mine", mac_pj=2.0, ac_pj=0.5, xnor_fj=10.0)


def with_counts(result: Result, split: str = "test") -> Result:
    counts = {f"{split}/synops_{name}": float(count) for name, count in COUNTS.items()}
    return dataclasses.replace(result, metrics={**result.metrics, **counts})


def test_energy_is_counts_times_constants() -> None:
    metrics = with_counts(made()).metrics
    assert energy_pj(metrics, "test", PROFILE) == pytest.approx(
        {"weights": 2 * 100 + 0.5 * 800 + 0.01 * 200, "filters": 20, "norms": 40, "neurons": 10, "memory": 0}
    )
    assert energy_pj(metrics, "test", PROFILE, "_trained") == pytest.approx(
        {"weights": 2 * 1000, "filters": 16, "norms": 40, "neurons": 10, "memory": 0}
    )


def test_memory_is_a_weight_and_an_accumulator_an_operation_and_a_state_a_multiplication() -> None:
    metrics = with_counts(made()).metrics
    aware = dataclasses.replace(PROFILE, weight_pj=7.0, state_pj=3.0)
    found = energy_pj(metrics, "test", aware)
    words = 100 + 800 + 200 / 32  # multiplications, additions, and 32 signs a word
    assert found.pop("memory") == pytest.approx(7 * words + 3 * 2 * words + 3 * 2 * (10 + 20 + 5))
    compute = energy_pj(metrics, "test", PROFILE)
    assert found == {part: pj for part, pj in compute.items() if part != "memory"}, (
        "memory is added and changes nothing"
    )
    assert energy_pj(metrics, "test", aware, "_trained")["memory"] == pytest.approx(13 * 1000 + 6 * (8 + 20 + 5))
    assert price_list(aware) == (
        "mine: MAC 2 pJ, AC 0.5 pJ, XNOR 10 fJ; weight read 7 pJ, accumulator or state read or written 3 pJ, 32 bits "
        "each, nothing reused"
    )


def test_the_memory_profile_prices_what_any_run_has_counted() -> None:
    profile = compose(["energy=h45_fp32_memory"]).energy
    spikes = {**with_counts(made()).metrics, "test/synops_xnor": 0.0, "test/synops_mac": 0.0}
    real = {**spikes, "test/synops_ac": 0.0, "test/synops_mac": 1000.0}
    found = [energy_pj(metrics, "test", profile) for metrics in (spikes, real)]
    assert [one["weights"] for one in found] == pytest.approx([900, 4600])
    # 50 pJ per weight out of 1 MiB, 5 pJ per state out of 8 KiB
    assert [one["memory"] for one in found] == pytest.approx([60 * 1000 + 10 * 35] * 2)


def test_derived_energies_are_of_the_test_set_and_the_dense_one_multiplies_everything() -> None:
    found = with_energy(with_counts(made()).metrics, PROFILE)
    assert found["test/energy_pj"] == pytest.approx(602 + 20 + 40 + 10)
    assert found["test/energy_dense_pj"] == pytest.approx(2 * 3000 + 20 + 40 + 10)
    for uncounted in (made(), with_counts(made(), "val"), made(status="diverged")):
        assert with_energy(uncounted.metrics, PROFILE) == uncounted.metrics


def test_the_comparison_has_operations_and_energy_of_the_runs_that_have_counted() -> None:
    counted, other = with_counts(made("neuron=lif")), made("neuron=s2nn")
    text = drawn([counted, made("neuron=lif", "seed=1", status="diverged")], PROFILE)
    cells = cells_of(text, "lif")
    assert [cells[heading] for heading in ("AC", "MAC", "energy nJ")] == ["1,000", "135", "0.7"], (
        "602 + 20 + 40 + 10 pJ"
    )
    assert "mine: MAC 2 pJ, AC 0.5 pJ, XNOR 10 fJ; compute only, no memory traffic" in " ".join(text.split())
    assert cells_of(drawn([counted, other]), "s2nn")["energy nJ"] == "-"
    assert "energy nJ" not in drawn([other]) and "MAC" not in cells_of(drawn([other]), "s2nn")


def test_the_summary_says_energy_with_its_constants_and_what_they_leave_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    lines = summary(with_counts(made(), "val"), "snn-exp train", PROFILE).splitlines()
    (energy,) = [line for line in lines if line.startswith("  energy")]
    assert energy.split(maxsplit=1)[1] == (
        "672.0 pJ per sample (weights 602.0 pJ, filters 20.0 pJ, norms 40.0 pJ, neurons 10.0 pJ), AC 1,000, MAC 135; "
        "mine: MAC 2 pJ, AC 0.5 pJ, XNOR 10 fJ; compute only, no memory traffic"
    )
    (trained,) = [line for line in lines if line.startswith("  as trained")]
    assert "2.1 nJ per sample" in trained and "AC 0, MAC 1,033" in trained
    assert "pJ" not in summary(made(), "snn-exp train")


def test_the_summary_of_a_run_can_be_pasted_and_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    result: Any = made("neuron=lif", acc=0.9)
    text = summary(result, "snn-exp train neuron=lif")
    assert "90.00 %" in text and "snn-exp train neuron=lif" in text and result.run_id in text
