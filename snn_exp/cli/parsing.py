"""Parts that the commands share: the parser, and the width of tables."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from snn_exp.errors import UserError, unknown
from snn_exp.escaping import PlainConsole
from snn_exp.files import printable

RUN = "a run id, the beginning of one, or a run's folder"  # the help of an argument


_OVERRIDES = ("overrides", "words", "what")  # arguments that take key=value: those of a run, and filters


class Described(Exception):
    """Raised in place of parsing inside `describing`: the parser that a command has made.

    Args:
        parser: the parser.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__(parser.prog)
        self.parser = parser


_is_describing = False


@contextlib.contextmanager
def describing() -> Iterator[None]:
    """Let every parser raise `Described` where it would parse, so that a command only says what it takes."""
    global _is_describing
    before, _is_describing = _is_describing, True
    try:
        yield
    finally:
        _is_describing = before


class Parser(argparse.ArgumentParser):
    """Reads the words of a command, and says in a sentence what it cannot read."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, as every way to parse does in the end.

        Raises:
            Described: only the parser is asked for.
        """
        if _is_describing:
            raise Described(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            UserError: with what to type instead.
        """
        if lacking := re.match(r"argument ([-\w/, ]+): expected one argument", message):
            flag = lacking[1].rpartition("/")[2].strip()
            raise UserError(f"{flag} lacks its value, which an = joins to it if it begins with -; type {flag}=VALUE")
        begin, _, words = message.partition("unrecognized arguments: ")
        if begin:
            raise UserError(f"{printable(message, 300)}; type {self.prog} --help to see what it takes")
        first = printable(words.split()[0] if words.split() else words, 120)
        if re.match(r"-+[A-Za-z_][\w./@]*=", first):
            raise UserError(f"{first} is not a flag but an override, which has no dashes; type {first.lstrip('-')}")
        if first.startswith("-") and any(a.dest in _OVERRIDES and a.nargs for a in self._actions):
            from snn_exp.config.experiment import KEYS
            from snn_exp.config.overrides import CHOICES

            word = first.lstrip("-")
            if word.partition(".")[0] in (*CHOICES, *KEYS):
                raise UserError(f"{first} is not a flag but an override, which has no dashes and a =; type {word}=...")
        flags = [flag for action in self._actions for flag in action.option_strings]
        if first.startswith("-"):
            raise unknown("flag", first, flags, f"{self.prog} {{}}")
        raise UserError(f"{first} is more than {self.prog} takes; type {self.prog} --help to see what it does")


def command_parser(command: str, text: str, overrides: bool = False) -> argparse.ArgumentParser:
    """Return the parser of one command.

    Args:
        command: its name.
        text: what it does.
        overrides: whether it takes Hydra's, and further folders of configs.
    """
    parser = Parser(f"snn-exp {command}", description=text)
    if overrides:
        parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as neuron=lif neuron.tau=3")
        parser.add_argument(
            "--config-dir", "-cd", action="append", default=[], help="a further folder of configs; may be repeated"
        )
    return parser


def wide_console(width: int) -> Console:
    """Return a console for tables, as wide as the terminal or COLUMNS; as given where there is neither."""
    is_known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return PlainConsole(width=None if is_known else width)


def print_table(
    table: Table, leave_out: Sequence[str] = (), prose: Collection[str] = (), more: str = "", width: int = 140
) -> None:
    """Print a table as wide as the terminal or COLUMNS; where there is neither, with all its columns.

    Args:
        table: the table.
        leave_out: as in `fitting.show`.
        prose: likewise.
        more: likewise.
        width: where there is no terminal, that of the prose, at most.
    """
    from snn_exp.reporting import fitting

    fitting.show(table, wide_console(max(width, fitting.needed(table, prose))), leave_out, prose, more)
