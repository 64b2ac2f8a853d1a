"""`snn-exp options`: what can be chosen, read off the menu and the config files. No torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.table import Table

from snn_exp.cli.parsing import command_parser, print_table
from snn_exp.config import schemas
from snn_exp.config.experiment import SETTINGS
from snn_exp.config.hydra_setup import options_of
from snn_exp.config.overrides import CHOICES
from snn_exp.errors import unknown
from snn_exp.escaping import add_row, rich, say
from snn_exp.registry import Parameter, parameters_of


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp options`."""
    parser = command_parser(
        "options", "List what can be chosen: all groups, one group, or one option with its parameters."
    )
    parser.add_argument("what", nargs="?", metavar="GROUP[=OPTION]", help="such as neuron, or neuron=lif")
    parser.add_argument("--json", action="store_true", help="group -> list of names")
    given = parser.parse_args(arguments)

    group, _, name = (given.what or "").partition("=")
    groups = option_names(group or None)
    if name and name not in groups[group]:
        raise unknown(group, name, groups[group], f"snn-exp options {group}={{}}")
    if given.json:
        say(json.dumps(groups, indent=2))
        return 0
    if name:
        say(f"{group}={name}: {summary(group, name)}")
        print_table(of_option(group, name), ("what it is",), ("allowed", "what it is"))
    elif group:
        print_table(of_group(group, groups[group]), ("parameters",), ("what it is", "parameters"))
        say(f"one with all it takes: snn-exp options {group}={groups[group][0]}")
    else:
        print_table(of_all(groups), prose=("options",))
        say("one of them: snn-exp options neuron; one option: snn-exp options neuron=lif")
    return 0


def option_names(group: str | None = None) -> dict[str, list[str]]:
    """Return group -> its options, those of plugins among them, for one group or all.

    Raises:
        UserError: no such group.
    """
    if group is not None and group not in CHOICES:
        raise unknown("group", group, CHOICES, "snn-exp options {}")
    return {g: sorted(options_of(g), key=_natural) for g in ((group,) if group else CHOICES)}


def option_files(group: str | None = None) -> dict[str, dict[str, Path]]:
    """Return group -> option -> its YAML file, for one group or all; parts of plugins have none.

    Raises:
        UserError: no such group.
    """
    return {
        g: {name: file for name in names if (file := options_of(g)[name])} for g, names in option_names(group).items()
    }


def _natural(name: str) -> tuple[str, int]:
    digits = "".join(filter(str.isdigit, name))
    return name.rstrip("0123456789"), int(digits or 0)


def of_all(groups: dict[str, list[str]]) -> Table:
    """Return a table with one row per group: the names of its options."""
    drawn = Table("group", "options")
    for group, names in groups.items():
        add_row(drawn, group, ", ".join(names))
    return drawn


def of_group(group: str, names: Sequence[str]) -> Table:
    """Return a table with one row per option: what it is, and its parameters with their defaults."""
    drawn = Table(title=rich(group), title_justify="left", show_lines=True)
    for heading in ("option", "what it is", "parameters"):
        drawn.add_column(heading, overflow="fold")
    for name in names:
        shown = ", ".join(f"{p.name}={_default(p)}" for p in parameters(group, name))
        add_row(drawn, name, summary(group, name), shown or "-")
    return drawn


def of_option(group: str, name: str) -> Table:
    """Return a table with one row per parameter of an option: default, what is allowed with its unit, and meaning."""
    drawn = Table("parameter", "default", "allowed", "what it is")
    for p in parameters(group, name):
        add_row(drawn, f"{group}.{p.name}", _default(p), p.allowed, p.doc)
    return drawn


def summary(group: str, name: str) -> str:
    """Return an option in one line: the comment of its YAML file, or of a plugin's part its docstring's first."""
    file = options_of(group)[name]
    return comment(file) if file else schemas.load()[group][name].summary


def comment(file: Path) -> str:
    """Return the comment line of a config file."""
    lines = [line[1:].strip() for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return next((line for line in lines if not line.startswith("@package")), "")


def parameters(group: str, name: str) -> tuple[Parameter, ...]:
    """Return the parameters of an option, with its file's values as defaults; none for a bundle of choices."""
    option = schemas.load().get(group, {}).get(name)
    found = parameters_of(SETTINGS[group]) if group in SETTINGS else option.parameters if option else ()
    file = options_of(group)[name]
    sets = yaml.safe_load(file.read_text(encoding="utf-8")) if file else {}
    return tuple(dataclasses.replace(p, default=sets.get(p.name, p.default)) for p in found)


def _default(p: Parameter) -> str:
    if p.default is None:
        return "null"
    if isinstance(p.default, bool):
        return str(p.default).lower()
    return f"{p.default:g}" if isinstance(p.default, float) else str(p.default)
