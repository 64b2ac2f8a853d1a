"""Tables of results. Reads results only; never imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from snn_exp.config.experiment import ASIDE, EXECUTION, GROUPS, EnergyConfig
from snn_exp.escaping import add_row, rich
from snn_exp.runs.filters import value_text
from snn_exp.runs.folder import Result, RunFolder, output_root, run_folders

DEFAULT_PROFILE = EnergyConfig()

# Choices that make a row of a comparison, in the order in which they are shown.
ROW_CHOICES = (
    "neuron", "norm", "weight_norm", "residual", "depth.num_layers", "dataset", "encoding", "encoding.num_steps",
    "network", "optim",
)  # fmt: skip


def choices(config: Mapping[str, Any]) -> dict[str, str]:
    """A config, flat, without the seed and what does not decide the result: {"neuron": "lif", "neuron.tau": "2.0"}.

    Example:
        >>> choices({"neuron": {"name": "lif", "tau": 2.0}, "seed": 3})
        {'neuron': 'lif', 'neuron.tau': '2.0'}
    """
    flat: dict[str, str] = {}
    for group in GROUPS:
        for key, value in (config.get(group) or {}).items():
            if group in ASIDE or key in EXECUTION.get(group, ()):
                continue
            flat[group if key == "name" else f"{group}.{key}"] = value_text(value)
    if teacher := config.get("teacher"):
        flat["teacher"] = _named(teacher)
    return flat


def _named(run_id: str) -> str:
    """A run in the words of its choices, since its id differs from seed to seed; the id where it is gone."""
    result = RunFolder(output_root() / "runs" / run_id).sound_result()
    if result is None:
        return run_id
    c = choices(result.config)
    return " ".join([*(c[group] for group in ("neuron", "norm", "residual")), f"d{c['depth.num_layers']}"])


def varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the choices in which configs differ, without the parameters that follow from the option chosen.

    Example:
        >>> [a, b] = [{"neuron": {"name": name, "tau": tau}} for name, tau in (("lif", 2.0), ("plif", 3.0))]
        >>> varying([a, b]), varying([a, b, {"neuron": {"name": "lif", "tau": 3.0}}])
        (['neuron'], ['neuron', 'neuron.tau'])
    """
    flat = [choices(config) for config in configs]
    keys = dict.fromkeys(key for one in flat for key in one)
    differing = [key for key in keys if len({one.get(key) for one in flat}) > 1]
    named = {key for key in differing if "." not in key}

    def follows(key: str) -> bool:
        option = key.partition(".")[0]
        pairs = {(one.get(option), one.get(key)) for one in flat}
        return "." in key and option in named and len(pairs) == len({chosen for chosen, _ in pairs})

    return [key for key in differing if not follows(key)]


def frame(results: Iterable[Result]) -> pd.DataFrame:
    """A row a run: its choices, its metrics, its cost."""
    return pd.DataFrame(
        [
            {**choices(r.config), "seed": r.config["seed"], "run_id": r.run_id, "status": r.status, **r.metrics,
             "duration_s": r.duration_s, "cpu_s": r.cpu_s, "peak_memory_mib": r.peak_memory_mib}
            for r in results
        ]
    )  # fmt: skip


def multiplications(metrics: Mapping[str, float], split: str, form: str = "") -> dict[str, float]:
    """MACs of one sample by part of the network; an update of a neuron's state counts as one.

    Args:
        metrics: of a run, see `operations.SynapticOperations`.
        split: val or test.
        form: "" is the inference form, "_trained" the network as it was trained.
    """
    synops = f"{split}/synops"
    return {
        "weights": metrics[f"{synops}_mac{form}"],
        "filters": metrics[f"{synops}_filter_mac{form}"],
        "norms": metrics[f"{synops}_norm_mac{form}"],
        "neurons": metrics[f"{synops}_neuron_updates"],
    }


