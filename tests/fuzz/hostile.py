"""What a person, an accident or a stranger may put into a value or a file."""

from __future__ import annotations

import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# what must never come out of a report, a table or a terminal as it went in; `judging` looks for these
SCRIPT = "</script><script>alert(1)</script>"
FORMULA = "=cmd|' /C calc'!A0"
LATEX = "\\input{/etc/passwd}"
ESCAPE = "\x1b[2J\x1b[31mred"

TEXTS = (
    "", " ", "\n", "\t", "a b", "ü", "日本語", "🙂", "\u202eabc", "\u200b", "\ufeff", "\udcff", "\x07", ESCAPE, "\x9b31m", SCRIPT,
    FORMULA, "+1+1", "-2+3", "@SUM(A1)", LATEX, "$\\frac{$", "$x^$", "a_b^c%&#{}", "[/]", "[red]", "[link=file:///]", "[bold", "| a | b |",
    "../../outside/x", "/etc/passwd", "a/../../../outside/x", "x" * 300, "%s%n", "{0}", "${seed}", "null", "true", "nan", "1e5", "0x10",
    "'", '"', "\\", "`touch x`", "$(touch x)", "; touch x", "--help", "-m", "__class__", "**x**", "# h", "a,b", "a=b", "a:b",
)  # fmt: skip

NUMBERS = (
    0, -0.0, -1, 1, 2, 2**31, 2**32, 2**32 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"),
    float("-inf"), 1.7976931348623157e308, 3.999999999, 1e9, 1e-9, 20000, 1000000,
)  # fmt: skip


def text(rng: random.Random) -> str:
    if rng.random() < 0.8:
        return rng.choice(TEXTS)
    letters = "abAB01 _-.,:;=+*/\\|'\"`$(){}[]<>~@#%&!?^\n\tüß∂🙂\x00\x01\x1b\x7f\x85\u2028\udc80"
    return "".join(rng.choice(letters) for _ in range(rng.randint(1, 24)))


def nested(depth: int, of: str = "[]") -> str:
    return of[0] * depth + of[1] * depth


def leaf(rng: random.Random) -> Any:
    """A value of the wrong kind, most likely."""
    return rng.choice(
        (
            lambda: None,
            lambda: rng.choice((True, False)),
            lambda: rng.choice(NUMBERS),
            lambda: text(rng),
            lambda: [],
            lambda: {},
            lambda: [text(rng), rng.choice(NUMBERS)],
            lambda: {text(rng): rng.choice(NUMBERS)},
            lambda: [[[[[]]]]],
            lambda: "x" * 100_000,
            lambda: str(rng.choice(NUMBERS)),
        )
    )()


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key in value:
            found += _places(value[key], (*path, key))
    elif isinstance(value, list):
        for number in range(min(len(value), 3)):
            found += _places(value[number], (*path, number))
    return found


def retouched(rng: random.Random, value: Any) -> tuple[Any, str]:
    """A JSON-like value with one to three changes, and what they are. The value itself is changed."""
    said = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(value)
        if not places:
            return leaf(rng), "all of it replaced"
        # a place near the top as often as one among the many far down
        wanted = rng.randint(1, max(map(len, places)))
        path = rng.choice([p for p in places if len(p) <= wanted])
        parent = value
        for step in path[:-1]:
            parent = parent[step]
        what = rng.choice(("drop", "null", "retype", "retype", "text", "number", "rename", "add", "wrap", "negate"))
        if what == "drop":
            del parent[path[-1]]
        elif what == "null":
            parent[path[-1]] = None
        elif what == "retype":
            parent[path[-1]] = leaf(rng)
        elif what == "text":
            parent[path[-1]] = text(rng)
        elif what == "number":
            parent[path[-1]] = rng.choice(NUMBERS)
        elif what == "wrap":
            parent[path[-1]] = rng.choice(([parent[path[-1]]], {"x": parent[path[-1]]}))
        elif what == "negate" and isinstance(parent[path[-1]], int | float):
            parent[path[-1]] = -parent[path[-1]]
        elif what == "rename" and isinstance(parent, dict):
            parent[text(rng)] = parent.pop(path[-1])
        elif isinstance(parent, dict):
            parent[text(rng)] = leaf(rng)
        said.append(f"{what} {'.'.join(map(str, path))}")
    return value, "; ".join(said)


