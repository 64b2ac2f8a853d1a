"""The files of a run: each is validated when read, or refused in a sentence. No torch.

result.json, manifest.json, failure.json, pruned.json, metrics.csv and owner.json, and the config that the first two
hold.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from snn_exp.files import MIB, read_text
from snn_exp.runs.fields import (
    AnyFloat,
    CheckedBy,
    Cost,
    Date,
    Figure,
    Finite,
    NaturalInt,
    PartName,
    PlainValue,
    PositiveInt,
    Prose,
    RunId,
    Says,
    StoredModel,
    Text,
)
from snn_exp.runs.validation import first_fault, not_what_it_should_be, read_validated

SCHEMA_VERSION = 1
MAX_CSV = 16 * MIB
MAX_VALUES = 4_000_000  # of a metrics.csv
MAX_SAMPLE = 2**22  # values of one step of a sample
MOST_CLASSES = 100  # with a confusion matrix
MOST_PICTURES, LONGEST_SIDE = 1000, 64  # of the mistaken samples in test_predictions.npz, and pixels of each

Operations = Mapping[str, Mapping[str, float]]  # part of the network -> count -> operations per sample


class PartGroup(StoredModel):
    """A group of a config: which option, and its parameters."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, PlainValue]
    name: PartName


class SettingsGroup(StoredModel):
    """A group without options."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, PlainValue]


class EncodingGroup(PartGroup):
    """The number of steps is resolved."""

    num_steps: PositiveInt


class DepthGroup(SettingsGroup):
    """The depth."""

    num_layers: PositiveInt


class TrainerGroup(SettingsGroup):
    """The length of training."""

    max_epochs: PositiveInt


class StoredConfig(StoredModel):
    """A resolved config; `experiment.resolve` checks what goes together."""

    dataset: PartGroup
    augment: PartGroup | None = None  # where the data set's own fields do not say it
    encoding: EncodingGroup
    network: PartGroup
    depth: DepthGroup
    residual: PartGroup
    neuron: PartGroup
    surrogate: PartGroup
    synapse: PartGroup
    norm: PartGroup
    weight_norm: PartGroup
    weight_quant: PartGroup
    init: PartGroup | None = None  # where it is not the neutral choice
    optim: PartGroup
    trainer: TrainerGroup
    logger: SettingsGroup = Field(default_factory=SettingsGroup.model_construct)  # what decides nothing may be missing
    energy: SettingsGroup = Field(default_factory=SettingsGroup.model_construct)
    seed: Annotated[int, Strict(), Field(ge=0, lt=2**63)]
    teacher: RunId | None = None
    init_from: RunId | None = None
    experiment: Text | None = None


PlainConfig = Annotated[Mapping[str, Any], CheckedBy(StoredConfig)]


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


def with_its_metrics(result: Result) -> Result:
    """Return the result, or raise a ValueError where it is done and a metric is missing."""
    if result.status == "done" and (missing := [k for k in ("val/acc", "val/loss") if k not in result.metrics]):
        raise ValueError(f"metrics: {missing[0]} is missing from a run that is done")
    return result


def _of_one_sample(shape: list[int]) -> list[int]:
    if math.prod(shape) > MAX_SAMPLE:
        raise ValueError("too large")
    return shape


SampleShape = Annotated[
    list[PositiveInt],
    Field(min_length=3, max_length=3),
    AfterValidator(_of_one_sample),
    Says(f"should be channels, height and width, together at most {MAX_SAMPLE:,} values"),
]


class DataFacts(StoredModel):
    """Facts on the data set that a network was trained on, which must be known to use it without them."""

    in_shape: SampleShape
    num_classes: Annotated[int, Strict(), Field(ge=1, le=100_000)]
    class_names: Annotated[list[Text], Field(max_length=100_000)] = []
    pixel_mean: Finite
    pixel_std: Finite


_Counts = Annotated[list[Annotated[list[NaturalInt], Field(max_length=MOST_CLASSES)]], Field(max_length=MOST_CLASSES)]


def _square(confusion: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
    for split, counts in confusion.items():
        if any(len(row) != len(counts) for row in counts):
            raise ValueError(f"{split} should have as many columns as rows, one per class")
    return confusion


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
        confusion: split -> [K][K], samples of a class (row) that the best weights took for a class (column); without a
            split of more than MOST_CLASSES classes, and empty in a run of an older version.
        stopped_epoch: the last epoch, where trainer.patience ended the run before the others; None where it did not.
        data: shape, classes and pixel statistics of the data: see `DataFacts`; None in a run of an older version.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    run_id: RunId
    status: Annotated[str, CheckedBy(Literal["done", "diverged"])]
    config: PlainConfig
    metrics: Annotated[
        Mapping[str, float], CheckedBy(Annotated[dict[str, AnyFloat], AfterValidator(_with_finite_figures)])
    ]
    duration_s: Cost
    cpu_s: Cost
    finished_at: Date
    best_epoch: NaturalInt | None
    split_fingerprint: Text
    layers: Annotated[
        Mapping[str, Mapping[str, list[float]]],
        CheckedBy(Annotated[dict[str, dict[str, list[AnyFloat]]], AfterValidator(_of_one_network)]),
    ] = dataclasses.field(default_factory=dict)
    peak_memory_mib: Cost | None = None
    compile_s: Cost | None = None
    schema_version: Annotated[int, Strict(), Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    operations: Annotated[
        Mapping[str, Mapping[str, Mapping[str, float]]], CheckedBy(dict[str, dict[str, dict[str, Finite]]])
    ] = dataclasses.field(default_factory=dict)
    confusion: Annotated[
        Mapping[str, list[list[int]]],
        CheckedBy(Annotated[dict[str, _Counts], AfterValidator(_square)]),
    ] = dataclasses.field(default_factory=dict)
    stopped_epoch: NaturalInt | None = None
    data: Annotated[Mapping[str, Any] | None, CheckedBy(DataFacts | None)] = None


class Manifest(StoredModel):
    """The requested config and its execution; a missing field was not recorded at the time."""

    run_id: RunId | None = None
    config: StoredConfig = Field(default=None)  # type: ignore[assignment]
    execution: dict[str, dict[str, PlainValue]] = {}
    kernels: dict[str, PlainValue] = {}
    answers: dict[str, PlainValue] = {}
    ways: dict[str, dict[str, PlainValue]] = {}
    versions: dict[str, Text] = {}
    code: Text = ""
    git: dict[str, PlainValue] = {}
    hardware: dict[str, PlainValue] = {}
    initial: dict[str, Text] = {}
    started_at: Date = ""
    split_fingerprint: Text | None = None
    test_fingerprint: Text | None = None


class Failure(StoredModel):
    """Why a run crashed."""

    error: Prose
    traceback: Prose = ""
    failed_at: Date = ""


class Pruned(StoredModel):
    """Where a search stopped a run: a result of its own kind, which is neither tested nor compared with whole ones."""

    num_epochs: PositiveInt
    metrics: dict[str, AnyFloat] = {}
    duration_s: Cost
    cpu_s: Cost
    pruned_at: Date


class Owner(StoredModel):
    """The process that trains a run."""

    token: Annotated[str, Strict(), StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    host: Text
    where: Text
    pid: Annotated[int, Strict(), Field(ge=1, lt=2**31)]
    started: Finite
    ticks: Annotated[int, Strict(), Field(ge=0)] | None = None


class Epoch(StoredModel):
    """A row of metrics.csv."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Figure]
    epoch: Annotated[str, StringConstraints(pattern="^[0-9]{1,9}$"), Says("should be a whole number")]


