"""`snn-exp data`: which data sets there are, where they were looked for, and what brings them. No torch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from snn_exp.cli.parsing import command_parser, print_table
from snn_exp.config import data_files, schemas
from snn_exp.errors import UserError, unknown
from snn_exp.escaping import add_row, say
from snn_exp.registry import Option
from snn_exp.runs.paths import data_root
from snn_exp.waiting import working

ACTIONS = ("check", "fetch")


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp data`."""
    parser = command_parser("data", "List the data sets; check or fetch one of them.")
    parser.add_argument("action", nargs="?", help="check: read one as a run would; fetch: bring its files")
    parser.add_argument("name", nargs="?", help="a data set, such as fashion_mnist")
    parser.add_argument("overrides", nargs="*", help="of the check, such as dataset.num_train=1000")
    given = parser.parse_intermixed_args(arguments)
    options = schemas.load()["dataset"]
    if given.action is None:
        print_table(table(), ("where", "licence", "size"), ("where",), "snn-exp data check NAME says where", width=160)
        return 0
    if given.action not in ACTIONS:
        raise unknown("action", given.action, ACTIONS, "snn-exp data {}")
    if given.name not in options:
        raise unknown("dataset", str(given.name), options, f"snn-exp data {given.action} {{}}")
    if given.action == "check":
        return check(given.name, given.overrides)
    if given.overrides:
        raise UserError(f"{given.overrides[0]} is more than fetch takes; type snn-exp data fetch {given.name}")
    return fetch(given.name)


def table() -> Table:
    """Return a table with one row per data set."""
    drawn = Table(title="data sets", title_justify="left")
    for heading in ("dataset", "state", "size", "licence", "where", "what brings it"):
        drawn.add_column(heading, justify="right" if heading == "size" else "left", overflow="fold")
    for name, option in sorted(schemas.load()["dataset"].items()):
        found = look(name)
        add_row(
            drawn, name, found.state, _size(option, found), str(option.traits["licence"]) or "-",
            _where(option, found), brings(option, found),
        )  # fmt: skip
    return drawn


def look(name: str) -> data_files.Found:
    """Look for a data set under the data root and where a package of the system would put it."""
    traits = schemas.load()["dataset"][name].traits
    if traits["checks"] or traits["embedded"] or traits["own"]:
        return data_files.look(traits, data_root())
    there = schemas.registry_of("dataset")[name].is_present(data_root())  # a guest that does not list its files
    return data_files.Found("present" if there else "missing")


def brings(option: Option, found: data_files.Found) -> str:
    """Return the one command that brings a data set; for the user's own, how it is chosen."""
    if option.traits["own"]:
        return f"dataset={option.name} dataset.path=..."
    if found.state in ("embedded", "present"):
        return "-"
    package, system_folder = option.traits["package"], Path(option.traits["system_folder"])
    if data_files.is_of_a_wheel(str(option.traits["system_folder"])):
        return data_files.wheel_command(package)
    if package and shutil.which("apt-get"):
        is_there = any(path.is_relative_to(system_folder) for path in found.faults)
        return f"apt-get install {'--reinstall ' if is_there else ''}{package}"
    return f"snn-exp data fetch {option.name}"


def _size(option: Option, found: data_files.Found) -> str:
    if found.files:
        return f"{found.size / 2**20:,.0f} MiB"
    mib = option.traits["download_mib"]
    return f"{mib:,} MiB" if mib else "-"


def _where(option: Option, found: data_files.Found) -> str:
    if found.state == "embedded":
        return "with scikit-learn"
    if found.state == "own":
        return "dataset.path"
    if found.faults:
        return "; ".join(f"{path} {why}" for path, why in found.faults.items())
    if found.files:
        return str(found.folder)
    return " and ".join(map(str, data_files.places(option.traits["system_folder"], data_root())))


def check(name: str, overrides: Sequence[str]) -> int:
    """Check the files of a data set, then read and split it as a run would.

    Raises:
        UserError: it is missing or damaged, or its parts are.
    """
    option, found = schemas.load()["dataset"][name], look(name)
    for path in found.files.values():
        say(f"{path}: {found.faults.get(path, 'as published')}")
    if found.state in ("missing", "damaged"):
        where = "it was looked for in " if found.state == "missing" else ""
        raise UserError(
            f"dataset={name} is {found.state}: {where}{_where(option, found)}; type {brings(option, found)}, or set "
            f"SNN_EXP_DATA to a folder with it"
        )

    from snn_exp.config.compose import compose

    config = compose([f"dataset={name}", *overrides])
    with working(f"reading dataset={name}"):
        from snn_exp.data.base import make_dataset  # with torch

        read = make_dataset(config.dataset, data_root(), config.seed, config.num_steps)
    c, h, w = read.in_shape
    form = f"{h} x {w} pixels"
    if option.traits["is_series"]:
        form = f"{config.num_steps} step{'s' if config.num_steps > 1 else ''} of {w} point{'s' if w > 1 else ''}"
    say(
        f"dataset={name}: {len(read.train):,} training, {len(read.val):,} validation and {len(read.test):,} test "
        f"samples of {form} and {c} channel{'s' if c > 1 else ''}, {read.num_classes} classes"
    )
    return 0


def fetch(name: str) -> int:
    """Bring the files of a data set.

    Raises:
        UserError: they cannot be fetched, or those that are there are damaged.
    """
    option = schemas.load()["dataset"][name]
    if option.traits["own"]:
        raise UserError(f"dataset={name} is of files of your own; type {brings(option, look(name))}")
    if look(name).state not in ("embedded", "present"):
        say(f"dataset={name}: fetching {_size(option, data_files.Found('missing'))} into {data_root()}")
        schemas.registry_of("dataset")[name].prepare(data_root())
    say(f"dataset={name}: {_where(option, look(name))}")
    return 0