def json_text(value: Any) -> str:
    return json.dumps(value)  # NaN and Infinity as Python writes them; surrogates as \udcff


def _cut(rng: random.Random, path: Path) -> str:
    content = path.read_bytes()
    at = rng.randint(0, len(content))
    path.write_bytes(content[:at])
    return f"cut at byte {at} of {len(content)}"


def _flip(rng: random.Random, path: Path) -> str:
    content = bytearray(path.read_bytes())
    if not content:
        return "left empty"
    at = [rng.randrange(len(content)) for _ in range(rng.choice((1, 1, 3, 30)))]
    for place in at:
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))
    return f"bits flipped in bytes {at[:3]}"


def _fill(content: bytes, said: str) -> Callable[[random.Random, Path], str]:
    def fill(rng: random.Random, path: Path) -> str:
        path.write_bytes(content)
        return said

    return fill


def _gone(rng: random.Random, path: Path) -> str:
    path.unlink()
    return "removed"


def _folder(rng: random.Random, path: Path) -> str:
    path.unlink()
    path.mkdir()
    if rng.random() < 0.5:
        (path / "x").write_text("x")
    return "a folder in its place"


def _fifo(rng: random.Random, path: Path) -> str:
    path.unlink()
    os.mkfifo(path)
    return "a FIFO in its place"


def _link(to: str, said: str) -> Callable[[random.Random, Path], str]:
    def link(rng: random.Random, path: Path) -> str:
        path.unlink()
        path.symlink_to(to)
        return said

    return link


def _loop(rng: random.Random, path: Path) -> str:
    path.unlink()
    path.symlink_to(path.name)
    return "a link to itself"


def _out(rng: random.Random, path: Path) -> str:
    """The content lies outside the output root, and a link points there."""
    outside = box_of(path) / "outside" / f"{path.parent.name}-{path.name}"
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)
    return "a link to the same content outside"


def _zip(rng: random.Random, path: Path) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload(box_of(path) / "canary" / "zip"))
        archive.writestr("archive/version", "3\n")
        archive.writestr("../../outside/slip", "x")
    return "a zip of other content"


def _pickle(rng: random.Random, path: Path) -> str:
    path.write_bytes(payload(box_of(path) / "canary" / "pickle"))
    return "a pickle that runs a command"


def payload(canary: Path) -> bytes:
    """A pickle that touches a file when it is read."""
    return f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode()


def box_of(path: Path) -> Path:
    """The box in which a file lies."""
    return next(parent for parent in path.parents if (parent / "canary").is_dir())


ACCIDENTS: tuple[tuple[float, Callable[[random.Random, Path], str]], ...] = (
    (2, _fill(b"", "emptied")),
    (3, _cut),
    (3, _flip),
    (1, _fill(b"\x00" * 4096, "4096 zeros")),
    (1, _fill(b"\xff\xfe\x00garbage\x80\x81", "bytes that are no UTF-8")),
    (1, _fill(b"null", "null")),
    (1, _fill(b"[]", "a list")),
    (1, _fill(b"{}", "{}")),
    (1, _fill(b'"x"', "a word")),
    (1, _fill(nested(100_000).encode(), "100,000 brackets")),
    (1, _fill(('{"a":' * 50_000 + "1" + "}" * 50_000).encode(), "50,000 braces")),
    (1, _fill(b'{"a": ' + b"9" * 10_000 + b"}", "a number of 10,000 digits")),
    (1, _fill(b"\xef\xbb\xbf{}", "a byte order mark")),
    (1, _gone),
    (1, _folder),
    (1.5, _fifo),
    (1, _loop),
    (1, _link("/dev/zero", "a link to /dev/zero")),
    (0.5, _link("/dev/urandom", "a link to /dev/urandom")),
    (0.5, _link("/proc/self/mem", "a link to /proc/self/mem")),
    (1, _link("nowhere", "a link to nowhere")),
    (1.5, _out),
    (1, _zip),
    (1, _pickle),
)  # fmt: skip


def accident(rng: random.Random, path: Path) -> str:
    """Something happens to a file; what."""
    kinds = [what for _, what in ACCIDENTS]
    return f"{path.name}: " + rng.choices(kinds, [weight for weight, _ in ACCIDENTS])[0](rng, path)
