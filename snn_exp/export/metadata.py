"""What an exported network says of itself: its metadata, checked when read. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, Json, Strict, ValidationError

from snn_exp.runs.fields import Finite, RunId, StoredModel
from snn_exp.runs.run_files import PlainConfig, SampleShape
from snn_exp.runs.validation import first_fault, not_what_it_should_be


class SeenData(StoredModel):
    """Facts on the data set that a network was trained on."""

    model_config = ConfigDict(extra="forbid")
    in_shape: SampleShape
    num_classes: Annotated[int, Strict(), Field(ge=1, le=100_000)]
    pixel_mean: Finite
    pixel_std: Finite


class ExportMetadata(StoredModel):
    """Metadata of an exported network, each field a JSON text except the run id."""

    run_id: RunId
    folded: Json[Annotated[bool, Strict()]]
    config: Json[PlainConfig]
    seen: Json[SeenData]


def export_metadata(path: Path, given: Mapping[str, str]) -> ExportMetadata:
    """Check the metadata of an exported network.

    Raises:
        Unreadable: it is not what `snn-exp export` writes.
    """
    try:
        return ExportMetadata.model_validate(given)
    except ValidationError as error:
        raise not_what_it_should_be(path, "a network that snn-exp export has written", first_fault(error)) from None
