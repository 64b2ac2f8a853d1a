"""Schemas of the stored files: each is validated when read, or refused in a sentence. No torch.

A run's result.json, manifest.json, failure.json, metrics.csv and owner.json; the committed rows of a study and its
study.yaml; the file by which a sweep hands runs to its jobs; what an exported network says of itself.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Json,
    Strict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from snn_exp.files import MAX_JSON, MIB, Unreadable, printable, read_bytes, read_text

SCHEMA_VERSION = 1
NEWER = "a newer snn_exp has written it"
MAX_CSV = 16 * MIB
MAX_CELLS = 4_000_000  # of a metrics.csv
MAX_SAMPLE = 2**22  # values of one step of a sample
MAX_ROWS = 64 * MIB  # of a results.jsonl

RUN_ID = re.compile(r"[0-9a-f]{10}")
RUN_FOLDER = re.compile(r"[0-9a-f]{10}(\.kept-\w+)?")  # the latter is what --rerun has put aside
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")  # of a study, a setting, a method: it becomes part of a file's name

T = TypeVar("T")


class Kept:
    """An annotation: what is checked by a model stays plain data.

    Args:
        model: the schema to check against.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Build the schema."""
        return core_schema.no_info_wrap_validator_function(_keep, handler.generate_schema(self.model))


def _keep(value: Any, check: Any) -> Any:
    check(value)
    return value


def _is_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("should have no control characters")
    return text


def _is_date(text: str) -> str:
    datetime.datetime.fromisoformat(text)
    return text


class _Says:
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


Number = Annotated[float, Strict()]  # may be infinite or nan, as the loss of a run that diverges
Finite = Annotated[float, Strict(), AllowInfNan(False)]
Cost = Annotated[float, Strict(), Field(ge=0, le=1e15)]
Whole = Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63)]
Natural = Annotated[int, Strict(), Field(ge=0, lt=2**31)]
Count = Annotated[int, Strict(), Field(ge=1, lt=2**31)]
Text = Annotated[str, Strict(), StringConstraints(max_length=2000), AfterValidator(_is_printable)]
Prose = Annotated[str, Strict()]
Date = Annotated[Text, AfterValidator(_is_date)]
RunId = Annotated[
    str, Strict(), StringConstraints(pattern=f"^{RUN_ID.pattern}$"), _Says("should be 10 hex digits, a run id")
]
PartName = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100),
    _Says("should be a name of letters, digits, '_', '.' and '-'"),
]
Scalar = Annotated[
    bool | Whole | Finite | Text | None, _Says("should be a finite number, a short text, true, false or null")
]
Figure = Annotated[float, _Says("should be a number")]  # as CSV has it


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Part(_Model):
    """A group of a config: which option, and its parameters."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar]
    name: PartName


