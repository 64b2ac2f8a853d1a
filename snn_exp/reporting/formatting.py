"""Numbers of a report in words: units, p values, intervals, and why there is none. No torch."""

from __future__ import annotations

import math

from snn_exp.metrics.energy import joules
from snn_exp.reporting.stats import PairedDifference, PairedRatio


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


def tie(a: float, b: float) -> bool:
    """Return whether two means are equal within the precision in which metrics are stored.

    Example:
        >>> tie(0.9711110, 0.9711111), tie(0.9711, 0.9713)
        (True, False)
    """
    return math.isclose(a, b, rel_tol=3e-6)


def shown(value: float, metric: str) -> str:
    """Format a value with its unit: accuracies in percent, energies in nJ or pJ.

    Example:
        >>> shown(0.973, "test/acc"), shown(0.081, "test/firing_rate"), shown(1234.5, "test/energy_pj")
        ('97.30 %', '0.0810', '1.2 nJ')
    """
    if metric.endswith("_pj"):
        return joules(value)
    return f"{100 * value:.2f} %" if metric.endswith("acc") else f"{value:.4g}" if abs(value) >= 1 else f"{value:.4f}"


def shown_p(p: float) -> str:
    """Format a p value.

    Example:
        >>> shown_p(0.00001), shown_p(0.04321)
        ('< 0.001', '0.043')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


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


def in_unit(metric: str, quantity: str) -> tuple[float, str]:
    """Return the factor to the unit in which a claim's number is printed, and that unit; "" where there is none.

    Args:
        metric: such as test/acc.
        quantity: difference, mean or ratio.

    Example:
        >>> in_unit("test/acc", "difference"), in_unit("test/energy_pj", "mean"), in_unit("test/energy_pj", "ratio")
        ((100.0, 'points'), (0.001, 'nJ'), (1.0, ''))
    """
    if quantity == "ratio":
        return 1.0, ""
    factor, _, unit = scale(metric)
    return factor, "points" if quantity == "difference" and unit == " %" else unit.strip()


def shown_interval(mean: float, low: float | None, high: float | None, metric: str, quantity: str) -> str:
    """Format a claim's number with its interval and unit, for the cell of a table.

    Example:
        >>> shown_interval(0.0031, -0.001, 0.0072, "test/acc", "difference")
        '+0.31 [-0.10, +0.72] points'
        >>> shown_interval(0.0731, None, None, "test/energy_pj", "ratio")
        '0.0731'
    """
    factor, unit = in_unit(metric, quantity)
    digits = "#.3g" if quantity == "ratio" else f".{scale(metric)[1]}f"
    sign = "+" if quantity == "difference" else ""
    interval = (
        "" if low is None or high is None else f" [{factor * low:{sign}{digits}}, {factor * high:{sign}{digits}}]"
    )
    return f"{factor * mean:{sign}{digits}}{interval}{' ' + unit if unit else ''}"


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


def all_of(n: int) -> str:
    """Return "both" for two and "all n" for more."""
    return "both" if n == 2 else f"all {n}"
