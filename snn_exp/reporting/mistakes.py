"""Test samples that runs mistake most often, from the predictions that they kept. No torch."""

from __future__ import annotations

import base64
import dataclasses
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from snn_exp.files import MIB
from snn_exp.reporting.comparison import Line, Panel
from snn_exp.reporting.per_class import MOST_LINES, class_names
from snn_exp.reporting.tables import Entry
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root
from snn_exp.runs.run_files import LONGEST_SIDE, MOST_PICTURES

MOST_SAMPLES = 25  # of a table
MOST_BYTES = 512 * MIB  # of the predictions of a run
TITLE = f"The test samples that most runs mistake, {MOST_SAMPLES} at most"

# what zipfile, zlib and numpy meet in a file that was cut or made up
_DAMAGES = (
    *(OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, OverflowError, RuntimeError, MemoryError),
    *(NotImplementedError, zipfile.BadZipFile, zlib.error),
)


@dataclasses.dataclass(frozen=True)
class _Kept:
    """What a run kept of its test.

    Args:
        labels: [N].
        guessed: [N], the class with the largest logit.
        pictures: place in the test set -> pixels [C, H, W], uint8, of samples that it mistook.
    """

    labels: NDArray[np.int64]
    guessed: NDArray[np.int64]
    pictures: Mapping[int, NDArray[np.uint8]]


def table(panel: Panel) -> tuple[list[str], list[list[Entry]]] | None:
    """Return headings and entries of a table with one row per sample, the most mistaken first.

    A sample is named by its place in the test set, which all seeds share, and by its picture where a run kept it. Of
    each line the row says how many runs mistook it, and for what most often.

    None where no run kept its predictions (trainer.keep_predictions=true), where runs disagree on the labels, where
    nothing is mistaken, and where there are more than MOST_LINES lines.
    """
    lines = [line for line in panel.lines if any(row.done for row in line.rows.values())]
    if len(lines) > MOST_LINES:
        return None
    kept = {line.name: _kept(line) for line in lines}
    runs = [run for of in kept.values() for run in of]
    if not runs or any(not np.array_equal(run.labels, runs[0].labels) for run in runs):
        return None
    labels_N = runs[0].labels
    times_N = np.sum([run.guessed != labels_N for run in runs], axis=0)
    worst = [int(n) for n in np.argsort(-times_N, kind="stable")[:MOST_SAMPLES] if times_N[n]]
    if not worst:
        return None
    names = class_names(lines, 1 + max(int(max(run.labels.max(), run.guessed.max())) for run in runs))
    several = len([of for of in kept.values() if of]) > 1
    headings = ["sample", "class", *(["runs"] if several else []), *(name for name, of in kept.items() if of)]
    rows = []
    for n in worst:
        pixels = next((run.pictures[n] for run in runs if n in run.pictures), None)
        row = [Entry(str(n), n, "" if pixels is None else _address(pixels)), Entry(names[labels_N[n]])]
        row += [Entry(f"{times_N[n]} of {len(runs)}", float(times_N[n]))] if several else []
        for of in filter(None, kept.values()):
            wrong = Counter(int(run.guessed[n]) for run in of if run.guessed[n] != labels_N[n])
            most = f": {names[wrong.most_common(1)[0][0]]}" if wrong else ""
            row.append(Entry(f"{wrong.total()} of {len(of)}{most}", wrong.total()))
        rows.append(row)
    return headings, rows


def _address(pixels_CHW: NDArray[np.uint8]) -> str:
    """Return a picture as the address of a PNG that it holds itself."""
    file = io.BytesIO()
    Image.fromarray(pixels_CHW[0] if len(pixels_CHW) == 1 else pixels_CHW.transpose(1, 2, 0)).save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _kept(line: Line) -> list[_Kept]:
    """Return what each run of a line kept whole."""
    folders = [RunFolder(output_root() / "runs" / row.result.run_id) for row in line.rows.values() if row.done]
    return [found for folder in folders if (found := _read(folder.predictions)) is not None]


def _read(path: Path) -> _Kept | None:
    try:
        with zipfile.ZipFile(path) as whole:
            if sum(part.file_size for part in whole.infolist()) > MOST_BYTES:
                return None
        with np.load(path, allow_pickle=False) as stored:
            logits_NK, labels_N = stored["logits"], stored["labels"]
            has_pictures = "pictures" in stored
            places_M = stored["places"] if has_pictures else np.zeros(0, np.int64)
            pictures = stored["pictures"] if has_pictures else np.zeros((0, 1, 1, 1), np.uint8)
        if logits_NK.ndim != 2 or labels_N.shape != logits_NK.shape[:1] or not labels_N.size:
            return None
        if labels_N.dtype.kind not in "iu" or labels_N.min() < 0 or labels_N.max() >= logits_NK.shape[1]:
            return None
        kept = dict(zip(places_M.tolist(), pictures, strict=True)) if _are_pictures(places_M, pictures) else {}
        return _Kept(labels_N.astype(np.int64), logits_NK.argmax(1).astype(np.int64), kept)
    except _DAMAGES:
        return None


def _are_pictures(places_M: NDArray[np.generic], pictures: NDArray[np.generic]) -> bool:
    """Check that these are places in the test set and small pictures, grey or in colour."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
        return False
    if places_M.dtype.kind not in "iu" or places_M.shape != pictures.shape[:1]:
        return False
    return len(pictures) <= MOST_PICTURES and all(0 < side <= LONGEST_SIDE for side in pictures.shape[2:])