class Settings(_Model):
    """A group without options."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar]


class Encoding(Part):
    """The number of steps is resolved."""

    num_steps: Count


class Depth(Settings):
    """The depth."""

    num_layers: Count


class Trainer(Settings):
    """The length of training."""

    max_epochs: Count


class Config(_Model):
    """A resolved config; `experiment.resolve` checks what goes together."""

    dataset: Part
    encoding: Encoding
    network: Part
    depth: Depth
    residual: Part
    neuron: Part
    surrogate: Part
    synapse: Part
    norm: Part
    weight_norm: Part
    weight_quant: Part
    optim: Part
    trainer: Trainer
    logger: Settings = Field(default_factory=Settings.model_construct)  # what decides nothing may be missing
    energy: Settings = Field(default_factory=Settings.model_construct)
    seed: Annotated[int, Strict(), Field(ge=0, lt=2**63)]
    teacher: RunId | None = None
    experiment: Text | None = None


PlainConfig = Annotated[Mapping[str, Any], Kept(Config)]


# --- a run's folder -------------------------------------------------------------------------------


def _with_finite_figures(metrics: dict[str, float]) -> dict[str, float]:
    """Refuse metrics that are not finite, except a loss and a score: they may overflow with all weights finite."""
    if not math.isfinite(sum(map(abs, metrics.values()))) or max(map(abs, metrics.values()), default=0) > 1e30:
        for key, value in metrics.items():
            if not abs(value) <= 1e30 and not key.endswith(("loss", "score")):
                raise ValueError(f"{key} should be a finite number")
    for key in ("val/acc", "test/acc"):
        if not 0 <= metrics.get(key, 0) <= 1:
            raise ValueError(f"{key} should be a fraction from 0 to 1")
    for split in ("val", "test"):
        if f"{split}/synops_ac" in metrics:
            for count in _COUNTS:
                if f"{split}/synops_{count}" not in metrics:
                    raise ValueError(f"{split}/synops_{count} is missing, and others of its kind are there")
    return metrics


_COUNTS = (
    *(f"{of}{form}" for of in ("ac", "xnor", "mac", "filter_mac", "norm_mac") for form in ("", "_trained")),
    "dense",
    "neuron_updates",
)


def _of_one_network(layers: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    for when, of in layers.items():
        if "variance_theory" in of and len(of["variance_theory"]) != len(of.get("variance", ())):
            raise ValueError(f"{when}: variance and variance_theory should have a value for each layer")
    return layers


def _has_its_metrics(result: Result) -> Result:
    if result.status == "done" and (missing := [k for k in ("val/acc", "val/loss") if k not in result.metrics]):
        raise ValueError(f"metrics: {missing[0]} is missing from a run that is done")
    return result


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run, as stored in result.json.

    Args:
        status: done, or diverged (the loss or a weight was no longer finite).
        metrics: flat, such as test/acc (a fraction) and test/firing_rate (spikes per neuron and time step).
        duration_s: wall time of training, summed over resumed parts; of seeds in step that of all.
        cpu_s: process CPU time of training, summed likewise, and over processes.
        layers: curves over the layers, before ("init") and after ("trained") training: see
            training/layer_statistics.py.
        operations: split -> part -> counts per sample, see `operations.SynapticOperations`; the totals are
            among the metrics as test/synops_ac and so on. Empty for a diverged run.
        peak_memory_mib: highest memory of training: allocated on a GPU, else resident of the process, the first
            of several, and of seeds in step that of all; None where it was not measured.
        compile_s: wall time of torch.compile, the last where a run was resumed; None where nothing was compiled.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    run_id: RunId
    status: Annotated[str, Kept(Literal["done", "diverged"])]
    config: PlainConfig
    metrics: Annotated[Mapping[str, float], Kept(Annotated[dict[str, Number], AfterValidator(_with_finite_figures)])]
    duration_s: Cost
    cpu_s: Cost
    finished_at: Date
    best_epoch: Natural | None
    split_fingerprint: Text
    layers: Annotated[
        Mapping[str, Mapping[str, list[float]]],
        Kept(Annotated[dict[str, dict[str, list[Number]]], AfterValidator(_of_one_network)]),
    ] = dataclasses.field(default_factory=dict)
    peak_memory_mib: Cost | None = None
    compile_s: Cost | None = None
    schema_version: Annotated[int, Strict(), Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    operations: Annotated[
        Mapping[str, Mapping[str, Mapping[str, float]]], Kept(dict[str, dict[str, dict[str, Finite]]])
    ] = dataclasses.field(default_factory=dict)


class Manifest(_Model):
    """The requested config and its execution; a missing field was not recorded at the time."""

    run_id: RunId | None = None
    config: Config = Field(default=None)  # type: ignore[assignment]
    execution: dict[str, dict[str, Scalar]] = {}
    kernels: dict[str, Scalar] = {}
    versions: dict[str, Text] = {}
    code: Text = ""
    git: dict[str, Scalar] = {}
    hardware: dict[str, Scalar] = {}
    started_at: Date = ""
    split_fingerprint: Text | None = None
    test_fingerprint: Text | None = None


class Failure(_Model):
    """Why a run crashed."""

    error: Prose
    traceback: Prose = ""
    failed_at: Date = ""


class Owner(_Model):
    """The process that trains a run."""

    token: Annotated[str, Strict(), StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    host: Text
    where: Text
    pid: Annotated[int, Strict(), Field(ge=1, lt=2**31)]
    started: Finite


class Epoch(_Model):
    """A row of metrics.csv."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Figure]
    epoch: Annotated[str, StringConstraints(pattern="^[0-9]{1,9}$"), _Says("should be a whole number")]


# --- studies --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredRow(Result):
    """A line of results.jsonl: a result, and what a study keeps beside it; see `row.Row`."""

    curves: Annotated[Mapping[str, list[float]], Kept(dict[str, list[Number]])]
    versions: Annotated[Mapping[str, str], Kept(dict[str, Text])]
    hardware: Annotated[Mapping[str, Any], Kept(dict[str, Scalar])]
    execution: Annotated[Mapping[str, Any], Kept(dict[str, dict[str, Scalar]])]
    code: Text


