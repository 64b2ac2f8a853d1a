"""A finished run in one row, as a study keeps it in its results.jsonl. No torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter, ValidationError

from snn_exp.files import MIB, read_bytes
from snn_exp.runs.fields import AnyFloat, CheckedBy, PlainValue, Text
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Result, with_its_metrics
from snn_exp.runs.validation import first_fault

MAX_ROWS = 64 * MIB  # of a results.jsonl
CURVES = ("train/loss", "val/acc", "val/firing_rate")
DIGITS = 6  # significant, of a stored number
MOST_LAYERS = 60  # points that are kept of a curve over the layers
CHANCE = 0.01  # that a right repeat is said not to match its row


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredRow(Result):
    """A line of results.jsonl: a result, and what a study keeps beside it; see `Row`."""

    curves: Annotated[Mapping[str, list[float]], CheckedBy(dict[str, list[AnyFloat]])]
    versions: Annotated[Mapping[str, str], CheckedBy(dict[str, Text])]
    hardware: Annotated[Mapping[str, Any], CheckedBy(dict[str, PlainValue])]
    execution: Annotated[Mapping[str, Any], CheckedBy(dict[str, dict[str, PlainValue]])]
    code: Text


@dataclasses.dataclass(frozen=True)
class Row:
    """A finished run, as a study keeps it.

    Args:
        result: the result; its metrics without those of single layers, its curves over the layers thinned out.
        curves: metric -> one value per epoch.
        versions: package -> version.
        hardware: the hardware that it was computed on.
        execution: how it was done, such as the number of threads.
        code: hash of the package's source.
    """

    result: Result
    curves: Mapping[str, list[float]]
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    execution: Mapping[str, Any]
    code: str

    @classmethod
    def of(cls, folder: RunFolder) -> Row | None:
        """Return the row of a run's folder, or None if the run is not done."""
        contents = folder.contents()
        if contents.result is None:
            return None
        small = dataclasses.replace(contents.result, confusion={}, data=None)  # for a file that is committed
        return cls.of_read(small, contents.manifest, contents.epochs)

    @classmethod
    def of_read(cls, result: Result, manifest: Mapping[str, Any], epochs: Sequence[Mapping[str, str]]) -> Row:
        """Return the row of a run whose files have been read already."""
        return cls(
            result=dataclasses.replace(
                result,
                metrics={k: _rounded(v) for k, v in result.metrics.items() if k.count("/") < 2},
                operations={},  # their totals are among the metrics
                layers={when: {k: _thinned(v) for k, v in of.items()} for when, of in result.layers.items()},
            ),
            curves={k: [_rounded(float(e[k])) for e in epochs] for k in CURVES if epochs and k in epochs[0]},
            versions=manifest.get("versions", {}),
            hardware=manifest.get("hardware", {}),
            execution=manifest.get("execution", {}),
            code=manifest.get("code", ""),
        )

    @classmethod
    def of_stored(cls, line: StoredRow) -> Row:
        """Return the row stored in a line of results.jsonl, the inverse of `to_plain`."""
        plain = {field.name: getattr(line, field.name) for field in dataclasses.fields(line)}
        own = {field.name: plain.pop(field.name) for field in dataclasses.fields(cls) if field.name != "result"}
        return cls(Result(**plain), **own)

    def to_plain(self) -> dict[str, Any]:
        """Return one flat mapping, as stored."""
        own = dataclasses.asdict(self)
        result: dict[str, Any] = own.pop("result")
        return result | own

    @property
    def done(self) -> bool:
        """Return whether the run ended with finite weights."""
        return self.result.status == "done"


_ROW = TypeAdapter(Annotated[StoredRow, AfterValidator(with_its_metrics)])


def read_rows(path: Path, within: Path | None = None) -> tuple[list[StoredRow], list[str]]:
    """Read the rows of a results.jsonl, and name the damaged lines; a torn last line is skipped.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is not a readable file.
    """
    content = read_bytes(path, MAX_ROWS, within)
    rows, damaged = [], []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(row_of_line(line))
        except ValueError as reason:
            if number < len(lines):
                damaged.append(f"line {number} is not a row ({reason})")
    return rows, damaged


def row_of_line(line: bytes) -> StoredRow:
    """Parse a line of a results.jsonl.

    Raises:
        ValueError: it is not a row, with the reason.
    """
    try:
        return _ROW.validate_json(line)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None


def disagreement(stored: Row, again: Row, metric: str, spread: Sequence[float]) -> str | None:
    """Return a sentence if a repeated run does not match its stored row.

    Where versions, hardware, execution and code are the same, every metric must be equal; otherwise the study's metric
    may differ as two seeds of its cell may, by `largest_difference`.

    Args:
        stored: the row of the file.
        again: the row of the run as done now.
        metric: the metric of the study's claims.
        spread: that metric of all stored seeds of the cell.
    """
    run = f"run {stored.result.run_id}, done again,"
    same = all(getattr(stored, what) == getattr(again, what) for what in ("versions", "hardware", "execution", "code"))
    if same:
        differing = sorted(
            k for k in stored.result.metrics if stored.result.metrics[k] != again.result.metrics.get(k, None)
        )
        return f"{run} gives another {', '.join(differing)} on the same machine" if differing else None
    if stored.result.status != again.result.status:
        return f"{run} is {again.result.status} and was {stored.result.status}"
    if metric not in stored.result.metrics:
        return None
    was, now = stored.result.metrics[metric], again.result.metrics.get(metric, float("nan"))
    if abs(now - was) <= (limit := largest_difference(spread)):
        return None
    return (
        f"{run} gives {metric} {now:.4f}, which was {was:.4f}: two seeds of its cell differ by more than {limit:.4f} "
        f"once in {1 / CHANCE:.0f} times"
    )


def largest_difference(spread: Sequence[float]) -> float:
    """Return the difference that two runs of a cell exceed by chance once in 100 times.

    A repeat that parts from its row by a rounding is as another seed: both vary, and the spread is known from n seeds.

    Equation:
        t(1 - CHANCE / 2; n - 1) sqrt(2) sd

    Example:
        >>> round(largest_difference([0.96, 0.97, 0.98]), 3), largest_difference([0.96])
        (0.14, 0.0)
    """
    if len(spread) < 2:
        return 0.0
    from scipy.stats import t  # commands that repeat nothing start without it

    return float(t.ppf(1 - CHANCE / 2, len(spread) - 1)) * math.sqrt(2) * stdev(spread)


def _rounded(value: float, digits: int = DIGITS) -> float:
    return float(f"{value:.{digits}g}")


def _thinned(curve: list[float]) -> list[float]:
    """Thin a curve to at most MOST_LAYERS points: means over windows of an even number of layers.

    Even, since the first and the second weights of a block differ by design.
    """
    window = 2 * math.ceil(len(curve) / MOST_LAYERS / 2) if len(curve) > MOST_LAYERS else 1
    return [_rounded(fmean(curve[i : i + window]), 4) for i in range(0, len(curve), window)]
