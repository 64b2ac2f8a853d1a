"""Summary statistics of a comparison, as numbers, as the lines of a table and in sentences. No torch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from snn_exp import escaping
from snn_exp.metrics.energy import multiplications, price_list
from snn_exp.reporting.comparison import Comparison, Line, Panel, Rows, values
from snn_exp.reporting.formatting import is_cost, scale, shown, shown_difference, shown_p, shown_ratio, tie
from snn_exp.reporting.mean import Mean
from snn_exp.reporting.stats import PairedDifference, PairedRatio, equivalence_p, holm, paired_difference, paired_ratio
from snn_exp.runs.row import Row

if TYPE_CHECKING:
    import pandas as pd

FEW = 3  # lines that are named one by one where they all lack the same


@dataclasses.dataclass(frozen=True)
class Summary:
    """Summary statistics of a line.

    Args:
        line: the line.
        metric: of the comparison.
        val_acc: val/acc, a fraction.
        firing_rate: spikes per neuron and time step, on the comparison's split.
        firing_rate_max: the same in the layer that fires most.
        ac: effective additions per sample of that split, in the inference form.
        mac: effective multiplications, likewise.
        energy_pj: likewise.
        cpu_s: CPU time of the fit, diverged runs included.
        num_steps: T; None if no run ended with finite weights.
        versus: the line it is compared with.
        difference: of the metric, to that line.
        ratio: of the energy, to that line's.
        p: of the paired t-test, Holm-corrected over the panel.
        equivalence_p: of two one-sided tests at the comparison's margin.
    """

    line: Line
    metric: Mean
    val_acc: Mean
    firing_rate: Mean
    firing_rate_max: Mean
    ac: Mean
    mac: Mean
    energy_pj: Mean
    cpu_s: Mean
    num_steps: int | None
    versus: str | None = None
    difference: PairedDifference | None = None
    ratio: PairedRatio | None = None
    p: float | None = None
    equivalence_p: float | None = None

    @property
    def diverged(self) -> int:
        """Return the number of its finished runs that diverged."""
        return sum(not row.done for row in self.line.rows.values())

    @property
    def unmeasured(self) -> int:
        """Return the number of its finished runs that ended well but without the metric."""
        return len(self.line.rows) - self.diverged - self.metric.n


def summaries(comparison: Comparison, panel: Panel) -> list[Summary]:
    """Return the summary statistics of each line that has a finished run, computed once."""
    if not any(panel is one for one in comparison.panels):
        return _summaries(comparison, panel)  # the id of a panel that does not stay may become another one's
    if id(panel) not in comparison.computed:
        comparison.computed[id(panel)] = _summaries(comparison, panel)
    found: list[Summary] = comparison.computed[id(panel)]
    return list(found)


def _summaries(comparison: Comparison, panel: Panel) -> list[Summary]:
    found = [_summary(comparison, panel, line) for line in panel.lines if line.rows]
    p_values = {s.line.name: s.difference.p for s in found if s.difference and s.difference.p is not None}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [dataclasses.replace(s, p=corrected.get(s.line.name)) for s in found]


def _summary(comparison: Comparison, panel: Panel, line: Line) -> Summary:
    metric, split, rows = comparison.metric, comparison.split, line.rows
    steps = [int(row.result.config["encoding"]["num_steps"]) for row in rows.values() if row.done]
    summary = Summary(
        line,
        metric=Mean.of(values(rows, metric)),
        val_acc=Mean.of(values(rows, "val/acc")),
        firing_rate=Mean.of(values(rows, f"{split}/firing_rate")),
        firing_rate_max=Mean.of(values(rows, f"{split}/firing_rate_max")),
        ac=Mean.of(values(rows, f"{split}/synops_ac")),
        mac=Mean.of(_macs(rows, split)),
        energy_pj=Mean.of(values(rows, f"{split}/energy_pj")),
        cpu_s=Mean.of({seed: row.result.cpu_s for seed, row in rows.items()}),
        num_steps=steps[0] if steps else None,
    )
    other = panel.line(panel.versus.get(line.name, ""))
    if other is None:
        return summary
    of, than = values(rows, metric), values(other.rows, metric)
    return dataclasses.replace(
        summary,
        versus=other.name,
        difference=paired_difference(of, than),
        ratio=paired_ratio(values(rows, f"{split}/energy_pj"), values(other.rows, f"{split}/energy_pj")),
        equivalence_p=None if comparison.margin is None else equivalence_p(of, than, comparison.margin),
    )


def _macs(rows: Rows, split: str) -> dict[int, float]:
    """Return seed -> multiplications per sample of all parts of the network."""
    counted = values(rows, f"{split}/synops_ac")
    return {seed: sum(multiplications(rows[seed].result.metrics, split).values()) for seed in counted}


def numbers(comparison: Comparison) -> pd.DataFrame:
    """Return one row per line: fractions, energies in pJ, CPU times in seconds; empty where there is no value."""
    import pandas as pd

    rows = []
    for panel in comparison.panels:
        for s in summaries(comparison, panel):
            entry: dict[str, object] = {"panel": panel.name, "line": s.line.name, "num_steps": s.num_steps}
            means = {"": s.metric, "val_acc_": s.val_acc, "firing_rate_": s.firing_rate,
                     "firing_rate_max_": s.firing_rate_max, "ac_": s.ac, "mac_": s.mac, "energy_pj_": s.energy_pj,
                     "cpu_s_": s.cpu_s}  # fmt: skip
            for name, mean in means.items():
                entry |= {f"{name}mean": mean.mean, f"{name}sd": mean.sd}
            d, r = s.difference or PairedDifference(0, float("nan")), s.ratio or PairedRatio(0, float("nan"))
            entry |= {
                "n": s.metric.n, "diverged": s.diverged, "versus": s.versus, "pairs": d.n, "difference": d.mean,
                "low": d.low, "high": d.high, "p": d.p, "p_holm": s.p, "p_equivalent": s.equivalence_p,
                "energy_ratio": r.mean, "energy_ratio_low": r.low, "energy_ratio_high": r.high,
            }  # fmt: skip
            rows.append(entry)
    return pd.DataFrame(rows)


@dataclasses.dataclass(frozen=True)
class Entry:
    """What stands in one column of one line of a table.

    Args:
        text: as printed.
        number: by which its column sorts; None if it has none.
        picture: address of a picture of what is named, which pages show beside the text.
    """

    text: str
    number: float | None = None
    picture: str = ""


def table(comparison: Comparison, panel: Panel) -> tuple[list[str], list[list[Entry]]]:
    """Return headings and lines of a panel: accuracies in percent, energies in nJ; `caption` says what they mean.

    A sweep, a study and a report have this one table. A quantity that none of its lines has makes no column.
    """
    metric, margin = comparison.metric, comparison.margin
    factor, digits, unit = scale(metric)
    others = list(dict.fromkeys(panel.versus.values()))
    versus = others[0] if len(others) == 1 else "versus"
    is_study = all("method" in line.labels for line in panel.lines)
    measured: dict[str, Callable[[Summary], Entry]] = {
        "firing rate": lambda s: _measured(s, s.firing_rate, 1, 3),
        "highest layer": lambda s: _measured(s, s.firing_rate_max, 1, 3),
        "energy nJ": lambda s: _measured(s, s.energy_pj, 1e-3, 0 if (s.energy_pj.mean or 0) >= 100e3 else 1),
        f"energy / {versus}": lambda s: Entry(shown_ratio(s.ratio), s.ratio.mean) if s.ratio else Entry("-"),
        "AC": lambda s: _measured(s, s.ac, 1, 0),
        "MAC": lambda s: _measured(s, s.mac, 1, 0),
        "val/acc %": lambda s: _measured(s, s.val_acc, 100, 2),
    }
    columns: dict[str, Callable[[Summary], Entry]] = {
        "method" if is_study else "runs": lambda s: Entry(s.line.name),
        f"{metric}{unit}": lambda s: Entry(s.metric.text(factor, digits), s.metric.mean),
        "n": lambda s: Entry(f"{s.metric.n}{_lost(s, metric)}", s.metric.n),
        "T": lambda s: Entry("-" if s.num_steps is None else str(s.num_steps), s.num_steps),
        **{heading: entry for heading, entry in measured.items() if heading != f"{metric}{unit}"},
        "fit, CPU s": lambda s: Entry(s.cpu_s.text(1, 0), s.cpu_s.mean),
        "versus": lambda s: Entry(s.versus or "-"),
        f"difference to {versus}": lambda s: (
            Entry(shown_difference(s.difference, metric), s.difference.mean) if s.difference else Entry("-")
        ),
        "p": lambda s: _p_entry(s.p),
        f"p, within {shown(margin or 0.0, metric)}": lambda s: _p_entry(s.equivalence_p),
    }
    found = summaries(comparison, panel)
    left_out = {h for h, entry in measured.items() if h in columns and all(entry(s).number is None for s in found)}
    left_out |= set() if len(others) > 1 else {"versus"}
    left_out |= {heading for heading in columns if heading.startswith("p, within")} if margin is None else set()
    if not others:
        left_out |= {heading for heading in columns if heading.startswith(("energy /", "difference", "p"))}
    headings = [heading for heading in columns if heading not in left_out]
    return headings, [[columns[heading](s) for heading in headings] for s in found]


def caption(comparison: Comparison, headings: Collection[str]) -> str:
    """Say what the columns mean, and the prices of the energies.

    Args:
        comparison: the data.
        headings: of all columns that are shown.
    """

    def has(*columns: str) -> bool:
        return any(heading.startswith(columns) for heading in headings)

    counts = " and ".join(", ".join(name for name in ("AC", "MAC", "energy") if has(name)).rsplit(", ", 1))
    sample = "test" if comparison.split == "test" else "validation"
    prices = f"; {price_list(comparison.profile)}" if has("energy") else ""
    says = {
        "Mean ± sd over n seeds; each seed draws its own training and validation set, the test set is fixed.": True,
        "T: time steps, which are the latency.": "T" in headings,
        "Firing rate: share of non-zero outputs per neuron and time step (relu: positive values; sign is never "
        "zero), over all layers and in the layer that fires most.": has("firing rate", "highest layer"),
        f"{counts[:1].upper()}{counts[1:]}: of one {sample} sample in the inference form{prices}.": bool(counts),
        "AC: effective additions of the weights (of signs and binary weights: XNORs).": has("AC"),
        "MAC: effective multiplications, with filters, unfolded norms and updates of neuron states.": has("MAC"),
        "Difference: mean over pairs of the same seed, with its 95 % interval.": has("difference"),
        "Ratio of energies: geometric mean over the pairs, with its 95 % interval.": has("energy /"),
        "p: of the paired t-test, Holm-corrected within the table.": "p" in headings,
        "p, within: of two one-sided paired t-tests; below 0.05 the two are equivalent within the margin.": has("p, "),
    }
    return " ".join(sentence for sentence, is_needed in says.items() if is_needed)


def markdown(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; its cells are plain text.

    Example:
        >>> print(markdown(["norm", "n"], [["bn", "5"]]))
        | norm | n |
        | --- | --- |
        | bn | 5 |
    """
    first, *rest = [[escaping.markdown(text, begins=False) for text in line] for line in (headings, *cells)]
    return of_markdown(first, rest)


