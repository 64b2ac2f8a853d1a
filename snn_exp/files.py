"""Files are read within bounds, and written whole or not at all. No torch.

Read a file that somebody may have sent: within bounds, or refused in a sentence. No torch.

A regular file only, since a named pipe or a device may never end; no link that leads out of the folder it is to be
within; no more bytes than its kind of file can have. YAML is data alone, and its depth, its nodes and what its aliases
stand for are counted before anything is made of it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from snn_exp import escaping
from snn_exp.errors import UserError

MIB = 2**20
MAX_JSON = 16 * MIB
MAX_YAML = MIB
MAX_DEPTH = 50  # of YAML: nested lists and mappings
MAX_NODES = 100_000  # of YAML, each alias counted as all that it stands for
MAX_DIGITS = 100  # characters of a number in YAML


class Unreadable(UserError):
    """A file that is not read.

    Args:
        path: the file.
        reason: why, such as "is a named pipe, not a file".
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{printable(str(path), 400)} {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> Any:
        return type(self), (self.path, self.reason)


def printable(text: str, most: int = 80) -> str:
    """Return the text on one line, without control characters, and truncated where it is long.

    Example:
        >>> printable("a\\x1b[31mb")
        'a\\\\x1b[31mb'
    """
    shown = escaping.printable(text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def is_within(path: str | Path, folder: str | Path) -> bool:
    """Return whether a path lies in a folder once all links are followed; a loop of links lies nowhere."""
    try:
        real, outer = os.path.realpath(path), os.path.realpath(folder)
        if Path(real).is_symlink():  # a loop
            return False
        return os.path.commonpath((real, outer)) == outer
    except (OSError, ValueError):
        return False


def require_within(path: Path, folder: Path) -> Path:
    """Refuse a path to write to that does not lie in its folder, by its name or by a link; return it.

    Raises:
        Unreadable: it does not.
    """
    if not _is_plainly_within(path, folder) and not is_within(path, folder):
        raise Unreadable(path, f"leads out of {printable(str(folder), 400)}, so nothing is written there; remove it")
    return path


def read_bytes(path: str | Path, limit: int, within: str | Path | None = None) -> bytes:
    """Read a whole regular file.

    Args:
        path: the file.
        limit: most bytes that it may have.
        within: the folder that no link may lead out of; None: links are followed.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is not a regular file, too large, behind a link that leads out, or may not be read.
    """
    require_file(path, within)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Unreadable(path, "is no file")
            content = file.read(limit + 1)
    except FileNotFoundError:  # gone meanwhile
        raise
    except OSError as error:
        raise Unreadable(path, f"cannot be read ({error.strerror})") from None
    if len(content) > limit:
        raise Unreadable(path, f"is larger than {limit / MIB:g} MiB, the limit for such a file")
    return content


def require_file(path: str | Path, within: str | Path | None = None) -> None:
    """Refuse anything but a regular file, before it is opened: opening a device may have effects.

    Args:
        path: the file.
        within: the folder that no link may lead out of; None: links are followed.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is not a regular file, or is behind a link that leads out.
    """
    try:
        if within is not None and not _is_plainly_within(path, within) and not is_within(path, within):
            raise Unreadable(path, f"is a link that leads out of {printable(str(within), 400)}")
        kind = Path(path).stat().st_mode
    except NotADirectoryError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except FileNotFoundError:
        if Path(path).is_symlink():
            raise Unreadable(path, "is a broken link") from None
        raise
    except (OSError, ValueError) as error:  # the latter of a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Unreadable(path, f"cannot be read ({reason})") from None
    if not stat.S_ISREG(kind):
        raise Unreadable(path, f"is {_KINDS.get(stat.S_IFMT(kind), 'a device')}, not a file")


_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def _is_plainly_within(path: str | Path, folder: str | Path) -> bool:
    """Return whether no part of the path below the folder is a link; cheaper than following all of them."""
    whole, top = os.fspath(path), f"{os.fspath(folder).rstrip('/')}/"
    if not whole.startswith(top):
        return False
    below = whole[len(top) :].split("/")
    if ".." in below:
        return False
    for part in below:
        top = f"{top}{part}"
        try:
            if stat.S_ISLNK(os.lstat(top).st_mode):
                return False
        except FileNotFoundError:
            return True
        top += "/"
    return True


def read_text(path: str | Path, limit: int, within: str | Path | None = None) -> str:
    """Read a whole regular file of UTF-8; as `read_bytes`."""
    try:
        return read_bytes(path, limit, within).decode()
    except UnicodeDecodeError as error:
        raise Unreadable(path, f"is not UTF-8 text (byte {error.start})") from None


def read_yaml(path: str | Path, within: str | Path | None = None) -> Any:
    """Read a YAML file of plain data.

    Args:
        path: the file.
        within: the folder that no link may lead out of; None: links are followed.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: as `read_text`; broken YAML, too deep or too many nodes, an alias within itself, a key twice, a tag
            that is not plain data, or a number that no one would write.
    """
    text = read_text(path, MAX_YAML, within)
    num_nodes(text, path)
    try:
        return yaml.load(text, Loader=_Plain)  # a SafeLoader
    except yaml.YAMLError as error:
        raise Unreadable(path, f"is broken YAML: {_in_words(error)}") from None
    except (ValueError, OverflowError, RecursionError) as error:  # such as a date of month 13
        raise Unreadable(path, f"is broken YAML: {printable(str(error), 120)}") from None
    except (AttributeError, KeyError, TypeError):  # of PyYAML's own, at a !!timestamp or !!int that is none
        raise Unreadable(path, "is broken YAML: it has a tag whose value is of another kind") from None


def num_nodes(text: str, path: str | Path, *, most: int = MAX_NODES, deepest: int = MAX_DEPTH) -> int:
    """Count the nodes of a YAML text, with aliases expanded.

    Args:
        text: the text.
        path: where it was read.
        most: nodes that it may have.
        deepest: nesting levels of lists and mappings that it may have.

    Raises:
        Unreadable: it has more, is broken, or an alias stands within what it stands for.
    """
    try:
        return _counted(yaml.parse(text, Loader=_EVENTS), most, deepest)
    except yaml.YAMLError as error:
        if "nesting depth" in str(error):  # some versions of libyaml have a limit of their own
            raise Unreadable(path, f"is refused: {_too_deep(deepest)}") from None
        raise Unreadable(path, f"is broken YAML: {_in_words(error)}") from None
    except _TooMuch as reason:
        raise Unreadable(path, f"is refused: {reason}") from None


def _too_deep(deepest: int) -> str:
    return f"lists and mappings nested more than {deepest} deep"


class _TooMuch(Exception):
    """YAML beyond what a person writes."""


_EVENTS: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Plain(_EVENTS):  # type: ignore[misc]
    """The safe loader, which makes nothing but plain data, without keys that are written twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Construct a mapping."""
        keys = [
            (key.tag, key.value)
            for key, _ in getattr(node, "value", ())
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge"
        ]
        if len(set(keys)) < len(keys):
            twice = next(key for number, key in enumerate(keys) if key in keys[:number])
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[1]!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)

    def construct_number(self, node: Any) -> Any:
        """Construct a number of few digits."""
        if len(node.value) > MAX_DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of {len(node.value):,} characters", node.start_mark
            )
        kind = node.tag.rpartition(":")[2]
        return self.construct_yaml_int(node) if kind == "int" else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _Plain.add_constructor(f"tag:yaml.org,2002:{_kind}", _Plain.construct_number)


