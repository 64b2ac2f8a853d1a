"""Types of the fields of stored files: what a value may be, and the sentence where it is not. No torch."""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    StringConstraints,
)
from pydantic_core import CoreSchema, core_schema

from snn_exp.config.constraints import RUN_ID

RUN_FOLDER = re.compile(r"[0-9a-f]{10}(\.kept-\w+)?")  # the latter is what --rerun has put aside
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")  # of a study, a setting, a method: it becomes part of a file's name


class CheckedBy:
    """An annotation: what is checked by a model stays plain data.

    Args:
        model: the schema to check against.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Build the schema."""
        return core_schema.no_info_wrap_validator_function(_check_and_keep, handler.generate_schema(self.model))


def _check_and_keep(value: Any, check: Any) -> Any:
    check(value)
    return value


def _is_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("should have no control characters")
    return text


def _is_date(text: str) -> str:
    datetime.datetime.fromisoformat(text)
    return text


class Says:
    """An annotation: one sentence for all that may be wrong with a value.

    Args:
        sentence: what the value should be.
    """

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Build the schema."""
        return core_schema.custom_error_schema(
            handler(source), custom_error_type="says", custom_error_message=self.sentence
        )


AnyFloat = Annotated[float, Strict()]  # may be infinite or nan, as the loss of a run that diverges
Finite = Annotated[float, Strict(), AllowInfNan(False)]
Cost = Annotated[float, Strict(), Field(ge=0, le=1e15)]
Whole = Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63)]
NaturalInt = Annotated[int, Strict(), Field(ge=0, lt=2**31)]
PositiveInt = Annotated[int, Strict(), Field(ge=1, lt=2**31)]
Text = Annotated[str, Strict(), StringConstraints(max_length=2000), AfterValidator(_is_printable)]
Prose = Annotated[str, Strict()]
Date = Annotated[Text, AfterValidator(_is_date)]
RunId = Annotated[
    str, Strict(), StringConstraints(pattern=f"^{RUN_ID.pattern}$"), Says("should be 10 hex digits, a run id")
]
PartName = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100),
    Says("should be a name of letters, digits, '_', '.' and '-'"),
]
PlainValue = Annotated[
    bool | Whole | Finite | Text | None, Says("should be a finite number, a short text, true, false or null")
]
Figure = Annotated[float, Says("should be a number")]  # as CSV has it


class StoredModel(BaseModel):
    """A file that snn_exp writes: what a later version adds is ignored."""

    model_config = ConfigDict(extra="ignore")