_RESULT = TypeAdapter(Annotated[Result, AfterValidator(with_its_metrics)])
_MANIFEST: TypeAdapter[Mapping[str, Any]] = TypeAdapter(Annotated[Mapping[str, Any], CheckedBy(Manifest)])
_EPOCHS = TypeAdapter(list[Epoch])


def read_result(path: Path, within: Path | None = None) -> Result:
    """Read a result.json.

    Args:
        path: the file.
        within: the folder that no link may lead out of.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is not a result, or a newer snn_exp has written it.
    """
    return read_validated(path, within, _RESULT.validate_json, "a result")


def read_manifest(path: Path, within: Path | None = None) -> dict[str, Any]:
    """Read a manifest.json, as `read_result`."""
    return dict(read_validated(path, within, _MANIFEST.validate_json, "a manifest"))


def read_failure(path: Path, within: Path | None = None) -> Failure:
    """Read a failure.json, as `read_result`."""
    return read_validated(path, within, Failure.model_validate_json, "a failure")


def read_pruned(path: Path, within: Path | None = None) -> Pruned:
    """Read a pruned.json, as `read_result`."""
    return read_validated(path, within, Pruned.model_validate_json, "a run that was stopped early")


def read_owner(path: Path, within: Path | None = None) -> Owner:
    """Read an owner.json, as `read_result`."""
    return read_validated(path, within, Owner.model_validate_json, "an owner")


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
        raise not_what_it_should_be(path, "a table of epochs", str(error)) from None
    if not lines:
        return []
    head, *rows = lines
    if len(set(head)) < len(head):
        raise not_what_it_should_be(path, "a table of epochs", "a column occurs twice")
    if len(head) * len(rows) > MAX_VALUES:
        raise not_what_it_should_be(path, "a table of epochs", f"it has more than {MAX_VALUES:,} values")
    for number, row in enumerate(rows, 2):
        if len(row) != len(head):
            wrong = f"line {number} has {len(row)} values for {len(head)} columns"
            raise not_what_it_should_be(path, "a table of epochs", wrong)
    epochs = [dict(zip(head, row, strict=True)) for row in rows]
    try:
        _EPOCHS.validate_python(epochs)
    except ValidationError as error:
        raise not_what_it_should_be(path, "a table of epochs", first_fault(error)) from None
    return epochs
