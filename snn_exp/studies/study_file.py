"""The schema of a study.yaml. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Field, Strict, StringConstraints, create_model

from snn_exp.reporting.claims import CLAIMS, keys_of
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
Space = Annotated[
    dict[Annotated[str, Strict()], Override],
    Field(min_length=1),
    Says("must be a mapping of keys to ranges, such as {optim.lr: 'interval(0.001,0.03)'}"),
]
Sentence = Annotated[str, Strict(), Says("must be a text")]
NameOrNames = Annotated[str | list[str], Says("must be a name or a list of names")]


class _Written(BaseModel):
    """A file written by hand: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class TuningFile(_Written):
    """The grid that all methods tune over, or the space that as many trials of each are drawn from."""

    grid: Grid | None = None
    seeds: Seeds | None = None
    sampler: Sentence | None = None
    trials: Annotated[int, Strict(), Field(ge=2, le=10_000), Says("must be a number of trials from 2")] | None = None
    space: Space | None = None


class SettingFile(_Written):
    """See `spec.Setting`."""

    overrides: OverrideList = []
    grid: Grid | None = None
    tuned_in: Sentence | None = None


class ClaimFile(_Written):
    """The keys of all claims; those that a kind of claim adds stand in its class, see `claims.Claim`."""

    says: Sentence
    test: Sentence
    of: NameOrNames
    places: NameOrNames | None = Field(default=None, alias="in")
    metric: Sentence | None = None
    states: Sentence | None = None
    beside: Sentence | None = None


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
    tuned_as: Annotated[dict[str, Sentence], Says("must be a mapping of methods to methods")] | None = None
    settings: dict[StudyName, SettingFile | None] | None = None
    tuning: TuningFile | None = None
    more_seeds: dict[str, Seeds] | None = None
    exclude: dict[str, Sentence] | None = None
    claims: list[ClaimFile] | None = None
    note: Sentence | None = None


# what a key of a claim may say in the file, before it is read as what it is: see `claims.ClaimKey`
_CLAIM_TYPES: Mapping[str, Any] = {
    "methods": NameOrNames, "setting": Sentence, "metric": Sentence, "number": Any, "margin": Any,
}  # fmt: skip


def claim_keys() -> dict[str, str]:
    """Return the keys that the kinds of claims add, each with what it is."""
    return {name: key.what for kind in CLAIMS for name, key in keys_of(CLAIMS[kind]).items()}


def schemas() -> tuple[type[StudyFile], Mapping[str, type[BaseModel]]]:
    """Return the schema of study.yaml with the keys of all kinds of claims, and the schemas below its keys."""
    keys: dict[str, Any] = {key: (_CLAIM_TYPES[what] | None, None) for key, what in claim_keys().items()}
    claim = create_model("ClaimFile", __base__=ClaimFile, **keys)
    claims: Any = list[claim] | None  # type: ignore[valid-type]
    file = create_model("StudyFile", __base__=StudyFile, claims=(claims, None))
    return file, {"tuning": TuningFile, "settings": SettingFile, "claims": claim}
