"""Files of `snn-exp pack` that somebody sent, of which something has become on the way."""

from __future__ import annotations

import random
import shutil
import stat
import warnings
import zipfile
from pathlib import Path

from tests.fuzz import hostile, runs
from tests.fuzz.base import run_folders
from tests.fuzz.box import Box
from tests.fuzz.calls import Call

NAMES = (
    "../../outside/x", "/tmp/x", "runs/../x", "runs\\x", "x", "runs/0123456789/best.ckpt", "runs/0123456789/", "studies/tiny/study.yaml", "studies/../x/study.yaml",
    "studies/mine/study.yaml", "studies/mine/results.jsonl", "studies/mine/figures/x.png", "studies/mine/figures/../../x.png", "README.md", "runs/0123456789/manifest.json",
    "", "a\x1b[31m", "x" * 400,
)  # fmt: skip


def case(rng: random.Random, box: Box) -> tuple[str, Call]:
    """A packed file with something wrong in it; what, and the command that reads it."""
    (path,) = (box / "out" / "packed").glob("*.zip")
    run = path.stem
    work = box / "tmp" / "packed"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(work)
    said = []
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        file = rng.choice(sorted(each for each in work.rglob("*") if each.is_file() and not each.is_symlink()))
        said.append(f"{file.relative_to(work)}: {runs.tamper_file(rng, file, box)}")
    _pack(rng, work, path, said)
    if rng.random() < 0.25:
        said.append(f"the file: {hostile.accident(rng, path)}")
    here = rng.random()
    if here < 0.6:
        shutil.rmtree(box.runs / run)
        said.append("the run is not here")
    elif here < 0.8:
        said.append(f"here: {runs.tamper(rng, box.runs / run, box)}")
    others = tuple(f"out/runs/{folder.name}*" for folder in run_folders(box) if folder.name != run)
    return "; ".join(said), Call(("unpack", str(path)), (f"out/runs/{run}*", "studies/mine*"), others)


def _pack(rng: random.Random, work: Path, path: Path, said: list[str]) -> None:
    """Write an archive of what is in a folder, and perhaps of what no one packs."""
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(work.rglob("*")):
            name = file.relative_to(work).as_posix()
            if file.is_symlink():
                link = zipfile.ZipInfo(name)
                link.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(link, str(file.readlink()))
            elif file.is_file():
                archive.writestr(name, file.read_bytes())
        if rng.random() < 0.3:
            name = rng.choice((*NAMES, hostile.text(rng))).replace("\x00", "").encode(errors="replace").decode()
            content = rng.choice((b"", b"x", bytes(2**24 + 1), hostile.text(rng).encode(errors="replace")))
            said.append(f"beside them {name!r}")
            archive.writestr(name or "x", content)
