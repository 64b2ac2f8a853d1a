"""Summary statistics of a comparison, as numbers, as table cells and in sentences. No torch."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev

import pandas as pd

from snn_exp import escaping
from snn_exp.metrics.energy import joules
from snn_exp.reporting.comparison import Comparison, Line, Panel, values
from snn_exp.reporting.stats import PairedDifference, PairedRatio, equivalence_p, holm, paired_difference, paired_ratio
from snn_exp.runs.row import Row


@dataclasses.dataclass(frozen=True)
class Mean:
    """Mean and standard deviation over seeds.

    Args:
        mean: None without a value.
        sd: None for fewer than two values.
        n: number of values.
    """

    mean: float | None
    sd: float | None
    n: int

    @classmethod
    def of(cls, sample: Mapping[int, float]) -> Mean:
        """Compute them from seed -> value."""
        found = list(sample.values())
        return cls(fmean(found) if found else None, stdev(found) if len(found) > 1 else None, len(found))

    def text(self, factor: float, digits: int) -> str:
        """Format mean ± sd, or the one value, or a dash.

        Example:
            >>> Mean.of({0: 0.5, 1: 0.7}).text(100, 1), Mean.of({0: 0.5}).text(100, 1), Mean.of({}).text(1, 0)
            ('60.0 ± 14.1', '50.0', '-')
        """
        if self.mean is None:
            return "-"
        return f"{factor * self.mean:.{digits}f}" + ("" if self.sd is None else f" ± {factor * self.sd:.{digits}f}")

    def beside(self, n: int, factor: float, digits: int) -> str:
        """Format the same, with n if it differs from that of the row.

        Example:
            >>> Mean.of({0: 0.5, 1: 0.7}).beside(2, 1, 1), Mean.of({0: 0.5}).beside(2, 1, 1)
            ('0.6 ± 0.1', '0.5 (n = 1)')
        """
        return self.text(factor, digits) + (f" (n = {self.n})" if self.n not in (0, n) else "")


@dataclasses.dataclass(frozen=True)
class Summary:
    """Summary statistics of a line.

    Args:
        line: the line.
        metric: of the comparison.
        firing_rate: test/firing_rate, spikes per neuron and time step.
        firing_rate_max: the same in the layer that fires most.
        energy_pj: of one test sample in the inference form.
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
    firing_rate: Mean
    firing_rate_max: Mean
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
    """Compute the summary statistics of each line that has a finished run."""
    found = [_summary(comparison, panel, line) for line in panel.lines if line.rows]
    p_values = {s.line.name: s.difference.p for s in found if s.difference and s.difference.p is not None}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [dataclasses.replace(s, p=corrected.get(s.line.name)) for s in found]


def _summary(comparison: Comparison, panel: Panel, line: Line) -> Summary:
    metric, rows = comparison.metric, line.rows
    steps = [int(row.result.config["encoding"]["num_steps"]) for row in rows.values() if row.done]
    summary = Summary(
        line,
        metric=Mean.of(values(rows, metric)),
        firing_rate=Mean.of(values(rows, "test/firing_rate")),
        firing_rate_max=Mean.of(values(rows, "test/firing_rate_max")),
        energy_pj=Mean.of(values(rows, "test/energy_pj")),
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
        ratio=paired_ratio(values(rows, "test/energy_pj"), values(other.rows, "test/energy_pj")),
        equivalence_p=None if comparison.margin is None else equivalence_p(of, than, comparison.margin),
    )


def numbers(comparison: Comparison) -> pd.DataFrame:
    """Return one row per line: fractions, energies in pJ, CPU times in seconds; empty where there is no value."""
    rows = []
    for panel in comparison.panels:
        for s in summaries(comparison, panel):
            entry: dict[str, object] = {"panel": panel.name, "line": s.line.name, "num_steps": s.num_steps}
            means = {"": s.metric, "firing_rate_": s.firing_rate, "firing_rate_max_": s.firing_rate_max,
                     "energy_pj_": s.energy_pj, "cpu_s_": s.cpu_s}  # fmt: skip
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
class Cell:
    """A cell of a table.

    Args:
        text: as printed.
        number: by which its column sorts; None if it has none.
    """

    text: str
    number: float | None = None


