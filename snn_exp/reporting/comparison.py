"""Comparisons of runs: panels, their lines, and the line that each is compared with. No torch.

A panel holds runs that may be compared: the same data and test set. In a study it is a setting, and its lines are the
methods; any other runs are grouped by their choices.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from snn_exp.config.experiment import EnergyConfig
from snn_exp.errors import UserError, unknown
from snn_exp.metrics.data_movement import with_movement
from snn_exp.metrics.energy import with_energy
from snn_exp.runs.choices import row_choices, varying
from snn_exp.runs.filters import owners
from snn_exp.runs.row import Row
from snn_exp.runs.run_files import Result
from snn_exp.runs.store import StoredRun

Rows = Mapping[int, Row]  # seed -> finished run
AUGMENTATION = ("dataset.max_shift", "dataset.flip")  # of the training images alone: what is compared stays the same


@dataclasses.dataclass(frozen=True)
class Line:
    """Runs that differ in the seed alone.

    Args:
        labels: the choices that distinguish it from the other lines of its panel: choice -> value.
        rows: seed -> finished run, with energies among its metrics.
        unfinished: seed -> why there is no finished run.
    """

    labels: Mapping[str, str]
    rows: Rows
    unfinished: Mapping[int, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the labels in a few words, most of which can be typed as overrides.

        Example:
            >>> Line({"neuron": "lif", "norm": "bn", "depth.num_layers": "20", "optim.lr": "0.01"}, {}).name
            'lif bn d20 optim.lr=0.01'
        """
        return " ".join(filter(None, (_word(key, value) for key, value in self.labels.items()))) or "all runs"


def _word(key: str, value: str) -> str:
    """Return the short form of a label; a part that is "none" is left out, unless the comparison is about it."""
    if key in ("method", "neuron", "norm", "residual", "network"):
        return value
    known = {"depth.num_layers": f"d{value}", "encoding.num_steps": f"T={value}", "augment": f"augment={value}"}
    return known.get(key) or ("" if value == "none" else f"{key}={value}")


