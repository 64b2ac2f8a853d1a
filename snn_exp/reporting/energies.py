"""The three energies of a panel, in a table of their own: E1, E2, E3, their ratios, and the break-even firing rate.

No torch. E3 is that of a trained network where the panel has one: a `qrelu` of as many bits as a line's steps carry
together, in the same network with the same weights. Elsewhere it is the line's own count, at that many bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from snn_exp.config.experiment import ExperimentConfig, resolve
from snn_exp.errors import UserError
from snn_exp.metrics.data_movement import Bits, movement_prices, prices_movement
from snn_exp.metrics.energy import price_list
from snn_exp.reporting.comparison import Comparison, Line, Panel, values
from snn_exp.reporting.formatting import shown_ratio
from snn_exp.reporting.mean import Mean
from snn_exp.reporting.stats import paired_ratio
from snn_exp.reporting.tables import Entry

TITLE = "Energy, with data movement"
SAME = ("dataset", "network", "depth", "residual", "norm", "weight_norm", "weight_quant")  # of a line and its twin
_OWN = "its own count"


@dataclasses.dataclass(frozen=True)
class _Sized:
    """A line, the config of one of its runs, and the sizes of what it computes with."""

    line: Line
    config: ExperimentConfig
    bits: Bits

    @property
    def is_quantized(self) -> bool:
        return self.config.neuron["name"] == "qrelu"


def table(comparison: Comparison, panel: Panel) -> tuple[list[str], list[list[Entry]]] | None:
    """Return headings and lines of a panel's energies, nJ; `caption` says what they mean.

    None where the profile does not price data movement, and where no run has what it prices.
    """
    moved = f"{comparison.split}/energy_moved_pj"
    if not prices_movement(comparison.profile) or not any(values(line.rows, moved) for line in panel.lines):
        return None
    found = [sized for line in panel.lines if (sized := _sized(comparison, line))]
    rows = [_row(comparison, of, _twin(of, found)) for of in found]
    headings = [
        "method" if all("method" in line.labels for line in panel.lines) else "runs",
        "bits", "bits of weights", "E1 nJ", "E2 nJ", "E3 nJ", "E3, zeros skipped, nJ", "E3 of", "E2 / E3",
        "E2 / E3, zeros skipped", "firing rate", "break-even rate",
    ]  # fmt: skip
    return headings, rows


def _sized(comparison: Comparison, line: Line) -> _Sized | None:
    """Read the sizes of a line off its first run that ended; None if none has, or its config is refused by now."""
    done = [row for row in line.rows.values() if row.done]
    try:
        config = resolve(done[0].result.config) if done else None
    except UserError:
        return None
    return None if config is None else _Sized(line, config, Bits.of(config, comparison.profile.word_bits))


def _twin(of: _Sized, lines: Sequence[_Sized]) -> _Sized | None:
    """Return the trained quantized network of as many bits in the same network; a `qrelu` is its own."""
    if of.is_quantized:
        return of

    def is_twin(other: _Sized) -> bool:
        same_network = all(getattr(other.config, part) == getattr(of.config, part) for part in SAME)
        return other.is_quantized and other.bits.activation == of.bits.activation and same_network

    return next(filter(is_twin, lines), None)


def _row(comparison: Comparison, of: _Sized, twin: _Sized | None) -> list[Entry]:
    split = comparison.split

    def energy(line: Line, metric: str) -> Entry:
        mean = Mean.of(values(line.rows, f"{split}/{metric}"))
        return Entry(mean.text(1e-3, 0 if (mean.mean or 0) >= 100e3 else 1), mean.mean)

    def ratio(metric: str) -> Entry:
        moved, than = values(of.line.rows, f"{split}/energy_moved_pj"), values(quantized.rows, f"{split}/{metric}")
        found = paired_ratio(moved, than)
        return Entry(shown_ratio(found), found.mean) if found else Entry("-")

    def rate(metric: str) -> Entry:
        mean = Mean.of(values(of.line.rows, f"{split}/{metric}"))
        is_any = metric == "break_even_rate" and (mean.mean or 0) >= 1
        return Entry("any" if is_any else mean.text(1, 3), mean.mean)

    quantized = (twin or of).line
    which = _OWN if twin is None else "itself" if twin is of else f"{quantized.name}, trained"
    return [
        Entry(of.line.name),
        Entry(str(of.bits.activation), of.bits.activation),
        Entry(str(of.bits.weight), of.bits.weight),
        energy(of.line, "energy_pj"),
        energy(of.line, "energy_moved_pj"),
        energy(quantized, "energy_quantized_pj"),
        energy(quantized, "energy_quantized_zeros_pj"),
        Entry(which),
        ratio("energy_quantized_pj"),
        ratio("energy_quantized_zeros_pj"),
        rate("firing_rate"),
        rate("break_even_rate"),
    ]


def caption(comparison: Comparison) -> str:
    """Say what the columns mean, and the prices."""
    profile = comparison.profile
    return (
        "Bits: of an activation, all steps together, and of a weight between the first layer and the last. E1: "
        "compute. E2: with weights, states, streams and activations moved, sums and comparisons. E3: the network of "
        "the same shape that computes once, with activations of as many bits, from its dense count and with its zeros "
        "skipped: of the qrelu of these bits that was trained here, or else of the line itself "
        f"({_OWN}: of inputs that are 0 at every step). Ratios: geometric mean over pairs of the same seed, with its "
        "95 % interval. Break-even rate: the firing rate below which E2 is below the line's own dense E3; none where "
        f"nothing is added per spike. {price_list(profile)}, for E1; {movement_prices(profile)}."
    )