def energy_pj(metrics: Mapping[str, float], split: str, profile: EnergyConfig, form: str = "") -> dict[str, float]:
    """Energy of one sample by part of the network and of its memory traffic, pJ.

    Equation:
        each part   mac_pj mac;  weights: + ac_pj (ac - xnor) + xnor_fj xnor / 1000
        memory      (weight_pj + 2 state_pj) (mac + ac - xnor + xnor / 32)  of the weights
                    + 2 state_pj mac  of all other parts

    Every effective operation of the weights reads its weight, and reads and writes an accumulator; of signs and binary
    weights, 32 share a word. Every other multiplication reads and writes the word that it acts on. Words have 32 bits.
    Nothing is reused: a dataflow that keeps a weight or an accumulator in a register for r operations pays 1 / r of it,
    and dense inputs let it do so more often than sparse spikes. An input is held while all that read it are served, so
    neither a spike's bit nor a real value's word is paid; nor are addresses.

    Args:
        metrics: as in `multiplications`.
        split: as in `multiplications`.
        profile: what an operation costs, and a word of memory; compute only where that costs 0.
        form: as in `multiplications`.

    Source: the prices are the profile's; the model of memory is ours, the simplest that the stored counts can price.
        A closer one finds that a rate-coded network of 5 steps needs a firing rate below about 6 % to beat an equally
        accurate quantized network (arXiv 2409.08290).
    """
    macs = multiplications(metrics, split, form)
    ac, xnor = metrics[f"{split}/synops_ac{form}"], metrics[f"{split}/synops_xnor{form}"]
    energy = {part: profile.mac_pj * count for part, count in macs.items()}
    energy["weights"] += profile.ac_pj * (ac - xnor) + profile.xnor_fj / 1000 * xnor
    weights = macs.pop("weights") + ac - xnor + xnor / 32
    energy["memory"] = profile.weight_pj * weights + 2 * profile.state_pj * (weights + sum(macs.values()))
    return energy


def with_energy(metrics: Mapping[str, float], profile: EnergyConfig) -> dict[str, float]:
    """The metrics and, where the test set's operations are counted, `test/energy_pj` and `test/energy_dense_pj`.

    Both are of one sample in the inference form; the dense one charges every operation of the weights, zeros and
    padding included, as a multiplication.
    """
    if _counted_split([metrics]) != "test":
        return dict(metrics)
    dense = {"test/synops_mac": metrics["test/synops_dense"], "test/synops_ac": 0.0, "test/synops_xnor": 0.0}
    return {
        **metrics,
        "test/energy_pj": sum(energy_pj(metrics, "test", profile).values()),
        "test/energy_dense_pj": sum(energy_pj({**metrics, **dense}, "test", profile).values()),
    }


def price_list(profile: EnergyConfig) -> str:
    """The constants of a profile, and what they leave out.

    Example:
        >>> price_list(EnergyConfig())
        'h45_fp32: MAC 4.6 pJ, AC 0.9 pJ, XNOR 20 fJ; compute only, no memory traffic'
    """
    memory = (
        f"weight read {profile.weight_pj:g} pJ, accumulator or state read or written {profile.state_pj:g} pJ, "
        f"32 bits each, nothing reused"
        if profile.weight_pj or profile.state_pj
        else "compute only, no memory traffic"
    )
    return f"{profile.name}: MAC {profile.mac_pj:g} pJ, AC {profile.ac_pj:g} pJ, XNOR {profile.xnor_fj:g} fJ; {memory}"


def comparison(results: Sequence[Result], profile: EnergyConfig = DEFAULT_PROFILE) -> Table:
    """Mean ± sd over seeds of what differs between the runs.

    Accuracy in percent, firing rate in spikes a neuron and step, operations and energy a sample in the
    inference form (where all runs have counted them), time in seconds of wall time of the fit.
    """
    rows = row_choices([choices(r.config) for r in results], varying([r.config for r in results]))
    runs = frame(results)
    runs[rows] = runs[rows].fillna("-")
    split = _counted_split([r.metrics for r in results if r.status == "done"])
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
    """How many runs have a finite value."""
    return len(_finite(runs, column))


def _finite(runs: pd.DataFrame, column: str) -> pd.Series[float]:
    values: pd.Series[float] = runs[column].astype(float) if column in runs else pd.Series(dtype=float)
    return values[np.isfinite(values)]


def _cell(runs: pd.DataFrame, column: str, factor: float, digits: int, n: int) -> str:
    """Mean ± sd, with n where it is another one than that of the row."""
    measured = _measured(runs, column)
    return mean_sd(runs, column, factor, digits) + (f" (n = {measured})" if measured not in (0, n) else "")


