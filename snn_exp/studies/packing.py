"""One file with a run, or with a study and its runs, to send; and reading such a file, whoever sent it. No torch.

    README.md                        the model card of a run, or the page of a study
    runs/<run_id>/                   manifest.json, metrics.csv, result.json, weights.safetensors, README.md: the card
    studies/<name>/                  study.yaml, results.jsonl, README.md, figures/*.png

A file that was sent is read by the list above: a zip archive whose every entry is a plain file of one of these names,
within its limit. So there is nothing that may be a link, lie outside, or be unpickled. What is in the files is
checked as that of one's own runs, before anything is put in its place.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from snn_exp.errors import UserError
from snn_exp.files import MAX_JSON, MAX_YAML, MIB, Unreadable, printable, require_file, require_writable, whole_file
from snn_exp.runs.folder import DamagedRun, RunFolder
from snn_exp.runs.paths import output_root
from snn_exp.runs.row import MAX_ROWS, read_rows
from snn_exp.runs.run_files import MAX_CSV
from snn_exp.studies import runner, spec
from snn_exp.studies.model_card import model_card

OF_RUN = ("manifest.json", "metrics.csv", "result.json", "weights.safetensors")
MAX_WEIGHTS = 2048 * MIB
MAX_IN_ALL = 8192 * MIB
MAX_ENTRIES = 10_000
_RUN, _STUDY = r"runs/[0-9a-f]{10}", r"studies/[a-z0-9][a-z0-9_.-]{0,99}"
LIMITS = (  # what an archive may hold, and how large it may be
    (re.compile(r"README\.md"), MIB),
    (re.compile(rf"{_RUN}/(manifest|result)\.json"), MAX_JSON),
    (re.compile(rf"{_RUN}/metrics\.csv"), MAX_CSV),
    (re.compile(rf"{_RUN}/weights\.safetensors"), MAX_WEIGHTS),
    (re.compile(rf"({_RUN}|{_STUDY})/README\.md"), MIB),
    (re.compile(rf"{_STUDY}/study\.yaml"), MAX_YAML),
    (re.compile(rf"{_STUDY}/results\.jsonl"), MAX_ROWS),
    (re.compile(rf"{_STUDY}/figures/[A-Za-z0-9_][A-Za-z0-9_.-]{{0,99}}\.png"), 16 * MIB),
)
_DATE = (1980, 1, 1, 0, 0, 0)  # the same content is the same file
CHUNK = MIB


CheckWeights = Callable[[RunFolder], object]


def pack_run(folder: RunFolder, path: Path, licence: str, check_weights: CheckWeights) -> Path:
    """Write a run into one file.

    Args:
        folder: of a run that has weights.
        path: the file.
        licence: of the weights, for the model card.
        check_weights: builds the network of a run and gives it its weights, or raises a UserError.

    Raises:
        UserError: the run is not finished, diverged, is damaged, or lacks a file.
    """
    card = _card(folder, licence)
    check_weights(folder)
    with _archive(path) as archive:
        _add(archive, "README.md", card.encode())
        _add_run(archive, folder, card)
    return path


def pack_study(name: str, path: Path, licence: str, check_weights: CheckWeights) -> tuple[Path, int, int]:
    """Write a study and its final runs into one file; return it, the runs in it, and how many have no weights here.

    Args:
        name: of the study.
        path: the file.
        licence: of the weights, for the model cards.
        check_weights: as in `pack_run`.

    Raises:
        UserError: there is no such study; one of its runs is damaged.
    """
    study = spec.load(name)
    progress = runner.survey(study)
    folders = [RunFolder.of(run.config) for run in progress.finals]
    here = [folder for folder in folders if folder.weights.exists() and folder.result() is not None]
    cards = [_card(folder, licence) for folder in here]
    for folder in here:
        check_weights(folder)
    with _archive(path) as archive:
        for file in ("study.yaml", "results.jsonl", "README.md"):
            if (study.folder / file).exists():
                content = _content(study.folder / file, MAX_ROWS)
                _add(archive, f"studies/{study.name}/{file}", content)
                if file == "README.md":
                    _add(archive, file, content)
        for picture in sorted((study.folder / "figures").glob("*.png")):
            _add(archive, f"studies/{study.name}/figures/{picture.name}", _content(picture, 16 * MIB))
        for folder, card in zip(here, cards, strict=True):
            _add_run(archive, folder, card)
    return path, len(here), len(folders) - len(here)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as scratch, zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
        yield archive


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    archive.writestr(entry, content)


def _add_run(archive: zipfile.ZipFile, folder: RunFolder, card: str) -> None:
    for name in OF_RUN:
        _add(archive, f"runs/{folder.path.name}/{name}", _content(folder.path / name, MAX_WEIGHTS))
    _add(archive, f"runs/{folder.path.name}/README.md", card.encode())


def _content(path: Path, limit: int) -> bytes:
    require_file(path)
    content = path.read_bytes()
    if len(content) > limit:
        raise Unreadable(path, f"is larger than {limit / MIB:g} MiB, and is not packed")
    return content


def _card(folder: RunFolder, licence: str) -> str:
    """Return the model card of a run, whose files must all be there: called before the archive is begun."""
    result = folder.trained()
    _require_one_split(folder)
    if missing := [name for name in OF_RUN if not (folder.path / name).exists()]:
        raise UserError(
            f"run {folder.path.name} cannot be packed: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing in {folder.path}; put it back, or type the run's "
            f"snn-exp train command again with --rerun"
        )
    return model_card(folder.trained_config(), result, folder.manifest(), licence)


def unpack(path: Path, check_weights: CheckWeights) -> list[str]:
    """Read a packed file, check it, and put its runs and its study in their places; return what was done, in lines.

    Args:
        path: the file.
        check_weights: as in `pack_run`.

    Raises:
        UserError: it is no such file, holds anything else, what it holds is damaged, or a run of it is here already,
            of other data or unfinished; then nothing is put anywhere.
    """
    require_writable(output_root())
    scratch = output_root() / f".unpacking_{uuid.uuid4().hex}"
    scratch.mkdir()
    try:
        _extract(path, scratch)
        runs = [RunFolder(folder) for folder in sorted(scratch.glob("runs/*"))]
        studies = sorted(scratch.glob("studies/*"))
        if not runs and not studies:
            raise Unreadable(path, "holds no run and no study; write one with snn-exp pack RUN")
        for run in runs:
            _require_run(path, run, check_weights)
        for study in studies:
            _require_study(path, study)
        for run in runs:
            _require_the_same(path, run, RunFolder(output_root() / "runs" / run.path.name))
        moves = [(run.path, output_root() / "runs" / run.path.name, "run") for run in runs]
        moves += [(study, spec.studies_root() / study.name, "study") for study in studies]
        return [_put(*move) for move in moves]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _put(source: Path, target: Path, what: str) -> str:
    if target.exists() or target.is_symlink():
        stays = _stays(RunFolder(source), RunFolder(target)) if what == "run" else "is here already and stays as it is"
        return f"{what} {source.name} {stays}: {target}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)
    return f"{what} {source.name}: {target}"


def _extract(path: Path, scratch: Path) -> None:
    """Write the entries of an archive, each of which is on the list and within its limit."""
    try:
        require_file(path)
    except FileNotFoundError:
        raise UserError(
            f"{printable(str(path), 200)} is not there; type snn-exp unpack and a file that snn-exp pack wrote"
        ) from None
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _require_entries(path, entries)
            for entry in entries:
                target = scratch / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(path, archive, entry, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        reason = printable(str(error), 120) or type(error).__name__
        raise Unreadable(path, f"is not a file that snn-exp pack wrote, or is damaged ({reason})") from None


def _require_entries(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > MAX_IN_ALL:
        raise Unreadable(
            path, f"is refused: more than {MAX_ENTRIES:,} files, or more than {MAX_IN_ALL // MIB:,} MiB unpacked"
        )
    seen: set[str] = set()
    for entry in entries:
        name = printable(entry.filename, 200)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
            what = "encrypted" if entry.flag_bits & 1 else "a link, or no plain file"
            raise Unreadable(path, f"is refused: {name} in it is {what}")
        if (limit := _limit(entry.filename)) is None:
            raise Unreadable(path, f"is refused: {name} is no file of a run or a study that snn-exp pack writes")
        if entry.file_size > limit:
            raise Unreadable(path, f"is refused: {name} in it has more than {limit // MIB:,} MiB")
        if entry.filename in seen:
            raise Unreadable(path, f"is refused: {name} is in it twice")
        seen.add(entry.filename)


def _limit(name: str) -> int | None:
    return next((limit for pattern, limit in LIMITS if pattern.fullmatch(name)), None)


def _copy(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    """Write an entry, and stop where it is longer than it says."""
    left = entry.file_size
    with archive.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise Unreadable(path, f"is refused: {printable(entry.filename, 200)} is longer than it says")
            file.write(chunk)


def _require_run(path: Path, run: RunFolder, check_weights: Callable[[RunFolder], object]) -> None:
    name = run.path.name
    try:
        if missing := [each for each in OF_RUN if not (run.path / each).exists()]:
            raise UserError(f"{missing[0]} is missing")
        config = run.trained_config()
        if config.run_id != name:
            raise UserError(f"its config is that of run {config.run_id}")
        run.check_stored(config)  # with the config in the manifest
        _require_one_split(run)
        check_weights(run)
    except UserError as error:
        why = error.reason if isinstance(error, DamagedRun) else str(error)
        why = why.replace(f"{run.path}{os.sep}", "").partition("; ")[0]  # what to type is for a run that is here
        raise UserError(
            f"{printable(str(path), 200)} is refused: run {name} in it cannot be read: {why}; ask for the file again"
        ) from None


def _require_one_split(folder: RunFolder) -> None:
    """Refuse a run whose manifest and result are of other data."""
    name = folder.path.name
    if len(splits := dict.fromkeys(folder.split_fingerprints())) > 1:
        manifest, result = (split[:8] for split in splits)
        raise DamagedRun(
            name, f"manifest.json says that it was trained on split {manifest}, and result.json on {result}"
        )


def _require_the_same(path: Path, run: RunFolder, here: RunFolder) -> None:
    """Refuse a run that is here already and of other data, not finished, or damaged."""
    if not os.path.lexists(here.path):
        return
    ours = here.contents().result
    if ours is None:
        raise UserError(
            f"{printable(str(path), 200)} holds run {here.path.name}, which is here already and not finished; type its "
            f"snn-exp train command to finish it, or remove it by `snn-exp runs clean id={here.path.name}`, and then "
            f"snn-exp unpack again"
        )
    theirs = run.trained()
    if ours.split_fingerprint != theirs.split_fingerprint:
        raise UserError(
            f"{printable(str(path), 200)} holds run {here.path.name} trained on split {theirs.split_fingerprint[:8]}, "
            f"and the run that is here already was trained on split {ours.split_fingerprint[:8]}: the data differ; put "
            f"the run here aside by --rerun with its snn-exp train command, or set SNN_EXP_OUTPUT to another folder"
        )


def _stays(run: RunFolder, here: RunFolder) -> str:
    """Return a few words on a run that is here already: the first metric in which the one in the file differs."""
    ours, theirs = (folder.trained().metrics for folder in (here, run))
    name = next((name for name in (*ours, *theirs) if ours.get(name) != theirs.get(name)), None)
    other = f" (in the file {name} is {theirs.get(name)}, here it is {ours.get(name)})" if name else ""
    return f"is here already and stays as it is{other}"


def _require_study(path: Path, folder: Path) -> None:
    try:
        spec.read(folder)
        if (folder / "results.jsonl").exists():
            _, damaged = read_rows(folder / "results.jsonl", folder)
            if damaged:
                raise UserError(damaged[0])
    except FileNotFoundError:
        raise Unreadable(path, f"is refused: study {folder.name} in it has no study.yaml") from None
    except UserError as error:
        raise UserError(f"{printable(str(path), 200)} is refused: study {folder.name} in it: {error}") from None
