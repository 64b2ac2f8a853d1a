"""Accuracy of each class over the lines of a panel, from the confusion matrices of their runs. No torch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from snn_exp.reporting.comparison import Line, Panel
from snn_exp.reporting.mean import Mean
from snn_exp.reporting.tables import Entry
from snn_exp.runs.row import Row

MOST_LINES = 6  # of one table: beyond, it is wider than a page
SPLIT = "test"
TITLE = "Accuracy of each class on the test set, mean ± sd over the seeds"

Matrix = Sequence[Sequence[int]]  # samples of a class (row) that were taken for a class (column)


def recalls(confusion: Matrix) -> list[float | None]:
    """Return the accuracy of each class: the share of its samples that were taken for it; None where it has none.

    Example:
        >>> recalls([[3, 1], [0, 0]])
        [0.75, None]
    """
    return [row[k] / sum(row) if sum(row) else None for k, row in enumerate(confusion)]


def macro(confusion: Matrix) -> float:
    """Return the mean over the classes of their accuracies, whatever the number of their samples.

    Example:
        >>> macro([[3, 1], [0, 1]])
        0.875
    """
    return fmean(share for share in recalls(confusion) if share is not None)


def taken_for(confusion: Matrix, names: Sequence[str]) -> list[str]:
    """Return what each class was most often mistaken for, with the share of its samples; "-" where it never was.

    Example:
        >>> taken_for([[3, 1], [0, 4]], ["cat", "dog"])
        ['dog, 25.0 %', '-']
    """
    said = []
    for k, row in enumerate(confusion):
        wrong = {j: count for j, count in enumerate(row) if j != k and count}
        most = max(wrong, key=lambda j: wrong[j], default=None)
        said.append("-" if most is None else f"{names[most]}, {100 * wrong[most] / sum(row):.1f} %")
    return said


@dataclasses.dataclass(frozen=True)
class Matrices:
    """Confusion matrices of a panel.

    Args:
        classes: their names, or their numbers.
        by_line: name of a line -> the matrix of each of its runs.
    """

    classes: Sequence[str]
    by_line: Mapping[str, Sequence[Matrix]]


def matrices(panel: Panel) -> Matrices | None:
    """Return the confusion matrices of a panel.

    None where a line has none, where lines have different classes, and where there are more than MOST_LINES lines.
    """
    lines = [line for line in panel.lines if any(row.done for row in line.rows.values())]
    found = {line.name: _matrices(line) for line in lines}
    sizes = {len(confusion) for of in found.values() for confusion in of}
    if not found or not all(found.values()) or len(lines) > MOST_LINES or len(sizes) != 1:
        return None
    return Matrices(class_names(lines, sizes.pop()), found)


def table(panel: Panel) -> tuple[list[str], list[list[Entry]]] | None:
    """Return headings and entries of a table with one row per class, and one for their mean.

    None where a line has no confusion matrix, and where there are more than MOST_LINES lines. Accuracies are in
    percent, mean ± sd over the seeds; with a single line, the last column says what a class was most often taken for.
    """
    found = matrices(panel)
    if found is None:
        return None
    names, of_lines = found.classes, list(found.by_line.values())
    samples = [sum(row) for row in of_lines[0][0]]
    headings = ["class", "samples", *(f"{line}, %" for line in found.by_line)]
    columns = [_column(of) for of in of_lines]
    rows: list[list[Entry]] = [
        [Entry(name), Entry(str(samples[k]), samples[k]), *(column[k] for column in columns)]
        for k, name in enumerate(names)
    ]
    total = Entry(str(sum(samples)), sum(samples))
    rows.append([Entry("mean of the classes"), total, *(column[-1] for column in columns)])
    if len(of_lines) == 1:
        headings.append("most often taken for")
        summed = [[sum(counts) for counts in zip(*of, strict=True)] for of in zip(*of_lines[0], strict=True)]
        for row, said in zip(rows, [*taken_for(summed, names), ""], strict=True):
            row.append(Entry(said))
    return headings, rows


def _matrices(line: Line) -> list[Matrix]:
    """Return the matrix of each run of a line that ended well; none if one lacks it."""
    ended = [row for row in line.rows.values() if row.done]
    found = [row.result.confusion[SPLIT] for row in ended if SPLIT in row.result.confusion]
    return list(found) if len(found) == len(ended) else []


def class_names(lines: Sequence[Line], num_classes: int) -> list[str]:
    """Return the names of the classes as the runs of some lines state them; numbers where they state none of use."""
    rows: list[Row] = [row for line in lines for row in line.rows.values()]
    stored: Sequence[object] = next((row.result.data["class_names"] for row in rows if row.result.data), [])
    names = [str(name) for name in stored]
    unique = len(names) == num_classes and max(Counter(names).values()) == 1
    return names if unique else [str(k) for k in range(num_classes)]


def _column(matrices: Sequence[Matrix]) -> list[Entry]:
    """Return the accuracy of each class and their mean, over seeds."""
    by_class = list(zip(*map(recalls, matrices), strict=True))
    values = [[share for share in of if share is not None] for of in by_class]
    return [_shown(of) for of in (*values, [macro(confusion) for confusion in matrices])]


def _shown(shares: Sequence[float]) -> Entry:
    mean = Mean.of(dict(enumerate(shares)))
    return Entry(mean.text(100, 1), mean.mean)