def _in_order(labels: tuple[str, ...]) -> tuple[tuple[bool, float, str], ...]:
    """Return a sort key that orders numbers by size, before words."""
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
        """Return the line with a name; None if there is none."""
        return next((line for line in self.lines if line.name == name), None)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The data of a report.

    Args:
        title: of the report.
        metric: what is compared.
        panels: in the order in which they are shown.
        profile: the energy per operation.
        margin: of the equivalence tests, in the metric's unit; None: no such test.
        notes: a sentence on each thing that is left out, and why.
        split: the data on which firing rates and operations are compared: test, or val where no run was tested.
    """

    title: str
    metric: str
    panels: Sequence[Panel]
    profile: EnergyConfig
    margin: float | None = None
    notes: Sequence[str] = ()
    split: str = "test"

    @functools.cached_property
    def computed(self) -> dict[int, Any]:
        """Return what is computed of each panel once and read by table, sentence and page: id -> statistics."""
        return {}


def measured(metrics: Mapping[str, float], metric: str) -> bool:
    """Return whether a run has a metric; one that is not a finite number was not measured."""
    return metric in metrics and math.isfinite(metrics[metric])


def values(rows: Rows, metric: str) -> dict[int, float]:
    """Return seed -> metric of the runs that ended with finite weights and have it."""
    return {seed: r.result.metrics[metric] for seed, r in rows.items() if r.done and measured(r.result.metrics, metric)}


def priced(row: Row, profile: EnergyConfig, split: str = "test") -> Row:
    """Return the row with the energies of a split added to its metrics."""
    metrics = with_energy(row.result.metrics, profile, split)
    metrics = with_movement(metrics, split, profile, row.result.config)
    return dataclasses.replace(row, result=dataclasses.replace(row.result, metrics=metrics))


def require_metric(metric: str, rows: Iterable[Row]) -> None:
    """Refuse a metric that no run has.

    Raises:
        UserError: with the metrics there are.
    """
    known = {key for row in rows for key in row.result.metrics if measured(row.result.metrics, key)}
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
    """Group stored runs by their choices: one panel per data set, one line per choice.

    Args:
        runs: the stored runs, in any state.
        metric: what is compared; a run that ended without it is left out, and named.
        by: the choices that distinguish the lines; all that differ between the runs, if left out.
        versus: choice -> value: each line is compared with the one that differs from it in this alone.
        margin: of the equivalence tests.
        profile: the energy per operation.
        title: of the comparison.

    Raises:
        UserError: no run has ended; none has the metric; a choice that no run has; two runs of a line with the same
            seed; the runs to be compared have different data.
    """
    versus = dict(versus or {})
    by = [_usual(key) for key in by]
    notes = [
        f"{run.folder.path} is damaged; snn-exp runs clean state=damaged removes it"
        for run in runs
        if run.state == "damaged"
    ]
    notes += [
        f"{run.folder.path} has no config yet ({run.state})"
        for run in runs
        if run.state not in ("kept", "damaged") and not run.config
    ]
    readable = [run for run in runs if run.state not in ("kept", "damaged") and run.config]
    peeked = [run for run in readable if run.config and run.config["trainer"].get("peek")]
    if peeked and len(peeked) < len(readable):
        readable = [run for run in readable if run not in peeked]
        notes.append(
            f"{len(peeked)} run{'s' if len(peeked) > 1 else ''} with trainer.peek=true left out: the test set was read "
            f"after every epoch; the filter trainer.peek=true reports them alone"
        )
    elif peeked:
        notes.append(
            "trainer.peek=true: the test set was read after every epoch; test/acc is that of the epoch that validation "
            "chose, and --metric peek/best_test_acc what choosing on the test set would have given"
        )
    split = _split_of([run.result for run in readable if run.result])
    found = [_Found.of(run, profile, split) for run in readable]
    ended = [run.row for run in found if run.row]
    if not ended:
        raise UserError(f"none of the {len(runs)} runs asked for has ended; snn-exp runs lists what is stored")
    if any(row.done for row in ended):
        require_metric(metric, ended)
    if without := [run.name for run in found if run.never_has(metric)]:
        some = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
        have = "run ended without it and is" if len(without) == 1 else "runs ended without it and are"
        notes.append(f"{metric}: {len(without)} {have} left out: {some}")
    found = [run for run in found if run.name not in without]
    if not any(run.row for run in found):
        raise UserError(f"no run has {metric}: those that ended diverged and were not to be tested; name val/acc")
    _require_choices(found, by, versus)
    data = [key for key in varying([run.config for run in found]) if _is_data(key)]
    # an interrupted run makes no line of its own: it belongs to an existing one, or is noted
    drawn = [run for run in found if run.row]
    differing = [key for key in varying([run.config for run in drawn]) if key not in data]
    chosen = by or _lines(drawn, differing, ["method"] if "method" in versus else [])
    labels = [key for key in dict.fromkeys((*chosen, *versus)) if not _is_data(key)]
    groups = _grouped(found, data)
    panels = [_panel(" ".join(place), of, labels, versus, notes) for place, of in groups.items()]
    if versus and not any(panel.versus for panel in panels):
        asked = ",".join(f"{key}={value}" for key, value in versus.items())
        lines = "; ".join(line.name for panel in panels for line in panel.lines)
        raise UserError(f"--versus {asked}: no two lines differ in that alone; there are {lines}")
    return Comparison(title, metric, panels, profile, margin, notes, split)


def of_sweep(runs: Sequence[StoredRun], profile: EnergyConfig) -> Comparison:
    """Compare the runs of a sweep, as `of_runs`: by test accuracy, or by validation accuracy where none was tested.

    Args:
        runs: those asked for, in any state.
        profile: the energy per operation.

    Raises:
        UserError: as `of_runs`.
    """
    tested = any("test/acc" in run.result.metrics for run in runs if run.result)
    return of_runs(runs, metric="test/acc" if tested else "val/acc", profile=profile, title="Sweep")


def _split_of(results: Sequence[Result]) -> str:
    """Return the split on which firing rates and operations are compared: test, or val where no run was tested."""
    return "test" if any(key.startswith("test/") for result in results for key in result.metrics) else "val"


def _usual(key: str) -> str:
    """Return a key as it is stored: depth is depth.num_layers, neuron.name is neuron."""
    return "depth.num_layers" if key == "depth" else key.removesuffix(".name")


def _lines(found: Sequence[_Found], differing: Sequence[str], first: Sequence[str]) -> list[str]:
    """Return the choices that distinguish the lines: those given, and those that differ independently of them."""
    if not first:
        return row_choices([run.choices for run in found], differing)
    rows = list(first)
    for key in differing:
        if len(_grouped(found, [*rows, key])) > len(_grouped(found, rows)):
            rows.append(key)
    return rows


@dataclasses.dataclass(frozen=True)
class _Found:
    """A stored run, with its row if it has ended, and otherwise the reason why it has not."""

    run: StoredRun
    row: Row | None
    why: str

    @classmethod
    def of(cls, run: StoredRun, profile: EnergyConfig, split: str) -> _Found:
        row = Row.of_read(run.result, run.manifest, run.folder.epochs()) if run.result else None
        return cls(run, row and priced(row, profile, split), run.folder.failure() or run.state)

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def config(self) -> Mapping[str, Any]:
        return self.run.config

    @functools.cached_property
    def choices(self) -> Mapping[str, str]:
        return {key: value for key, value in self.run.choices.items() if key != "seed"}

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    def never_has(self, metric: str) -> bool:
        """Return whether it ended without the metric, well or untested on purpose; else a diverged run is a loss."""
        if self.row is None or measured(self.row.result.metrics, metric):
            return False
        untested = self.row.execution.get("trainer", {}).get("test") is False
        return self.row.done or (untested and metric.startswith("test/"))


def _require_choices(found: Sequence[_Found], by: Sequence[str], versus: Mapping[str, str]) -> None:
    keys = dict.fromkeys(key for run in found for key in run.choices)
    for key in (*by, *versus):
        if key in keys or key == "method" or any(key in run.run.stored.chosen for run in found):
            continue
        if belongs := owners(key):
            raise UserError(f"no run has {key}, which belongs to {', '.join(belongs[:5])}; name another choice")
        raise unknown("choice", key, keys, "--by {}")
    for key, value in versus.items():
        if _is_data(key):
            raise UserError(f"--versus {key}={value}: runs on other data cannot be compared; leave it out")


def _is_data(key: str) -> bool:
    return key.partition(".")[0] == "dataset" and key not in AUGMENTATION


def _grouped(found: Sequence[_Found], keys: Sequence[str]) -> dict[tuple[str, ...], list[_Found]]:
    groups: dict[tuple[str, ...], list[_Found]] = {}
    for run in found:
        groups.setdefault(tuple(run.run.label(key) for key in keys), []).append(run)
    return groups


def _panel(
    place: str, found: Sequence[_Found], keys: Sequence[str], versus: Mapping[str, str], notes: list[str]
) -> Panel:
    groups = _grouped(found, keys)
    of_labels = {of: dict(zip(keys, of, strict=True)) for of in sorted(groups, key=_in_order)}
    seeds = sorted({run.seed for run in found if run.row})
    lines = {of: _line(groups[of], labels, seeds, notes) for of, labels in of_labels.items()}
    _require_one_split(lines.values())
    others = {of: lines.get(tuple({**labels, **versus}.values())) for of, labels in of_labels.items()}
    shared = dict(found[0].choices.items() & set.intersection(*(set(run.choices.items()) for run in found)))
    return Panel(
        name=place or found[0].choices["dataset"],
        about=" ".join(f"{key}={shared[key]}" for key in found[0].choices if key in shared and "." not in key),
        lines=list(lines.values()),
        versus={line.name: other.name for of, line in lines.items() if (other := others[of]) and other is not line},
    )


def _line(found: Sequence[_Found], labels: Mapping[str, str], seeds: Sequence[int], notes: list[str]) -> Line:
    """Make the line of the runs of one choice; seeds that only other lines have are missing here.

    An unfinished run that does not match the finished ones is left out with a note, rather than refused.
    """
    name, by_seed = Line(labels, {}).name, dict[int, _Found]()
    for run in sorted(found, key=lambda run: run.row is None):  # finished runs first
        first = next(iter(by_seed.values()), run)
        other = by_seed.get(run.seed, run if run.row else first)
        ours, theirs = other.choices, run.choices
        key = next((k for k in dict.fromkeys((*ours, *theirs)) if ours.get(k) != theirs.get(k)), "the code alone")
        if run.seed in by_seed and run.row:
            raise UserError(
                f"the runs {other.name} and {run.name} of seed {run.seed} would share the line {name} and differ in "
                f"{key}: {ours.get(key, '-')} and {theirs.get(key, '-')}; add {key} to --by, or filter {key}=..."
            )
        if run.seed in by_seed or ours != theirs:
            notes.append(
                f"run {run.name} of seed {run.seed} has not ended ({run.why}) and is left out of {name}, whose runs "
                f"have another {key}: {ours.get(key, '-')} and not {theirs.get(key, '-')}"
            )
        else:
            by_seed[run.seed] = run
    rows = {seed: run.row for seed, run in sorted(by_seed.items()) if run.row}
    unfinished = {seed: run.why for seed, run in sorted(by_seed.items()) if not run.row}
    return Line(labels, rows, unfinished | {seed: "not run" for seed in seeds if seed not in by_seed})


def _require_one_split(lines: Iterable[Line]) -> None:
    """Refuse runs of the same seed on different splits, which cannot be paired."""
    first: dict[int, tuple[str, str]] = {}
    for line in lines:
        for seed, row in line.rows.items():
            split = row.result.split_fingerprint
            name, other = first.setdefault(seed, (line.name, split))
            if split != other:
                raise UserError(
                    f"{name} and {line.name} of seed {seed} cannot be paired: their split_fingerprint differs ({other} "
                    f"and {split}), so the data have changed between them; train one of them again with --rerun"
                )
