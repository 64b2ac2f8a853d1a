"""Say in a sentence why an argument is not a valid override: where, and what to type. No torch, no Hydra.

Two readers come after each other: the shell takes away its quotes, then Hydra reads KEY=VALUE, in which some characters
mean something. So what has to be quoted is quoted twice: "teacher='method=relu_bn depth=d20'".
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

from snn_exp.errors import nearest
from snn_exp.files import printable

LOOKS_LIKE = "an override looks like neuron=lif or neuron.tau=3"
MAX_CHARACTERS = 20_000
MAX_DEPTH = 20
NEEDS_QUOTES = "=!\"#&'()[]{};<>^`~"  # in a value; so do letters beyond ASCII
_KEY = re.compile(r"(?:\+{1,2}|~)?[A-Za-z_][\w-]*(?:[./][A-Za-z_0-9][\w-]*)*(?:@[\w.:-]*)?", re.ASCII)
_CLOSES = {"(": ")", "[": "]", "{": "}"}

# The syntax of each of Hydra's functions.
USAGE = {
    "range": "range(STOP), range(START,STOP) or range(START,STOP,STEP), of numbers, such as seed=range(5)",
    "choice": "choice(A,B,...), of values, such as neuron=choice(lif,plif)",
    "interval": "interval(LOW,HIGH), of numbers, such as optim.lr=interval(0.001,0.03)",
    "glob": "glob(PATTERN), such as neuron=glob(p*)",
    "sort": "sort(A,B,...) or sort(range(...)), such as seed=sort(3,1,2)",
    "shuffle": "shuffle(A,B,...) or shuffle(range(...)), such as seed=shuffle(range(5))",
    "tag": "tag(WORD,interval(...)), such as optim.lr=tag(log,interval(0.001,0.03))",
    "int": "int(NUMBER), such as seed=int(3)",
    "float": "float(NUMBER), such as optim.lr=float(1)",
    "bool": "bool(true) or bool(false)",
    "str": "str(VALUE), such as logger.project=str(3)",
}


def sentence(argument: str, keys: Iterable[str], options: Mapping[str, Iterable[str]], said: str = "") -> str:
    """Explain in a sentence why an argument cannot be read.

    Args:
        argument: as it was given.
        keys: the groups and keys there are.
        options: group -> its options.
        said: what the parser said; only the name of a function is taken from it.

    Example:
        >>> print(sentence("neuron lif", ["neuron"], {"neuron": ["lif"]}))
        neuron lif has no =; type neuron=lif
        >>> print(sentence("energy.name=a=b", ["energy"], {}))
        energy.name=a=b has a = in its value (character 14), which needs quotes; type "energy.name='a=b'"
        >>> print(sentence("seed=range(5", ["seed"], {}))
        seed=range(5 has a ( (character 11) that no ) closes; close it, or type "seed='range(5'" if it is text; ...
    """
    shown = printable(argument, 120)
    if fault := unreadable(argument):
        return fault
    key, equals, value = argument.partition("=")
    if not argument.strip(" +~"):
        return f"{shown} names nothing; {LOOKS_LIKE}"
    if not equals:
        return f"{shown} has no =; {_with_equals(argument, list(keys), options)}"
    if not key.strip(" +~"):
        return f"{shown} has no key before the =; {LOOKS_LIKE}"
    if not _KEY.fullmatch(key):
        return f"{shown}: {printable(key)} is not a key; {_right_key(key, value, list(keys))}"
    if function := re.search(r"while evaluating '(\w+)\(", said):
        return _function(shown, function[1])
    return f"{shown} {_value(key, value)}"


def unreadable(argument: str) -> str:
    """Return why an argument cannot be parsed at all: too long, not text, too deeply nested; "" if it can."""
    shown = printable(argument, 60)
    if not argument.strip():
        return f"an argument is empty; leave it out: {LOOKS_LIKE}"
    if len(argument) > MAX_CHARACTERS:
        return (
            f"{shown} has {len(argument):,} characters, and an argument may have {MAX_CHARACTERS:,}; a range names "
            f"many values at once: seed=range(1000)"
        )
    for number, c in enumerate(argument, 1):
        if "\udc80" <= c <= "\udcff":
            return f"{shown} has a byte that is not UTF-8 (character {number}); type it in a terminal that writes UTF-8"
        if not c.isprintable():
            return f"{shown} has a character that cannot be shown (character {number}); a value is one line of text"
    if digits := re.search(r"[0-9]{101,}", argument):
        return f"{shown} has a number of {len(digits[0]):,} digits; none here takes more than 100"
    depth = deepest = 0
    for c in argument:
        depth += (c in "([{") - (c in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        return f"{shown} has brackets nested more than {MAX_DEPTH} deep; quote it if it is text"
    return ""


def _with_equals(argument: str, keys: list[str], options: Mapping[str, Iterable[str]]) -> str:
    words = argument.split()
    bare = argument.strip()
    if len(words) == 2 and words[0] in keys:
        return f"type {quoted_for_shell(f'{words[0]}={words[1]}')}"
    if match := re.fullmatch(r"([\w.]+)\s*:\s*(\S+)", bare):
        return f"type {quoted_for_shell(f'{match[1]}={match[2]}')}"
    if bare in options:
        return f"type {bare}={next(iter(sorted(options[bare])))}, say, or snn-exp options {bare} to see what there is"
    if groups := [group for group, names in options.items() if bare in names]:
        return f"type {groups[0]}={bare}"
    if guess := nearest(bare, [*keys, *(f"{g}={n}" for g, names in options.items() for n in names)]):
        return f"did you mean {guess}? {LOOKS_LIKE[0].upper()}{LOOKS_LIKE[1:]}"
    return LOOKS_LIKE


def _right_key(key: str, value: str, keys: list[str]) -> str:
    meant = re.sub(r"[^\w./@+~-]", "", key.lstrip("-")).strip(".")
    head = re.split(r"[./@]", meant.lstrip("+~"))[0]
    if head in keys and _KEY.fullmatch(meant):
        return f"type {_typed(meant, value)}"
    if guess := nearest(head, keys):
        return f"did you mean {guess}? {LOOKS_LIKE[0].upper()}{LOOKS_LIKE[1:]}"
    return LOOKS_LIKE


def _function(shown: str, name: str) -> str:
    if name in USAGE:
        return f"{shown} is not a valid use of {name}; type {USAGE[name]}"
    guess = next((known for known in USAGE if known[:2] == name[:2].lower()), None)
    hint = f"did you mean {guess}? Type {USAGE[guess]}" if guess else "quote the value if it is text"
    return f"{shown}: there is no function {name}; allowed: {', '.join(USAGE)}; {hint}"


def _value(key: str, value: str) -> str:
    """Return the first fault of a value, from the left."""
    offset = len(key) + 2  # of its first character in the argument, counted from 1
    opened: list[tuple[str, int]] = []
    quote, quote_at, was_quoted, last = "", 0, False, ""
    text = _typed(key, value)
    if value.startswith("="):
        return f"has two =; type {_typed(key, value.lstrip('='))}"
    number = 0
    while number < len(value):
        c, at = value[number], number + offset
        if quote:
            if c == "\\":
                number += 1
            elif c == quote:
                quote, was_quoted, last = "", True, c
            number += 1
            continue
        if c == "\\":
            number, last, was_quoted = number + 2, c, False
            continue
        if was_quoted and c not in ",)]}: ":
            return f"continues directly after a quoted text (character {at}); quote all of the value: type {text}"
        if c in "'\"":
            if last and last not in ",([{: ":
                return f"has a {c} within a word (character {at}), which needs quotes; type {text}"
            quote, quote_at = c, at
        elif c == "$" and value[number + 1 : number + 2] == "{":
            end = value.find("}", number)
            if end < 0:
                return f"has a ${{ (character {at}) that no }} closes; name a key in it, such as ${{seed}}"
            number, last = end + 1, "}"
            continue
        elif c in _CLOSES:
            called = re.search(r"(\w+)$", value[:number])
            if c == "(" and not called:
                return f"has a ( that no function stands before (character {at}), which needs quotes; type {text}"
            if c != "(" and last and last not in ",([{: ":
                return f"has a {c} within a word (character {at}), which needs quotes; type {text}"
            opened.append((c, at))
        elif c in _CLOSES.values():
            if not opened:
                return f"has a {c} (character {at}) that nothing opens; take it out, or type {text}"
            if _CLOSES[opened[-1][0]] != c:
                return f"has a {c} (character {at}) where {_CLOSES[opened[-1][0]]} is due; {_close(opened[-1], text)}"
            if last == ",":
                return f"has nothing between a , and a {c} (character {at}); take the , out, or write a value"
            opened.pop()
        elif c == "," and (not last or last in ",([{"):
            return f"has nothing before a , (character {at}); take it out, or write '' for an empty text"
        elif c in NEEDS_QUOTES or ord(c) > 126:
            return f"has a {c} in its value (character {at}), which needs quotes; type {text}"
        last, was_quoted = (last, was_quoted) if c == " " else (c, False)
        number += 1
    if quote:
        return f"has a {quote} (character {quote_at}) that is not closed; close it, or type {text}"
    if opened:
        return f"has a {opened[-1][0]} (character {opened[-1][1]}) that no {_CLOSES[opened[-1][0]]} closes; " + _close(
            opened[-1], text
        )
    if last == ",":
        return f"ends in a ,; take it out: {_typed(key, value.rstrip(', '), quoting=False)}"
    if "{" in value:
        return f"has braces that hold no KEY: VALUE; write {{a: 1, b: 2}}, or type {text} if it is text"
    return f"has a value that cannot be read; type {text} if it is text; {LOOKS_LIKE}"


def _close(opened: tuple[str, int], text: str) -> str:
    return f"close it, or type {text} if it is text; {LOOKS_LIKE}"


def _typed(key: str, value: str, *, quoting: bool = True) -> str:
    """Return the override with its value quoted, as typed in a shell."""
    if not quoting:
        return quoted_for_shell(f"{key}={value}")
    bare = value.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\"":
        bare = bare[1:-1]
    if not re.search(r"[^\w./:+%*@?|-]", bare, re.ASCII):
        return quoted_for_shell(f"{key}={bare}")
    if not re.search(r"['$`!\\]", bare) or ('"' in bare and "'" not in bare and not bare.endswith("\\")):
        return quoted_for_shell(f"{key}='{bare}'")
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), bare)
    return quoted_for_shell(f'{key}="{escaped}"')


def quoted_for_shell(argument: str) -> str:
    """Return an argument as it is typed in a shell.

    Example:
        >>> print(quoted_for_shell("teacher='a b'"), quoted_for_shell("neuron=lif"), quoted_for_shell('x="$a"'))
        "teacher='a b'" neuron=lif 'x="$a"'
    """
    argument = printable(argument, 200)
    if not re.search(r"[^\w./:=+%@,-]", argument, re.ASCII):
        return argument
    if not re.search(r'["$`\\!]', argument):
        return f'"{argument}"'
    return shlex.quote(argument)
