"""Escape text for output: one function per destination. No torch.

A name, a value, a claim, a question or an error may hold anything, since it may come from a file that somebody has
sent. Each function makes text of it that says the same there and does nothing: no markup, no formula, no escape code.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import math
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

# Besides control characters (Cc) and lone surrogates (Cs): what turns the direction of what stands beside it
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BREAKING = frozenset("\u2028\u2029\ufffe\uffff")


def printable(text: object, keep: str = "") -> str:
    r"""Return text without control characters: they are shown as they are written in Python.

    Args:
        text: anything.
        keep: control characters that stay.

    Example:
        >>> printable("a\x1b[31mb\n")
        'a\\x1b[31mb\\n'
    """
    said = str(text)
    if said.isprintable():  # by far the most, and of nothing that is looked for below
        return said
    return "".join(c if c in keep or not _is_control(c) else ascii(c)[1:-1] for c in said)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _TURNING or character in _BREAKING


def one_line(text: object) -> str:
    r"""Return printable text in which a line break is a space.

    Example:
        >>> one_line("a\n  b\x07")
        'a b\\x07'
    """
    return printable(re.sub(r"\s*[\r\n\v\f\x85\u2028\u2029]+\s*", " ", str(text)))


def terminal(text: object) -> str:
    r"""Return text that a terminal prints and does not obey; line breaks stay.

    Example:
        >>> terminal("a\x1b[2Jb\nc\r")
        'a\\x1b[2Jb\nc\\r'
    """
    return printable(text, keep="\n")


def say(text: object, file: TextIO | None = None, keep: str = "") -> None:
    """Print a message as plain text.

    Args:
        text: the message.
        file: where to; the standard output if left out.
        keep: control characters that stay, besides line breaks.
    """
    out = sys.stdout if file is None else file
    print(encodable(printable(text, keep=f"\n{keep}"), out), file=out, flush=True)


_PLAINER = {
    "±": "+-",
    "\u2212": "-",
    "\u2013": "-",
    "\u2014": "-",
    "\u2026": "...",
    "\u00d7": "x",
    "µ": "u",
    "\u2019": "'",
}


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAINER.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error("plainly", _plainly)


def encodable(text: str, file: TextIO) -> str:
    """Return text with what a stream cannot write in plainer characters, such as +- for ± in ASCII.

    Example:
        >>> import io
        >>> encodable("98.2 ± 0.8 é", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
        '98.2 +- 0.8 ?'
    """
    code = getattr(file, "encoding", None) or "utf-8"
    return text.encode(code, "plainly").decode(code)


def write_plainly(*files: TextIO) -> None:
    """Make streams write what their encoding lacks in plainer characters, where Python would stop with an error."""
    for file in files:
        if isinstance(file, io.TextIOWrapper) and file.errors == "strict":
            file.reconfigure(errors="plainly")


def rich(text: object) -> Text:
    """Return text that rich prints unchanged: no markup, no emoji.

    Example:
        >>> rich("[/] :smile:").plain
        '[/] :smile:'
    """
    return Text(encodable(terminal(text), sys.stdout))


def add_row(table: Table, *cells: object) -> None:
    """Add cells to a table of rich as plain text."""
    table.add_row(*map(rich, cells))


class PlainConsole(Console):
    """A console that prints strings as they are, also those within tables and titles."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **settings})

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return the string as rich text, without control characters."""
        return super().render_str(terminal(text), **settings)

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the command line what becomes of a reader that is gone; rich would end the process."""
        raise BrokenPipeError


def html(value: object) -> object:
    """Return text for an HTML page: printable, and later escaped by jinja2; markup of our own stays.

    Example:
        >>> html("a\\x00b"), html(3)
        ('a\\\\x00b', 3)
    """
    return printable(value, keep="\n\t") if type(value) is str else value


MINUS = "\u2212"
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "±": r"$\pm$", "|": "$|$",
    '"': "''", MINUS: "$-$",
}  # fmt: skip