Override = Annotated[str, Strict(), StringConstraints(max_length=2000), _Says("must be an override such as norm=bn")]
Overrides = Annotated[
    list[Override], BeforeValidator(lambda given: [] if given is None else given), _Says("must be a list of overrides")
]
Seeds = Annotated[
    list[Annotated[int, Strict(), Field(ge=0, lt=2**32)]],
    Field(max_length=100_000),
    _Says("must be a list of whole numbers from 0 to 4294967295"),
]
StudyName = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=f"^{NAME.pattern}$", max_length=100),
    _Says("must be of a-z, 0-9, '_', '.' and '-', and begin with a letter or digit"),
]
Grid = Annotated[
    dict[Annotated[str, Strict()], Annotated[list[Scalar], Field(min_length=1), _Says("must be a list of values")]],
    _Says("must be a mapping of keys to lists of values"),
]
Sentence = Annotated[str, Strict(), _Says("must be a text")]
Names = Annotated[str | list[str], _Says("must be a name or a list of names")]


class _Written(BaseModel):
    """A file written by hand: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class TuningFile(_Written):
    """The grid that all methods tune over."""

    grid: Grid | None = None
    seeds: Seeds | None = None


class SettingFile(_Written):
    """See `spec.Setting`."""

    overrides: Overrides = []
    grid: Grid | None = None
    tuned_in: Sentence | None = None


class ClaimFile(_Written):
    """See `claims.Claim`; which keys a test takes is checked there."""

    says: Sentence
    test: Sentence
    of: Names
    than: Names | None = None
    than_in: Sentence | None = None
    places: Names | None = Field(default=None, alias="in")
    metric: Sentence | None = None
    than_metric: Sentence | None = None
    margin: Any = None
    value: Any = None


class StudyFile(_Written):
    """A study.yaml; see `spec.Study`."""

    question: Sentence
    methods: dict[StudyName, Overrides]
    seeds: Seeds
    budget_core_hours: Annotated[
        float, Strict(), Field(gt=0, le=1e9), AllowInfNan(False), _Says("must be a positive number of core hours")
    ]
    status: Annotated[Literal["claims", "exploratory"], _Says("must be claims or exploratory")] = "claims"
    metric: Sentence = "test/acc"
    reference: Sentence | None = None
    base: Overrides = []
    settings: dict[StudyName, SettingFile | None] | None = None
    tuning: TuningFile | None = None
    more_seeds: dict[str, Seeds] | None = None
    exclude: dict[str, Sentence] | None = None
    claims: list[ClaimFile] | None = None
    note: Sentence | None = None


# --- exports and sweeps ---------------------------------------------------------------------------


def _of_one_sample(shape: list[int]) -> list[int]:
    if math.prod(shape) > MAX_SAMPLE:
        raise ValueError("too large")
    return shape


class SeenData(_Model):
    """Facts on the data set that a network was trained on."""

    model_config = ConfigDict(extra="forbid")
    in_shape: Annotated[
        list[Count],
        Field(min_length=3, max_length=3),
        AfterValidator(_of_one_sample),
        _Says(f"should be channels, height and width, together at most {MAX_SAMPLE:,} values"),
    ]
    num_classes: Annotated[int, Strict(), Field(ge=1, le=100_000)]
    pixel_mean: Finite
    pixel_std: Finite


class ExportMetadata(_Model):
    """Metadata of an exported network, each field a JSON text except the run id."""

    run_id: RunId
    folded: Json[Annotated[bool, Strict()]]
    config: Json[PlainConfig]
    seen: Json[SeenData]


# --- reading --------------------------------------------------------------------------------------

_RESULT = TypeAdapter(Annotated[Result, AfterValidator(_has_its_metrics)])
_ROW = TypeAdapter(Annotated[StoredRow, AfterValidator(_has_its_metrics)])
_MANIFEST: TypeAdapter[Mapping[str, Any]] = TypeAdapter(Annotated[Mapping[str, Any], Kept(Manifest)])
_EPOCHS = TypeAdapter(list[Epoch])
_HANDED_OVER: TypeAdapter[Mapping[str, Mapping[str, Any]]] = TypeAdapter(dict[str, PlainConfig])


def read_result(path: Path, within: Path | None = None) -> Result:
    """Read a result.json.

    Args:
        path: the file.
        within: the folder that no link may lead out of.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is not a result, or a newer snn_exp has written it.
    """
    return _read(path, within, _RESULT.validate_json, "a result")


def read_manifest(path: Path, within: Path | None = None) -> dict[str, Any]:
    """Read a manifest.json, as `read_result`."""
    return dict(_read(path, within, _MANIFEST.validate_json, "a manifest"))


def read_failure(path: Path, within: Path | None = None) -> Failure:
    """Read a failure.json, as `read_result`."""
    return _read(path, within, Failure.model_validate_json, "a failure")


def read_owner(path: Path, within: Path | None = None) -> Owner:
    """Read an owner.json, as `read_result`."""
    return _read(path, within, Owner.model_validate_json, "an owner")


def read_handed_over(path: str | Path) -> Mapping[str, Mapping[str, Any]]:
    """Read the configs that a sweep hands to its jobs, as `read_result`."""
    return _read(Path(path), None, _HANDED_OVER.validate_json, "the runs of a sweep", limit=8 * MAX_JSON)


def read_epochs(path: Path, within: Path | None = None) -> list[dict[str, str]]:
    """Read the rows of a metrics.csv, without a last one that is torn; none if there is no such file.

    Raises:
        Unreadable: it is not a table of numbers with a column epoch.
    """
    try:
        text = read_text(path, MAX_CSV, within)
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    try:
        lines = list(csv.reader(io.StringIO(whole, newline=""), strict=True))
    except csv.Error as error:
        raise _not_what_it_should_be(path, "a table of epochs", str(error)) from None
    if not lines:
        return []
    head, *rows = lines
    if len(set(head)) < len(head):
        raise _not_what_it_should_be(path, "a table of epochs", "a column occurs twice")
    if len(head) * len(rows) > MAX_CELLS:
        raise _not_what_it_should_be(path, "a table of epochs", f"it has more than {MAX_CELLS:,} values")
    for number, row in enumerate(rows, 2):
        if len(row) != len(head):
            wrong = f"line {number} has {len(row)} values for {len(head)} columns"
            raise _not_what_it_should_be(path, "a table of epochs", wrong)
    epochs = [dict(zip(head, row, strict=True)) for row in rows]
    try:
        _EPOCHS.validate_python(epochs)
    except ValidationError as error:
        raise _not_what_it_should_be(path, "a table of epochs", _reason(error)) from None
    return epochs


def read_rows(path: Path, within: Path | None = None) -> tuple[list[StoredRow], list[str]]:
    """Read the rows of a results.jsonl, and name the damaged lines; a torn last line is skipped.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is not a readable file.
    """
    content = read_bytes(path, MAX_ROWS, within)
    rows, damaged = [], []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(row_of_line(line))
        except ValueError as reason:
            if number < len(lines):
                damaged.append(f"line {number} is not a row ({reason})")
    return rows, damaged


def row_of_line(line: bytes) -> StoredRow:
    """Parse a line of a results.jsonl.

    Raises:
        ValueError: it is not a row, with the reason.
    """
    try:
        return _ROW.validate_json(line)
    except ValidationError as error:
        raise ValueError(_reason(error)) from None


def export_metadata(path: Path, given: Mapping[str, str]) -> ExportMetadata:
    """Check the metadata of an exported network.

    Raises:
        Unreadable: it is not what `snn-exp export` writes.
    """
    try:
        return ExportMetadata.model_validate(given)
    except ValidationError as error:
        raise _not_what_it_should_be(path, "a network that snn-exp export has written", _reason(error)) from None


def _read(path: Path, within: Path | None, validate: Callable[[bytes], T], what: str, limit: int = MAX_JSON) -> T:
    content = read_bytes(path, limit, within)
    try:
        return validate(content)
    except ValidationError as error:
        raise _not_what_it_should_be(path, what, _reason(error)) from None


def _not_what_it_should_be(path: Path, what: str, reason: str) -> Unreadable:
    return Unreadable(path, f"is not {what} ({reason})")


_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not one of its keys",
    "unexpected_keyword_argument": "is not one of its keys",
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type", "dataclass_type"), "should be a mapping"),
}


def _reason(error: ValidationError) -> str:
    """Return the first fault in a few words: which key, and what it should be."""
    errors = error.errors(include_url=False, include_input=False)
    for one in errors:
        if one["loc"] == ("schema_version",) and one["type"] == "less_than_equal":
            return f"{NEWER}: its schema_version is above {SCHEMA_VERSION}"
    return in_words(errors[0])


def in_words(error: ErrorDetails) -> str:
    """Return a fault in words: which key, and what it should be."""
    where = ".".join(str(part) for part in error["loc"])
    said = what_it_should_be(error)
    return printable(f"{where}: {said}" if where else said, 200)


def what_it_should_be(error: ErrorDetails) -> str:
    """Return what the value should be."""
    said = _WORDS.get(error["type"]) or error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return said.replace("Invalid JSON:", "no JSON:")
