"""Test samples that runs mistake most often, from the predictions that they kept. No torch."""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snn_exp.files import MIB
from snn_exp.reporting.comparison import Line, Panel
from snn_exp.reporting.per_class import MOST_LINES, class_names
from snn_exp.reporting.tables import Entry
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root

MOST_SAMPLES = 25  # of a table
MOST_BYTES = 512 * MIB  # of the predictions of a run
TITLE = f"The test samples that most runs mistake, {MOST_SAMPLES} at most"

# what zipfile, zlib and numpy meet in a file that was cut or made up
_DAMAGES = (
    *(OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, OverflowError, RuntimeError, MemoryError),
    *(NotImplementedError, zipfile.BadZipFile, zlib.error),
)


def table(panel: Panel) -> tuple[list[str], list[list[Entry]]] | None:
    """Return headings and entries of a table with one row per sample, the most mistaken first.

    A sample is named by its place in the test set, which all seeds share. Of each line the row says how many runs
    mistook it, and for what most often.

    None where no run kept its predictions (trainer.keep_predictions=true), where runs disagree on the labels, where
    nothing is mistaken, and where there are more than MOST_LINES lines.
    """
    lines = [line for line in panel.lines if any(row.done for row in line.rows.values())]
    if len(lines) > MOST_LINES:
        return None
    kept = {line.name: _kept(line) for line in lines}
    runs = [run for of in kept.values() for run in of]
    if not runs or any(not np.array_equal(labels, runs[0][0]) for labels, _ in runs):
        return None
    labels_N = runs[0][0]
    times_N = np.sum([guessed != labels_N for _, guessed in runs], axis=0)
    worst = [int(n) for n in np.argsort(-times_N, kind="stable")[:MOST_SAMPLES] if times_N[n]]
    if not worst:
        return None
    names = class_names(lines, 1 + max(int(max(labels.max(), guessed.max())) for labels, guessed in runs))
    several = len([of for of in kept.values() if of]) > 1
    headings = ["sample", "class", *(["runs"] if several else []), *(name for name, of in kept.items() if of)]
    rows = []
    for n in worst:
        row = [Entry(str(n), n), Entry(names[labels_N[n]])]
        row += [Entry(f"{times_N[n]} of {len(runs)}", float(times_N[n]))] if several else []
        for of in filter(None, kept.values()):
            wrong = Counter(int(guessed[n]) for _, guessed in of if guessed[n] != labels_N[n])
            most = f": {names[wrong.most_common(1)[0][0]]}" if wrong else ""
            row.append(Entry(f"{wrong.total()} of {len(of)}{most}", wrong.total()))
        rows.append(row)
    return headings, rows


def _kept(line: Line) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return labels and predicted classes of each run of a line that kept them whole."""
    folders = [RunFolder(output_root() / "runs" / row.result.run_id) for row in line.rows.values() if row.done]
    return [found for folder in folders if (found := _read(folder.predictions)) is not None]


def _read(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    try:
        with zipfile.ZipFile(path) as whole:
            if sum(part.file_size for part in whole.infolist()) > MOST_BYTES:
                return None
        with np.load(path, allow_pickle=False) as stored:
            logits_NK, labels_N = stored["logits"], stored["labels"]
        if logits_NK.ndim != 2 or labels_N.shape != logits_NK.shape[:1] or not labels_N.size:
            return None
        if labels_N.dtype.kind not in "iu" or labels_N.min() < 0 or labels_N.max() >= logits_NK.shape[1]:
            return None
        return labels_N.astype(np.int64), logits_NK.argmax(1).astype(np.int64)
    except _DAMAGES:
        return None