def latex(text: object) -> str:
    r"""Return text for LaTeX, in a table, a caption or a comment; the minus of a number is a minus.

    Example:
        >>> latex("psp_std & 5 % ± -0.2"), latex("\\input{x}")
        ('psp\\_std \\& 5 \\% $\\pm$ $-$0.2', '\\textbackslash{}input\\{x\\}')
    """
    signed = re.sub(r"(?<![\w.)\]-])-(?=\.?\d)", MINUS, one_line(text))
    return "".join(_LATEX.get(c, c) for c in signed)


def latex_comment(text: object) -> str:
    """Return text that ends with its line, behind a percent sign."""
    return f"% {one_line(text)}"


def markdown(text: object, *, begins: bool = True) -> str:
    r"""Return text for Markdown, in a paragraph, a list or a table; names with _ and intervals in [ ] stay as they are.

    Args:
        text: the text.
        begins: whether a line may begin with it, where - and 1. make a list; a cell of a table begins none.

    Example:
        >>> markdown("psp_std [-0.1, 0.2] < 3 %")
        'psp_std [-0.1, 0.2] < 3 %'
        >>> markdown("a|b [x](javascript:1) <b> `c` *d*")
        'a\\|b [x\\](javascript:1) &lt;b> \\`c\\` \\*d\\*'
    """
    line = one_line(text).strip()
    line = re.sub(r"[\\`*|~$]", r"\\\g<0>", line)
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)  # within a word it emphasises nothing
    line = re.sub(r"\](?=[(\[:])", r"\\]", line)  # a link needs ]( or ][ or ]:
    line = re.sub(r"\[(?=[ xX]\]|\^)", r"\\[", line)  # a box of a task, a footnote
    line = re.sub(r"&(?=#?\w+;)", "&amp;", line)
    line = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", line)
    if not begins:
        return line
    line = re.sub(r"^(#{1,6}(?=\s|$)|>|[-+=](?=\s|$|[-+=]))", r"\\\1", line)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)


def markdown_code(text: object) -> str:
    """Return text as a code span of Markdown.

    Example:
        >>> markdown_code("norm=bn"), markdown_code("a`b")
        ('`norm=bn`', '``a`b``')
    """
    line = one_line(text)
    runs = {len(run) for run in re.findall("`+", line)}
    fence = "`" * next(n for n in range(1, len(line) + 2) if n not in runs)
    space = " " if line.startswith("`") or line.endswith("`") or not line.strip() else ""
    return f"{fence}{space}{line}{space}{fence}"


# Characters that a spreadsheet takes for the beginning of a formula, also in the wide forms of eastern keyboards
_FORMULA = re.compile("\\s*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def csv_cell(value: object) -> object:
    """Return a cell of a CSV file in which a spreadsheet reads no formula; numbers stay numbers.

    Example:
        >>> csv_cell("=1+1"), csv_cell("-0.5"), csv_cell(-0.5), csv_cell("bn")
        ("'=1+1", '-0.5', -0.5, 'bn')
    """
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text)) and math.isfinite(float(text))


def csv(frame: pd.DataFrame) -> str:
    """Return a table as CSV: every cell and heading as of `csv_cell`."""
    return frame.map(csv_cell).rename(columns=csv_cell).to_csv(index=False)


def mathtext(text: object) -> str:
    r"""Return a matplotlib label that is not a formula, and that a legend does not omit.

    Example:
        >>> mathtext(r"$\frac{$"), mathtext("_x")
        ('\\$\\frac{\\$', ' _x')
    """
    label = one_line(text).replace("$", r"\$")
    return f" {label}" if label.startswith("_") else label


def file_name(text: object) -> str:
    """Return a name of a file: letters, digits and a few signs, of a length that every file system allows.

    Example:
        >>> file_name("neuron=lif,plif_norm=bn"), file_name("pareto_digits_pre_d20")
        ('neuron=lif,plif_norm=bn', 'pareto_digits_pre_d20')
        >>> file_name("../../x")
        'x-9cdf6a50'
    """
    given = str(text)
    name = re.sub(r"[^A-Za-z0-9_.,=+-]+", "-", given).strip(".-")
    if name and name == given and len(name) <= 80:
        return name
    digest = hashlib.sha256(given.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return f"{name[:70]}-{digest}" if name else digest