def of_markdown(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown whose cells are Markdown already, such as links."""
    lines = [headings, ["---"] * len(headings), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def of_entries(headings: Sequence[str], rows: Sequence[Sequence[Entry]]) -> str:
    """Return the lines of `table` in Markdown."""
    return markdown(headings, [[entry.text for entry in row] for row in rows])


def _lost(s: Summary, metric: str) -> str:
    """Say why n is not the number of finished runs."""
    lost = [f"{s.diverged} of {len(s.line.rows)} diverged"] if s.diverged else []
    lost += [f"{s.unmeasured} of {len(s.line.rows)} without {metric}"] if s.unmeasured else []
    return f" ({', '.join(lost)})" if lost else ""


def _measured(s: Summary, mean: Mean, factor: float, digits: int) -> Entry:
    return Entry(mean.beside(s.metric.n, factor, digits), mean.mean)


def _p_entry(p: float | None) -> Entry:
    return Entry("-" if p is None else shown_p(p), p)


def headline(comparison: Comparison) -> str:
    """Say which line is best and whether that is significant, one sentence per panel."""
    return " ".join(_sentence(comparison, panel) for panel in comparison.panels)


def _sentence(comparison: Comparison, panel: Panel) -> str:
    metric = comparison.metric
    found = [s for s in summaries(comparison, panel) if s.metric.mean is not None]
    if not found:
        return f"{panel.name}: no run has ended with {metric}."
    lowest = is_cost(metric)
    best = (min if lowest else max)(found, key=lambda s: s.metric.mean or 0.0)
    tied = [s for s in found if tie(s.metric.mean or 0.0, best.metric.mean or 0.0)]
    factor, digits, unit = scale(metric)
    most = f"{'lowest' if lowest else 'highest'} mean {metric}"
    shown = [f"{s.metric.text(factor, digits)}{unit} (n = {s.metric.n})" for s in tied]
    if len(tied) > 1:
        names = [s.line.name for s in tied]
        all_shown = dict.fromkeys(shown)
        return (
            f"{panel.name}: of {len(found)} lines {', '.join(names[:-1])} and {names[-1]} tie for the {most}, "
            f"{' and '.join(all_shown)}."
        )
    if len(found) == 1:
        return f"{panel.name}: {best.line.name} has a mean {metric} of {shown[0]}."
    said = f"{panel.name}: of {len(found)} lines {best.line.name} has the {most}, {shown[0]}"
    d = best.difference
    if d is None:
        return f"{said}."
    if d.n == 1:
        return f"{said}; one pair with {best.versus} gives no interval."
    if d.all_equal:
        return f"{said}; compared with {best.versus}, {shown_difference(d, metric)}."
    verb = "differs from" if d.excludes_zero else "is not shown to differ from"
    return f"{said}, and {verb} {best.versus}: {shown_difference(d, metric)}."


def gaps(comparison: Comparison) -> list[str]:
    """Return a sentence for each reason for which a line lacks seeds, and for each note."""
    found = list(comparison.notes)
    for panel in comparison.panels:
        alone = sum(len(line.rows) == 1 for line in panel.lines)
        for line in panel.lines:
            where = f"{panel.name}, {line.name}"
            reasons: dict[str, list[str]] = {}
            for seed, why in line.unfinished.items():
                reasons.setdefault(why, []).append(str(seed))
            found += [f"{where}: seed {', '.join(seeds)}: {why}" for why, seeds in reasons.items()]
            if len(line.rows) == 1 and alone <= FEW:
                found.append(f"{where}: one seed, so there is neither a spread nor an interval")
        if alone > FEW:
            found.append(
                f"{panel.name}: {alone} of {len(panel.lines)} lines have one seed, so there is neither a spread "
                f"nor an interval for them"
            )
    return found


def origin(rows: Iterable[Row]) -> dict[str, str]:
    """Return torch versions, hardware and source of runs, each value with its number of runs."""
    found: dict[str, Counter[str]] = {"torch": Counter(), "hardware": Counter(), "source": Counter()}
    for row in rows:
        found["torch"][str(row.versions.get("torch", "?"))] += 1
        found["hardware"][" ".join(str(v) for v in row.hardware.values() if v is not None)] += 1
        found["source"][row.code] += 1
    return {
        what: ", ".join(f"{value} ({n} run{'s' * (n != 1)})" for value, n in of.items()) for what, of in found.items()
    }
