"""Extension of griffe: show the sections of our docstrings that Google's style does not know as what they are."""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe

SECTION = re.compile(r"^(Equation|Definition|Shapes|Example):\n((?:(?: {4}.*)?\n?)+)", re.MULTILINE)


class Sections(griffe.Extension):
    """Make code of equations, shapes and examples, so that their lines stay as they are."""

    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = SECTION.sub(_as_code, inspect.cleandoc(obj.docstring.value) + "\n").strip()


def _as_code(found: re.Match[str]) -> str:
    language = "pycon" if found[1] == "Example" else "text"
    return f"**{found[1]}**\n\n```{language}\n{inspect.cleandoc(found[2])}\n```\n\n"
