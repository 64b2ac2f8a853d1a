"""One line in a terminal while something takes long, of which nothing is left. No torch."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from snn_exp.escaping import PlainConsole, one_line

_working: list[str] = []  # what the line says that is shown now, if one is: there is one at a time


@contextlib.contextmanager
def working(what: str, console: Console | None = None) -> Iterator[None]:
    """Show what is being done, and for how long, while the block runs; nothing where there is no terminal.

    Args:
        what: the errand in a few words, such as "folding, and comparing on the test set".
        console: where to; the standard error output if left out, which no pipe reads along with the results.

    Example:
        >>> with working("counting"):
        ...     sum(range(5))
        10
    """
    shown = console or PlainConsole(file=sys.stderr)
    # in a dumb terminal a line cannot be wiped, and a line of a test or a notebook would stay
    if _working or not shown.is_terminal or shown.is_dumb_terminal or shown.is_jupyter:
        yield
        return
    columns = (SpinnerColumn("line"), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    # what is printed meanwhile stands above the line, and in a pipe stays there
    with Progress(*columns, console=shown, transient=True, redirect_stdout=sys.stdout.isatty()) as line:
        line.add_task(one_line(what), total=None)
        _working.append(what)
        try:
            yield
        finally:
            _working.pop()
