"""Validation of stored files: read through a schema, or refused in a sentence. No torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from snn_exp.files import MAX_JSON, Unreadable, printable, read_bytes

NEWER = "a newer snn_exp has written it"

T = TypeVar("T")


def read_validated(
    path: Path, within: Path | None, validate: Callable[[bytes], T], what: str, limit: int = MAX_JSON
) -> T:
    """Read a file and validate its content.

    Args:
        path: the file.
        within: the folder that no link may lead out of.
        validate: makes the result of the bytes, or raises pydantic's ValidationError.
        what: what the file should be, such as "a result".
        limit: bytes that it may have.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is not that, or a newer snn_exp has written it.
    """
    content = read_bytes(path, limit, within)
    try:
        return validate(content)
    except ValidationError as error:
        raise not_what_it_should_be(path, what, first_fault(error)) from None


def not_what_it_should_be(path: Path, what: str, reason: str) -> Unreadable:
    """Return the error for a file that is readable but not valid."""
    return Unreadable(path, f"is not {what} ({reason})")


_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not one of its keys",
    "unexpected_keyword_argument": "is not one of its keys",
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type", "dataclass_type"), "should be a mapping"),
}


def first_fault(error: ValidationError) -> str:
    """Return the first fault in a few words: which key, and what it should be."""
    errors = error.errors(include_url=False, include_input=False)
    for one in errors:
        if one["loc"] == ("schema_version",) and one["type"] == "less_than_equal":
            return f"{NEWER}: its schema_version is above {one['ctx']['le']}"
    where = ".".join(str(part) for part in errors[0]["loc"])
    said = what_it_should_be(errors[0])
    return printable(f"{where}: {said}" if where else said, 200)


def what_it_should_be(error: ErrorDetails) -> str:
    """Return what the value should be."""
    said = _WORDS.get(error["type"]) or error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return said.replace("Invalid JSON:", "no JSON:")
