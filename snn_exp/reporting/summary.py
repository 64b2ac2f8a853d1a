"""One run in a few lines that can be pasted into a message. Reads results only; never imports torch."""

from __future__ import annotations

from collections.abc import Mapping

from snn_exp.config.experiment import EnergyConfig, ExperimentConfig, resolve
from snn_exp.errors import UserError
from snn_exp.metrics.data_movement import movement_prices, prices_movement, three_energies
from snn_exp.metrics.energy import DEFAULT_PROFILE, counted_split, energy_pj, joules, multiplications, price_list
from snn_exp.reporting.comparison import measured
from snn_exp.reporting.mean import Mean
from snn_exp.runs.choices import choices
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root
from snn_exp.runs.run_files import Result
from snn_exp.runs.store import stored_results


def summary(result: Result, command: str, profile: EnergyConfig = DEFAULT_PROFILE) -> str:
    """Summarize a run in a few lines that can be pasted into a message."""
    m = result.metrics
    seeds = [r.metrics for r in stored_results() if choices(r.config) == choices(result.config)]
    over_seeds = Mean.of(dict(enumerate(of["test/acc"] for of in seeds if measured(of, "test/acc"))))
    lines = [
        f"run {result.run_id}: {result.status}, {result.duration_s:.1f} s ({result.cpu_s:.1f} s CPU)",
        *(f"  {name:<12} {100 * m[key]:.2f} %" for name, key in _ACCURACIES if key in m),
        *(f"  {name:<12} {m[key]:.3f}" for name, key in _RATES if key in m),
        *_peeked(m),
        f"  {'parameters':<12} {m['params']:,.0f}",
        f"  {'MACs dense':<12} {m['macs_dense']:,.0f} per sample",
    ]
    if split := counted_split([m]):
        lines += [_energy_line(m, split, profile, name, form) for name, form in _FORMS]
        lines += _movement_lines(m, split, profile, resolve(result.config)) if prices_movement(profile) else []
    if result.peak_memory_mib is not None:
        lines.append(f"  {'peak memory':<12} {result.peak_memory_mib:,.0f} MiB")
    if result.compile_s is not None:
        lines.append(f"  {'compiling':<12} {result.compile_s:.1f} s")
    if over_seeds.n > 1:
        lines.append(f"  {'over seeds':<12} test {over_seeds.text(100, 2)} %, n = {over_seeds.n}")
    folder = RunFolder(output_root() / "runs" / result.run_id)
    return "\n".join([*lines, f"  {'folder':<12} {folder.path}", f"  {'again':<12} {command}"])


def _peeked(m: Mapping[str, float]) -> list[str]:
    """Say what choosing the epoch on the test set would have given, where the run read it after every epoch."""
    if "peek/price" not in m:
        return []
    best, chosen, price = (100 * m[f"peek/{key}"] for key in ("best_test_acc", "chosen_test_acc", "price"))
    said = f"best epoch on the test set {best:.2f} %, chosen on validation {chosen:.2f} %: {price:+.2f} points"
    return [f"  {'peeked':<12} {said}"]


def evaluation(
    metrics: Mapping[str, float], profile: EnergyConfig = DEFAULT_PROFILE, config: ExperimentConfig | None = None
) -> str:
    """Format accuracy, firing rates and energy of an evaluation on test data, with a config the three energies too."""
    lines = [f"  {name:<12} {100 * metrics[key]:.2f} %" for name, key in _ACCURACIES if key in metrics]
    lines += [f"  {name:<12} {metrics[key]:.3f}" for name, key in _RATES if key in metrics]
    lines += [_energy_line(metrics, "test", profile, name, form) for name, form in _FORMS]
    if config is not None and prices_movement(profile):
        lines += _movement_lines(metrics, "test", profile, config)
    return "\n".join(lines)


def _movement_lines(m: Mapping[str, float], split: str, profile: EnergyConfig, config: ExperimentConfig) -> list[str]:
    """Return the three energies and their prices, or why there is E1 alone."""
    try:
        found = three_energies(m, split, profile, config).text().splitlines()
    except UserError as reason:
        return [f"  {'three':<12} {reason}"]
    lines = [*found, movement_prices(profile)]
    return [f"  {name:<12} {line}" for name, line in zip(("three", "", ""), lines, strict=True)]


def _energy_line(m: Mapping[str, float], split: str, profile: EnergyConfig, name: str, form: str) -> str:
    parts = energy_pj(m, split, profile, form)
    macs = sum(multiplications(m, split, form).values())
    shown = ", ".join(f"{part} {joules(pj)}" for part, pj in parts.items() if pj)
    prices = "" if form else f"; {price_list(profile)}"
    beside = ""  # counted, and not part of it
    if not form and f"{split}/synops_sums" in m:
        sums, comparisons = m[f"{split}/synops_sums"], m[f"{split}/synops_comparisons"]
        beside = f", beside it {sums:,.0f} sums of streams and {comparisons:,.0f} comparisons"
    return (
        f"  {name:<12} {joules(sum(parts.values()))} per sample ({shown}), AC {m[f'{split}/synops_ac{form}']:,.0f}, "
        f"MAC {macs:,.0f}{beside}{prices}"
    )


_FORMS = (("energy", ""), ("as trained", "_trained"))
_ACCURACIES = (("test acc", "test/acc"), ("val acc", "val/acc"))
_RATES = (("firing rate", "test/firing_rate"),)
