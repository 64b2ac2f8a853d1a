"""Tables of results. Reads results only; never imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from rich.table import Table

from snn_exp.config.experiment import EnergyConfig
from snn_exp.escaping import add_row, rich
from snn_exp.metrics.energy import DEFAULT_PROFILE, counted_split, energy_pj, joules, multiplications, price_list
from snn_exp.runs.choices import choices, row_choices, varying
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root
from snn_exp.runs.run_files import Result
from snn_exp.runs.store import stored_results


def frame(results: Iterable[Result]) -> pd.DataFrame:
    """Return a frame with one row per run: its choices, its metrics, its cost."""
    return pd.DataFrame(
        [
            {**choices(r.config), "seed": r.config["seed"], "run_id": r.run_id, "status": r.status, **r.metrics,
             "duration_s": r.duration_s, "cpu_s": r.cpu_s, "peak_memory_mib": r.peak_memory_mib}
            for r in results
        ]
    )  # fmt: skip


def comparison(results: Sequence[Result], profile: EnergyConfig = DEFAULT_PROFILE) -> Table:
    """Make a table of mean ± sd over seeds, one row per choice that differs between the runs.

    Accuracy in percent, firing rate in spikes per neuron and time step, operations and energy per sample in the
    inference form (if all runs have counted them), wall time of the fit in seconds.
    """
    rows = row_choices([choices(r.config) for r in results], varying([r.config for r in results]))
    runs = frame(results)
    runs[rows] = runs[rows].fillna("-")
    split = counted_split([r.metrics for r in results if r.status == "done"])
    if split:
        done = {r.run_id: r.metrics for r in results if r.status == "done"}
        runs["mac"] = runs["run_id"].map({i: sum(multiplications(m, split).values()) for i, m in done.items()})
        runs["energy_pj"] = runs["run_id"].map({i: sum(energy_pj(m, split, profile).values()) for i, m in done.items()})
    caption = _CAPTION + (f" {_OPERATIONS_CAPTION} {price_list(profile)}." if split else "")
    table = Table(title=None, caption=rich(caption), caption_justify="left")
    for name in rows:
        table.add_column(rich(_HEADINGS.get(name, name)))
    spent = ("AC", "MAC", "energy nJ") if split else ()
    for heading in ("test acc %", "val acc %", "n", "firing rate", "MACs dense", *spent, "fit s"):
        table.add_column(heading, justify="right")
    accuracy = "test/acc" if _measured(runs, "test/acc") else "val/acc"
    for key, group in runs.groupby(rows, sort=False):
        finished = group[group["status"] == "done"]
        n, diverged = _measured(finished, accuracy), len(group) - len(finished)
        lost = [f"{diverged} of {len(group)} diverged"] if diverged else []
        lost += [f"{missing} of {len(group)} without {accuracy}"] if (missing := len(finished) - n) else []
        chosen = key if isinstance(key, tuple) else (key,)
        add_row(
            table,
            *map(str, chosen),
            _cell(finished, "test/acc", 100, 2, n),
            _cell(finished, "val/acc", 100, 2, n),
            f"{n}" + (f" ({', '.join(lost)})" if lost else ""),
            _cell(finished, "test/firing_rate" if "test/firing_rate" in group else "val/firing_rate", 1, 3, n),
            f"{group['macs_dense'].iloc[0]:,.0f}",
            *(
                (
                    _cell(finished, f"{split}/synops_ac", 1, 0, n),
                    _cell(finished, "mac", 1, 0, n),
                    _cell(finished, "energy_pj", 1e-3, 1, n),
                )
                if split
                else ()
            ),
            _cell(group, "duration_s", 1, 1, len(group)),
        )
    return table


def _measured(runs: pd.DataFrame, column: str) -> int:
    """Return the number of runs with a finite value."""
    return len(_finite(runs, column))


def _finite(runs: pd.DataFrame, column: str) -> pd.Series[float]:
    values: pd.Series[float] = runs[column].astype(float) if column in runs else pd.Series(dtype=float)
    return values[np.isfinite(values)]


def _cell(runs: pd.DataFrame, column: str, factor: float, digits: int, n: int) -> str:
    """Format mean ± sd, with n if it differs from that of the row."""
    measured = _measured(runs, column)
    return mean_sd(runs, column, factor, digits) + (f" (n = {measured})" if measured not in (0, n) else "")


_HEADINGS = {
    "depth.num_layers": "layers",
    "encoding.num_steps": "T",
    "weight_norm": "weight norm",
}
_CAPTION = (
    "mean ± sd over n seeds (each draws its own training and validation set; the test set is fixed). Firing rate: "
    "share of non-zero outputs per neuron and time step (relu: positive values; sign is never zero)."
)
_OPERATIONS_CAPTION = (
    "AC: effective additions of the weights (of signs and binary weights: XNORs); MAC: effective multiplications, with "
    "filters, unfolded norms and updates of neuron states; both per sample in the inference form."
)


def mean_sd(runs: pd.DataFrame, column: str, factor: float, digits: int) -> str:
    """Format mean ± sd, or the one value, or a dash.

    Example:
        >>> mean_sd(pd.DataFrame({"x": [0.5, 0.7]}), "x", 100, 1)
        '60.0 ± 14.1'
    """
    values = _finite(runs, column) * factor
    if values.empty:
        return "-"
    spread = f" ± {values.std():,.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():,.{digits}f}{spread}"


def summary(result: Result, command: str, profile: EnergyConfig = DEFAULT_PROFILE) -> str:
    """Summarize a run in a few lines that can be pasted into a message."""
    m = result.metrics
    seeds = frame([r for r in stored_results() if choices(r.config) == choices(result.config)])
    lines = [
        f"run {result.run_id}: {result.status}, {result.duration_s:.1f} s ({result.cpu_s:.1f} s CPU)",
        *(f"  {name:<12} {100 * m[key]:.2f} %" for name, key in _ACCURACIES if key in m),
        *(f"  {name:<12} {m[key]:.3f}" for name, key in _RATES if key in m),
        f"  {'parameters':<12} {m['params']:,.0f}",
        f"  {'MACs dense':<12} {m['macs_dense']:,.0f} per sample",
    ]
    if split := counted_split([m]):
        lines += [_energy_line(m, split, profile, name, form) for name, form in _FORMS]
    if result.peak_memory_mib is not None:
        lines.append(f"  {'peak memory':<12} {result.peak_memory_mib:,.0f} MiB")
    if result.compile_s is not None:
        lines.append(f"  {'compiling':<12} {result.compile_s:.1f} s")
    if (n := _measured(seeds, "test/acc")) > 1:
        lines.append(f"  {'over seeds':<12} test {mean_sd(seeds, 'test/acc', 100, 2)} %, n = {n}")
    folder = RunFolder(output_root() / "runs" / result.run_id)
    return "\n".join([*lines, f"  {'folder':<12} {folder.path}", f"  {'again':<12} {command}"])


def evaluation(metrics: Mapping[str, float], profile: EnergyConfig = DEFAULT_PROFILE) -> str:
    """Format accuracy, firing rates and energy of an evaluation on test data."""
    lines = [f"  {name:<12} {100 * metrics[key]:.2f} %" for name, key in _ACCURACIES if key in metrics]
    lines += [f"  {name:<12} {metrics[key]:.3f}" for name, key in _RATES if key in metrics]
    return "\n".join(lines + [_energy_line(metrics, "test", profile, name, form) for name, form in _FORMS])


def _energy_line(m: Mapping[str, float], split: str, profile: EnergyConfig, name: str, form: str) -> str:
    parts = energy_pj(m, split, profile, form)
    macs = sum(multiplications(m, split, form).values())
    shown = ", ".join(f"{part} {joules(pj)}" for part, pj in parts.items() if pj)
    prices = "" if form else f"; {price_list(profile)}"
    return (
        f"  {name:<12} {joules(sum(parts.values()))} per sample ({shown}), AC {m[f'{split}/synops_ac{form}']:,.0f}, "
        f"MAC {macs:,.0f}{prices}"
    )


_FORMS = (("energy", ""), ("as trained", "_trained"))
_ACCURACIES = (("test acc", "test/acc"), ("val acc", "val/acc"))
_RATES = (("firing rate", "test/firing_rate"),)