def table(comparison: Comparison, panel: Panel) -> tuple[list[str], list[list[Cell]]]:
    """Return headings and cells of a panel: accuracies in percent, energies in nJ."""
    metric, margin = comparison.metric, comparison.margin
    factor, digits, unit = scale(metric)
    others = list(dict.fromkeys(panel.versus.values()))
    versus = others[0] if len(others) == 1 else "versus"
    is_study = all("method" in line.labels for line in panel.lines)
    columns: dict[str, Callable[[Summary], Cell]] = {
        "method" if is_study else "runs": lambda s: Cell(s.line.name),
        f"{metric}{unit}": lambda s: Cell(s.metric.text(factor, digits), s.metric.mean),
        "n": lambda s: Cell(f"{s.metric.n}{_lost(s, metric)}", s.metric.n),
        "T": lambda s: Cell("-" if s.num_steps is None else str(s.num_steps), s.num_steps),
        "firing rate": lambda s: Cell(s.firing_rate.beside(s.metric.n, 1, 3), s.firing_rate.mean),
        "highest layer": lambda s: Cell(s.firing_rate_max.beside(s.metric.n, 1, 3), s.firing_rate_max.mean),
        "energy nJ": lambda s: Cell(s.energy_pj.beside(s.metric.n, 1e-3, 0), s.energy_pj.mean),
        f"energy / {versus}": lambda s: Cell(shown_ratio(s.ratio), s.ratio.mean) if s.ratio else Cell("-"),
        "fit, CPU s": lambda s: Cell(s.cpu_s.text(1, 0), s.cpu_s.mean),
        "versus": lambda s: Cell(s.versus or "-"),
        f"difference to {versus}": lambda s: (
            Cell(shown_difference(s.difference, metric), s.difference.mean) if s.difference else Cell("-")
        ),
        "p": lambda s: _p_cell(s.p),
        f"p, within {shown(margin or 0.0, metric)}": lambda s: _p_cell(s.equivalence_p),
    }
    left_out = [] if len(others) > 1 else ["versus"]
    left_out += [heading for heading in columns if heading.startswith("p, within")] if margin is None else []
    if not others:
        left_out += [heading for heading in columns if heading.startswith(("energy /", "difference", "p"))]
    headings = [heading for heading in columns if heading not in left_out]
    return headings, [[columns[heading](s) for heading in headings] for s in summaries(comparison, panel)]


