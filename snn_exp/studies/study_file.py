"""The schema of a study.yaml. No torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Field, Strict, StringConstraints

from snn_exp.runs.fields import NAME, PlainValue, Says

Override = Annotated[str, Strict(), StringConstraints(max_length=2000), Says("must be an override such as norm=bn")]
OverrideList = Annotated[
    list[Override], BeforeValidator(lambda given: [] if given is None else given), Says("must be a list of overrides")
]
Seeds = Annotated[
    list[Annotated[int, Strict(), Field(ge=0, lt=2**32)]],
    Field(max_length=100_000),
    Says("must be a list of whole numbers from 0 to 4294967295"),
]
StudyName = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=f"^{NAME.pattern}$", max_length=100),
    Says("must be of a-z, 0-9, '_', '.' and '-', and begin with a letter or digit"),
]
Grid = Annotated[
    dict[Annotated[str, Strict()], Annotated[list[PlainValue], Field(min_length=1), Says("must be a list of values")]],
    Says("must be a mapping of keys to lists of values"),
]
Sentence = Annotated[str, Strict(), Says("must be a text")]
NameOrNames = Annotated[str | list[str], Says("must be a name or a list of names")]


class _Written(BaseModel):
    """A file written by hand: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class TuningFile(_Written):
    """The grid that all methods tune over."""

    grid: Grid | None = None
    seeds: Seeds | None = None


class SettingFile(_Written):
    """See `spec.Setting`."""

    overrides: OverrideList = []
    grid: Grid | None = None
    tuned_in: Sentence | None = None


class ClaimFile(_Written):
    """See `claims.Claim`; which keys a test takes is checked there."""

    says: Sentence
    test: Sentence
    of: NameOrNames
    than: NameOrNames | None = None
    than_in: Sentence | None = None
    places: NameOrNames | None = Field(default=None, alias="in")
    metric: Sentence | None = None
    than_metric: Sentence | None = None
    margin: Any = None
    value: Any = None


class StudyFile(_Written):
    """A study.yaml; see `spec.Study`."""

    question: Sentence
    methods: dict[StudyName, OverrideList]
    seeds: Seeds
    budget_core_hours: Annotated[
        float, Strict(), Field(gt=0, le=1e9), AllowInfNan(False), Says("must be a positive number of core hours")
    ]
    status: Annotated[Literal["claims", "exploratory"], Says("must be claims or exploratory")] = "claims"
    metric: Sentence = "test/acc"
    reference: Sentence | None = None
    base: OverrideList = []
    settings: dict[StudyName, SettingFile | None] | None = None
    tuning: TuningFile | None = None
    more_seeds: dict[str, Seeds] | None = None
    exclude: dict[str, Sentence] | None = None
    claims: list[ClaimFile] | None = None
    note: Sentence | None = None
