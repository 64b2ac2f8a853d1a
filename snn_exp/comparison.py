"""Which runs stand side by side: panels, lines, and what each line is compared with. No torch.

A panel holds what may be compared: the same data and test set. In a study it is a setting, and its lines are the
methods; any other runs are grouped by what was chosen.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

from snn_exp.config import EnergyConfig
from snn_exp.errors import UserError, unknown
from snn_exp.ledger import Row
from snn_exp.report import choices, row_choices, varying, with_energy
from snn_exp.runs import StoredRun

Rows = Mapping[int, Row]  # seed -> finished run


@dataclasses.dataclass(frozen=True)
class Line:
    """Runs that differ in the seed alone.

    Args:
        labels: what tells it from the other lines of its panel: choice -> value.
        rows: seed -> finished run, with energies among its metrics.
        unfinished: seed -> why there is no finished run.
    """

    labels: Mapping[str, str]
    rows: Rows
    unfinished: Mapping[int, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The labels in a few words, most of which can be typed back.

        Example:
            >>> Line({"neuron": "lif", "norm": "bn", "depth.num_layers": "20", "optim.lr": "0.01"}, {}).name
            'lif bn d20 optim.lr=0.01'
        """
        return " ".join(filter(None, (_word(key, value) for key, value in self.labels.items()))) or "all runs"


def _word(key: str, value: str) -> str:
    """A label as people say it; a part that is not there needs no word, unless it is what is asked about."""
    if key in ("method", "neuron", "norm", "residual", "network"):
        return value
    known = {"depth.num_layers": f"d{value}", "encoding.num_steps": f"T={value}"}
    return known.get(key) or ("" if value == "none" else f"{key}={value}")


def _in_order(labels: tuple[str, ...]) -> tuple[tuple[bool, float, str], ...]:
    """Sorts numbers by size, before words."""
    return tuple(
        (False, float(label), "") if label.replace(".", "", 1).isdigit() else (True, 0.0, label) for label in labels
    )


