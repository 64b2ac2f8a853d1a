"""`snn-exp completion`: complete commands, choices and runs in bash, zsh and fish. No torch."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from snn_exp.cli.candidates import SHELLS, candidates
from snn_exp.cli.parsing import command_parser
from snn_exp.errors import UserError, unknown
from snn_exp.escaping import one_line, say

TEMPLATES = Path(__file__).parent / "templates"


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp completion`; `answer` is what the scripts ask, with the words of the line that is being typed."""
    if arguments[:1] == ["answer"]:
        return _answer(arguments[1:])
    parser = command_parser(
        "completion",
        'Print what makes a shell complete snn-exp. For bash or zsh, put eval "$(snn-exp completion bash)" into '
        "~/.bashrc, or the same with zsh into ~/.zshrc; for fish, type snn-exp completion fish > "
        "~/.config/fish/completions/snn-exp.fish",
    )
    parser.add_argument("shell", help=", ".join(SHELLS))
    shell = parser.parse_args(arguments).shell
    if shell not in SHELLS:
        raise unknown("shell", shell, SHELLS, "snn-exp completion {}")
    say((TEMPLATES / f"completion.{shell}").read_text(encoding="utf-8").rstrip())
    return 0


def _answer(words: Sequence[str]) -> int:
    """Print one candidate per line, with what it is behind a tab; nothing where nothing is known."""
    with contextlib.suppress(UserError):  # such as a plugin that cannot be imported: the command itself will say so
        for word, what in candidates(words[:-1], words[-1] if words else "").items():
            say(f"{one_line(word)}\t{one_line(what)}" if what else one_line(word), keep="\t")
    return 0