def _counted_split(metrics: Sequence[Mapping[str, float]]) -> str | None:
    """The split on which all runs have counted their operations, test before val."""
    splits = [s for s in ("test", "val") if metrics and all(f"{s}/synops_ac" in m for m in metrics)]
    return splits[0] if splits else None


def row_choices(flat: Sequence[Mapping[str, str]], by: Sequence[str]) -> list[str]:
    """The choices that name a row: the usual ones, and whatever else does not follow from them.

    Two runs that differ in anything never share a row; a surrogate that is the neuron's own needs no column.

    Args:
        flat: the `choices` of each run.
        by: those in which runs differ.
    """
    rows = [key for key in ROW_CHOICES if key in by]
    for key in by:
        follows = len({tuple(one.get(k) for k in rows) for one in flat}) == len(
            {tuple(one.get(k) for k in (*rows, key)) for one in flat}
        )
        if key not in rows and not follows:
            rows.append(key)
    return rows or ["neuron", "norm"]


_HEADINGS = {
    "depth.num_layers": "layers",
    "encoding.num_steps": "T",
    "weight_norm": "weight norm",
}
_CAPTION = (
    "mean ± sd over n seeds (each draws its own training and validation set; the test set is fixed). Firing rate: "
    "share of non-zero outputs a neuron and step (relu: positive values; sign is never zero)."
)
_OPERATIONS_CAPTION = (
    "AC: effective additions of the weights (of signs and binary weights: XNORs); MAC: effective multiplications, with "
    "filters, unfolded norms and updates of neuron states; both a sample in the inference form."
)


def mean_sd(runs: pd.DataFrame, column: str, factor: float, digits: int) -> str:
    """Mean ± sd, or the one value, or a dash.

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
    """A run in a few lines, fit to be pasted into a message."""
    m = result.metrics
    seeds = frame([r for r in stored_results() if choices(r.config) == choices(result.config)])
    lines = [
        f"run {result.run_id}: {result.status}, {result.duration_s:.1f} s ({result.cpu_s:.1f} s CPU)",
        *(f"  {name:<12} {100 * m[key]:.2f} %" for name, key in _ACCURACIES if key in m),
        *(f"  {name:<12} {m[key]:.3f}" for name, key in _RATES if key in m),
        f"  {'parameters':<12} {m['params']:,.0f}",
        f"  {'MACs dense':<12} {m['macs_dense']:,.0f} a sample",
    ]
    if split := _counted_split([m]):
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
    """Accuracy, firing and energy of an evaluation on test data."""
    lines = [f"  {name:<12} {100 * metrics[key]:.2f} %" for name, key in _ACCURACIES if key in metrics]
    lines += [f"  {name:<12} {metrics[key]:.3f}" for name, key in _RATES if key in metrics]
    return "\n".join(lines + [_energy_line(metrics, "test", profile, name, form) for name, form in _FORMS])


def _energy_line(m: Mapping[str, float], split: str, profile: EnergyConfig, name: str, form: str) -> str:
    parts = energy_pj(m, split, profile, form)
    macs = sum(multiplications(m, split, form).values())
    shown = ", ".join(f"{part} {joules(pj)}" for part, pj in parts.items() if pj)
    prices = "" if form else f"; {price_list(profile)}"
    return (
        f"  {name:<12} {joules(sum(parts.values()))} a sample ({shown}), AC {m[f'{split}/synops_ac{form}']:,.0f}, "
        f"MAC {macs:,.0f}{prices}"
    )


def joules(pj: float) -> str:
    """An energy in nJ, or in pJ where it is small.

    Example:
        >>> joules(12_345.0), joules(12.3)
        ('12.3 nJ', '12.3 pJ')
    """
    return f"{pj / 1000:,.1f} nJ" if pj >= 1000 else f"{pj:.1f} pJ"


_FORMS = (("energy", ""), ("as trained", "_trained"))
_ACCURACIES = (("test acc", "test/acc"), ("val acc", "val/acc"))
_RATES = (("firing rate", "test/firing_rate"),)


def stored_results() -> list[Result]:
    """Return every finished run under the output root; a damaged one is named and left out."""
    found = (folder.sound_result() for folder in run_folders())
    return [result for result in found if result is not None]