def _counted(events: Iterator[Any], most: int, deepest: int) -> int:
    """Count the nodes, with aliases expanded, and check the depth."""
    sizes: dict[str, int | None] = {}  # of what is anchored; None while it is open
    opened: list[tuple[str | None, int]] = []  # anchor, and nodes before it
    total = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            anchor = str(event.anchor)
            size = sizes.get(anchor, 0)  # an unknown one is refused when it is composed
            if size is None:
                raise _TooMuch(f"the alias *{printable(anchor)} stands for something that holds itself")
            total += size
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, total))
            total += 1
            if event.anchor:
                sizes[event.anchor] = None
            if len(opened) > deepest:
                raise _TooMuch(_too_deep(deepest))
        elif isinstance(event, yaml.CollectionEndEvent):
            closed, before = opened.pop()
            if closed:
                sizes[closed] = total - before
        if total > most:
            raise _TooMuch(f"more than {most:,} values, each alias counted as what it stands for")
    return total


def _in_words(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return printable(" ".join(str(error).split()), 200)
    said = " ".join(filter(None, (error.context, error.problem)))
    said = said.replace("found unhashable key", "found a key that is not a word")
    mark = error.problem_mark or error.context_mark
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return printable(" ".join(said.split()), 200) + where


FULL = (errno.ENOSPC, errno.EDQUOT)
NEEDED_BYTES = 1 << 16  # what is to be free on a disk where something is begun


def require_writable(folder: Path) -> None:
    """Make the folder, or say that it cannot be written.

    Raises:
        UserError: the folder cannot be made or written to, or its disk is full.
    """
    probe = folder / f".write_check_{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(NEEDED_BYTES))
        probe.unlink()
        ignore = folder / ".gitignore"
        if not ignore.exists():
            write_text(ignore, "*\n!.gitignore\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        if error.errno in FULL:
            raise UserError(
                f"the disk of the output folder {folder} is full; make room there, or set SNN_EXP_OUTPUT to another one"
            ) from None
        raise UserError(
            f"the output folder {folder} cannot be written ({error.strerror}); set SNN_EXP_OUTPUT to one that can"
        ) from None


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a whole file or none: the yielded scratch file is renamed at the end."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)  # it may be a link that somebody has put there
    try:
        yield scratch
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    scratch.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a whole JSON file, or none."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, or none."""
    with whole_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a file that `write_json` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is not a JSON mapping.
    """
    content = read_bytes(path, MAX_JSON)
    try:
        read = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unreadable(path, f"is not JSON ({printable(str(error))})") from None
    if not isinstance(read, dict):
        raise Unreadable(path, "is not a JSON mapping")
    return read