def markdown(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; its cells are plain text.

    Example:
        >>> print(markdown(["norm", "n"], [["bn", "5"]]))
        | norm | n |
        | --- | --- |
        | bn | 5 |
    """
    first, *rest = [[escaping.markdown(text, begins=False) for text in line] for line in (headings, *cells)]
    lines = [first, ["---"] * len(headings), *rest]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _lost(s: Summary, metric: str) -> str:
    """Say why n is not the number of finished runs."""
    lost = [f"{s.diverged} of {len(s.line.rows)} diverged"] if s.diverged else []
    lost += [f"{s.unmeasured} of {len(s.line.rows)} without {metric}"] if s.unmeasured else []
    return f" ({', '.join(lost)})" if lost else ""


def _p_cell(p: float | None) -> Cell:
    return Cell("-" if p is None else shown_p(p), p)


def scale(metric: str) -> tuple[float, int, str]:
    """Return factor, digits and unit of a metric in a table.

    Example:
        >>> scale("test/acc"), scale("test/energy_pj")
        ((100.0, 2, ' %'), (0.001, 1, ' nJ'))
    """
    if metric.endswith("acc"):
        return 100.0, 2, " %"
    return (1e-3, 1, " nJ") if metric.endswith("_pj") else (1.0, 4, "")


def is_cost(metric: str) -> bool:
    """Return whether a lower value is better, as for every metric but an accuracy."""
    return not metric.endswith("acc")


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


def tie(a: float, b: float) -> bool:
    """Return whether two means are equal within the precision in which metrics are stored.

    Example:
        >>> tie(0.9711110, 0.9711111), tie(0.9711, 0.9713)
        (True, False)
    """
    return math.isclose(a, b, rel_tol=3e-6)


def gaps(comparison: Comparison) -> list[str]:
    """Return a sentence for each reason for which a line lacks seeds, and for each note."""
    found = list(comparison.notes)
    for panel in comparison.panels:
        for line in panel.lines:
            where = f"{panel.name}, {line.name}"
            reasons: dict[str, list[str]] = {}
            for seed, why in line.unfinished.items():
                reasons.setdefault(why, []).append(str(seed))
            found += [f"{where}: seed {', '.join(seeds)}: {why}" for why, seeds in reasons.items()]
            if len(line.rows) == 1:
                found.append(f"{where}: one seed, so there is neither a spread nor an interval")
    return found


def origin(rows: Iterable[Row]) -> dict[str, str]:
    """Return torch versions, hardware and source of runs, each value with its number of runs."""
    found: dict[str, Counter[str]] = {"torch": Counter(), "hardware": Counter(), "source": Counter()}
    for row in rows:
        found["torch"][str(row.versions.get("torch", "?"))] += 1
        found["hardware"][" ".join(str(v) for v in row.hardware.values() if v is not None)] += 1
        found["source"][row.code] += 1
    return {what: ", ".join(f"{value} ({n} runs)" for value, n in of.items()) for what, of in found.items()}


def shown_p(p: float) -> str:
    """Format a p value.

    Example:
        >>> shown_p(0.00001), shown_p(0.04321)
        ('< 0.001', '0.043')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def shown(value: float, metric: str) -> str:
    """Format a value with its unit: accuracies in percent, energies in nJ or pJ.

    Example:
        >>> shown(0.973, "test/acc"), shown(0.081, "test/firing_rate"), shown(1234.5, "test/energy_pj")
        ('97.30 %', '0.0810', '1.2 nJ')
    """
    if metric.endswith("_pj"):
        return joules(value)
    return f"{100 * value:.2f} %" if metric.endswith("acc") else f"{value:.4g}" if abs(value) >= 1 else f"{value:.4f}"


def shown_ratio(ratio: PairedRatio) -> str:
    """Format a mean paired ratio with its interval.

    Example:
        >>> shown_ratio(PairedRatio(5, 0.0731, 0.0712, 0.0751))
        '0.0731 [0.0712, 0.0751]'
    """
    interval = "" if ratio.low is None or ratio.high is None else f" [{ratio.low:#.3g}, {ratio.high:#.3g}]"
    if ratio.all_equal:
        interval = f" ({all_of(ratio.n)} equal)"
    return f"{ratio.mean:#.3g}{interval}"


def all_of(n: int) -> str:
    """Return "both" for two and "all n" for more."""
    return "both" if n == 2 else f"all {n}"


def shown_difference(d: PairedDifference, metric: str) -> str:
    """Format a mean paired difference with its interval and number of pairs, or why there is no interval.

    Example:
        >>> shown_difference(PairedDifference(3, 0.0022, 0.0), "test/acc")
        'all 3 differences are equal (+0.22 points): no spread, no test'
        >>> shown_difference(PairedDifference(2, 0.0022, 0.0), "test/acc")
        'both differences are equal (+0.22 points): no spread, no test'
        >>> shown_difference(PairedDifference(1, 0.0022), "test/acc")
        '+0.22 points, n = 1: no interval'
    """
    factor, digits, unit = (100.0, 2, " points") if metric.endswith("acc") else (1.0, 4, "")
    if metric.endswith("_pj"):
        factor, digits, unit = 1e-3, 1, " nJ"
    mean = f"{factor * d.mean:+.{digits}f}"
    if d.all_equal:
        return f"{all_of(d.n)} differences are equal ({mean}{unit}): no spread, no test"
    if d.low is None or d.high is None:
        return f"{mean}{unit}, n = {d.n}: no interval"
    return f"{mean} [{factor * d.low:+.{digits}f}, {factor * d.high:+.{digits}f}]{unit}, n = {d.n}"
