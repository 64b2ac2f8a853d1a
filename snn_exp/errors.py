"""User errors.

A `UserError` is one sentence: what was given, what is allowed, the nearest option, what to type.
The command line prints it without a traceback and exits with code 2. A bug keeps its traceback.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable

from snn_exp.escaping import say


class UserError(Exception):
    """An error that the user can fix; its text is the whole message.

    Args:
        sentence: the message; of a word that fills several lines of a terminal the middle is left out.
    """

    exit_code = 2

    def __init__(self, sentence: str = "") -> None:
        super().__init__(_ENDLESS.sub(lambda word: f"{word[0][:200]}[...]{word[0][-40:]}", sentence))


_ENDLESS = re.compile(r"\S{500,}")


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed word most similar to the given one, if any is similar.

    Example:
        >>> nearest("lfi", ["if", "lif", "relu"])
        'lif'
        >>> nearest("transformer", ["if", "lif"]) is None
        True
    """
    matches = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(what: str, given: str, allowed: Iterable[str], type_this: str = "{}") -> UserError:
    """Return the error for a word that is not allowed.

    Args:
        what: the kind of word, such as "neuron" or "key of norm".
        given: the word.
        allowed: the list.
        type_this: what to type, with {} where the nearest word goes.

    Example:
        >>> print(unknown("neuron", "lfi", ["if", "lif"], "neuron={}"))
        There is no neuron 'lfi'; allowed: if, lif; did you mean lif? Type neuron=lif
    """
    allowed = sorted(allowed)
    guess = nearest(given, allowed)
    hint = f"; did you mean {guess}? Type {type_this.format(guess)}" if guess else ""
    return UserError(f"There is no {what} {given!r}; allowed: {', '.join(allowed) or 'none'}{hint}")


_said: set[str] = set()


def begin_command() -> None:
    """Forget what `say_once` has said; each command says it anew."""
    _said.clear()


def say_once(sentence: str) -> None:
    """Print a note on what a command leaves out, once per command however often it is met."""
    if sentence not in _said:
        _said.add(sentence)
        say(f"snn-exp: {sentence}", file=sys.stderr)