@dataclasses.dataclass(frozen=True)
class Panel:
    """Lines that may be compared, since they share data and test set.

    Args:
        name: of the panel.
        about: what its runs have in common, as overrides.
        lines: those with a finished run or an unfinished one.
        versus: name of a line -> name of the line that it is compared with.
    """

    name: str
    about: str
    lines: Sequence[Line]
    versus: Mapping[str, str]

    def line(self, name: str) -> Line | None:
        """The line of a name."""
        return next((line for line in self.lines if line.name == name), None)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything a report shows, apart from its words.

    Args:
        title: of the report.
        metric: what is compared.
        panels: in the order in which they are shown.
        profile: what prices the energies.
        margin: of the equivalence tests, in the metric's unit; None: no such test.
        notes: what is not there, and why, a sentence each.
    """

    title: str
    metric: str
    panels: Sequence[Panel]
    profile: EnergyConfig
    margin: float | None = None
    notes: Sequence[str] = ()


def values(rows: Rows, metric: str) -> dict[int, float]:
    """seed -> metric of the runs that ended with finite weights."""
    return {seed: r.result.metrics[metric] for seed, r in rows.items() if r.done and metric in r.result.metrics}


def priced(row: Row, profile: EnergyConfig) -> Row:
    """The row with energies among its metrics."""
    metrics = with_energy(row.result.metrics, profile)
    return dataclasses.replace(row, result=dataclasses.replace(row.result, metrics=metrics))


def require_metric(metric: str, rows: Iterable[Row]) -> None:
    """Refuses a metric that no run has.

    Raises:
        UserError: with the metrics there are.
    """
    known = {key for row in rows for key in row.result.metrics}
    if metric not in known:
        raise unknown("metric", metric, known, "--metric {}")


def of_runs(
    runs: Sequence[StoredRun],
    *,
    metric: str,
    by: Sequence[str] = (),
    versus: Mapping[str, str] | None = None,
    margin: float | None = None,
    profile: EnergyConfig,
    title: str,
) -> Comparison:
    """Stored runs, grouped by what was chosen: a panel for each data set, a line for each choice.

    Args:
        runs: in any state.
        metric: what is compared; a run that ended without it is left out, and named.
        by: the choices that make a line; what differs between the runs, if left out.
        versus: choice -> value: each line is compared with the one that differs from it in this alone.
        margin: of the equivalence tests.
        profile: what prices the energies.
        title: of the comparison.

    Raises:
        UserError: no finished run; no run has the metric; a choice that no run has; two runs of a line with the same
            seed; what is to be compared has other data.
    """
    versus = dict(versus or {})
    current = [run for run in runs if run.state != "kept" and run.config]
    found = {run.name: row for run in current if run.result and (row := Row.of(run.folder))}
    rows = {name: priced(row, profile) for name, row in found.items()}
    if not any(row.done for row in rows.values()):
        raise UserError(f"none of the {len(runs)} runs asked for has ended; snn-exp runs lists what is stored")
    require_metric(metric, rows.values())
    without = [name for name, row in rows.items() if metric not in row.result.metrics and _could_not_have(row)]
    current = [run for run in current if run.name not in without]
    flat = {run.name: choices(run.config) for run in current}
    keys = dict.fromkeys(key for one in flat.values() for key in one)
    for key in (*by, *versus):
        if key not in keys:
            raise unknown("choice", key, keys, "--by {}")
        if _is_data(key) and key in versus:
            raise UserError(f"--versus {key}={versus[key]}: runs on other data cannot be compared; leave it out")
    differing = varying([run.config for run in current])
    data = [key for key in differing if _is_data(key)]
    chosen = list(by) or row_choices(list(flat.values()), [key for key in differing if key not in data])
    lines = [key for key in dict.fromkeys((*chosen, *versus)) if not _is_data(key)]
    panels = []
    for place, group in _grouped(current, flat, data).items():
        groups = _grouped(group, flat, lines)
        members = [_line(groups[labels], flat, labels, lines, rows) for labels in sorted(groups, key=_in_order)]
        every = sorted({seed for line in members for seed in line.rows})
        members = [_with_missing(line, every) for line in members]
        _require_pairs(members)
        names = {tuple(line.labels.items()): line.name for line in members}
        others = {line.name: names.get(tuple({**line.labels, **versus}.items())) for line in members}
        panels.append(
            Panel(
                name=" ".join(place) or flat[group[0].name]["dataset"],
                about=_shared([flat[run.name] for run in group]),
                lines=members,
                versus={name: other for name, other in others.items() if versus and other and other != name},
            )
        )
    if versus and not any(panel.versus for panel in panels):
        asked = ",".join(f"{key}={value}" for key, value in versus.items())
        raise UserError(f"--versus {asked}: no two lines differ in that alone; there are {_named(panels)}")
    notes = [f"{run.folder.path} is damaged; snn-exp runs clean state=damaged removes it"
             for run in runs if run.state == "damaged"]  # fmt: skip
    if without:
        notes.append(f"{len(without)} runs ended without {metric} and are left out: {', '.join(without[:5])}"
                     + (", ..." if len(without) > 5 else ""))  # fmt: skip
    return Comparison(title, metric, panels, profile, margin, notes)


def _could_not_have(row: Row) -> bool:
    """A run that ended well, or was never to be tested, will not bring the metric; one that diverged stays a loss."""
    return row.done or row.execution.get("trainer", {}).get("test") is False


def _is_data(key: str) -> bool:
    return key.partition(".")[0] == "dataset"


def _named(panels: Sequence[Panel]) -> str:
    return "; ".join(line.name for panel in panels for line in panel.lines)


def _grouped(
    runs: Sequence[StoredRun], flat: Mapping[str, Mapping[str, str]], keys: Sequence[str]
) -> dict[tuple[str, ...], list[StoredRun]]:
    groups: dict[tuple[str, ...], list[StoredRun]] = {}
    for run in runs:
        groups.setdefault(tuple(flat[run.name].get(key, "-") for key in keys), []).append(run)
    return groups


def _line(
    runs: Sequence[StoredRun],
    flat: Mapping[str, Mapping[str, str]],
    labels: Sequence[str],
    keys: Sequence[str],
    rows: Mapping[str, Row],
) -> Line:
    name = Line(dict(zip(keys, labels, strict=True)), {}).name
    by_seed: dict[int, StoredRun] = {}
    for run in runs:
        seed = int(run.config["seed"])
        other = by_seed.setdefault(seed, run)
        if other is not run:
            ours, theirs = flat[other.name], flat[run.name]
            key = next(k for k in dict.fromkeys((*ours, *theirs)) if ours.get(k) != theirs.get(k))
            raise UserError(
                f"the runs {other.name} and {run.name} of seed {seed} would share the line {name} and differ in {key}: "
                f"{ours.get(key, '-')} and {theirs.get(key, '-')}; add {key} to --by, or filter {key}=..."
            )
    finished = {seed: rows[run.name] for seed, run in sorted(by_seed.items()) if run.name in rows}
    why = {seed: run.folder.failure() or run.state for seed, run in sorted(by_seed.items()) if seed not in finished}
    return Line(dict(zip(keys, labels, strict=True)), finished, why)


def _with_missing(line: Line, seeds: Sequence[int]) -> Line:
    missing = {seed: "not run" for seed in seeds if seed not in line.rows and seed not in line.unfinished}
    return dataclasses.replace(line, unfinished={**line.unfinished, **missing})


def _require_pairs(lines: Sequence[Line]) -> None:
    """Runs of the same seed must share the split, or they are no pair."""
    for a, b in itertools.pairwise(lines):
        for seed in a.rows.keys() & b.rows.keys():
            ours, theirs = (line.rows[seed].result.split_fingerprint for line in (a, b))
            if ours != theirs:
                raise UserError(
                    f"{a.name} and {b.name} of seed {seed} are no pair: their split_fingerprint differs ({ours} and "
                    f"{theirs}), so the data have changed between them; train one of them again with --rerun"
                )


def _shared(flat: Sequence[Mapping[str, str]]) -> str:
    """What all of them have in common, as overrides; parameters of what differs are left out."""
    common = {key: value for key, value in flat[0].items() if all(one.get(key) == value for one in flat)}
    return " ".join(f"{key}={value}" for key, value in common.items() if "." not in key)
