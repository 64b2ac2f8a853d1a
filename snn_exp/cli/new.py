"""`snn-exp new`: write a small package with one part of one's own, its test and a README. No torch."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from pathlib import Path

from snn_exp.cli.parsing import command_parser
from snn_exp.config import schemas
from snn_exp.errors import UserError, unknown
from snn_exp.escaping import say
from snn_exp.files import printable

KINDS = ("neuron", "norm", "surrogate", "dataset", "network")
TEMPLATES = Path(__file__).parent / "templates"


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp new`."""
    parser = command_parser("new", "Write a package with a part of your own: class, test, README, entry point.")
    parser.add_argument("kind", help=", ".join(KINDS))
    parser.add_argument("name", help="as you will type it: neuron=NAME")
    parser.add_argument("--into", default=".", metavar="FOLDER", help="where the package's folder goes; default: here")
    given = parser.parse_args(arguments)
    folder = write_package(given.kind, given.name, Path(given.into))
    say(f"written: {folder}")
    say(f"  {folder / f'snn_{given.name}.py'}: the class; change it")
    say(f"now: pip install -e {folder}; {_first_run(given.kind, given.name)}")
    return 0


def _first_run(kind: str, name: str) -> str:
    data = "" if kind == "dataset" else " dataset=digits_200"
    return f"snn-exp train {kind}={name}{data} depth=d8 trainer.max_epochs=5"


def write_package(kind: str, name: str, into: Path) -> Path:
    """Write the package of a new part; return its folder.

    Args:
        kind: one of KINDS.
        name: letters, digits and underscores, as an identifier in lower case.
        into: the folder in which the package's folder is made.

    Raises:
        UserError: no such kind, a name that is taken or is none, a folder that is there already or cannot be written.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS, f"snn-exp new {{}} {printable(name)}")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise UserError(
            f"{printable(name)!r} is not a name for a {kind}: it has up to 40 small letters, digits and _, begins with "
            f"a letter and is no word of Python; type snn-exp new {kind} my_{kind}"
        )
    taken = schemas.load()[kind]
    if name in taken or name in ("auto", "none", "null"):
        raise UserError(f"there is a {kind} {name} already; type another name, such as snn-exp new {kind} my_{name}")
    folder = into / f"snn_{name}"
    if folder.exists():
        raise UserError(f"{folder} is there already; type another name, or --into another folder")
    words = {
        "kind": kind,
        "name": name,
        "dashed": name.replace("_", "-"),
        "train": _first_run(kind, name),
        "Class": "".join(word.capitalize() for word in name.split("_")),
    }
    try:
        for template, file in (
            (f"{kind}.py", f"snn_{name}.py"),
            ("test.py", f"tests/test_{name}.py"),
            ("pyproject.toml", "pyproject.toml"),
            ("README.md", "README.md"),
        ):
            text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(re.sub("@([A-Za-z]+)@", lambda found: words[found[1]], text), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); type --into and a folder that can") from None
    return folder
