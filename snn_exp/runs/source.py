"""The finished run whose weights another one starts from. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snn_exp.config import schemas
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.registry import shown
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.teacher import NONE_COMING, named_run

SPLITS = (
    "split_seed",
    "val_fraction",
    "test_fraction",
)  # parameters of a data set that decide which samples are held out


def source_of(config: ExperimentConfig, coming: Mapping[str, ExperimentConfig] = NONE_COMING) -> RunFolder | None:
    """Return the finished run that this one starts from; None if it starts from random weights.

    Args:
        config: of the run.
        coming: run id -> config of those that will have been trained by then, which need not be finished yet.

    Raises:
        UserError: there is no such run, it has no weights, or those of another network; it, or a run that it started
            from in turn, may have been trained on what is validated or tested here.
    """
    if config.init_from is None:
        return None
    folder, theirs = named_run("init_from", config.init_from, coming)
    _require_the_network(config, theirs)
    earlier: ExperimentConfig | None = theirs
    while earlier is not None:
        _require_held_out(config, earlier)
        earlier = named_run("init_from", earlier.init_from, coming)[1] if earlier.init_from else None
    return folder


def _require_the_network(config: ExperimentConfig, theirs: ExperimentConfig) -> None:
    """Refuse the weights of another architecture, of which a layer here and there would fit by chance."""
    for group in ("network", "depth", "residual"):
        ours, there = _plain(config, group), _plain(theirs, group)
        for key, value in ours.items():
            if key != "readout" and there.get(key) != value:  # the readout has no weights, and follows other choices
                name = group if key == "name" else f"{group}.{key}"
                raise UserError(
                    f"init_from={config.init_from} is of another network: {name} is {shown(there.get(key))} there and "
                    f"{shown(value)} here; type {name}={shown(there.get(key))}, or choose another run to start from"
                )


def _plain(config: ExperimentConfig, group: str) -> dict[str, Any]:
    of: dict[str, Any] = config.to_plain()[group]
    return {key: value for key, value in of.items() if group != "residual" or key == "name"}


def _require_held_out(config: ExperimentConfig, theirs: ExperimentConfig) -> None:
    """Refuse a run that may have been trained on samples that are validated or tested here."""
    ours, there = config.dataset, theirs.dataset
    if not _share_samples(str(ours["name"]), str(there["name"])):
        return
    for key in SPLITS:
        if key in ours and key in there and ours[key] != there[key]:
            raise UserError(
                f"init_from={theirs.run_id} was trained on another split of the same samples: dataset.{key} is "
                f"{shown(there[key])} there and {shown(ours[key])} here; type dataset.{key}={shown(there[key])}"
            )
    if theirs.seed != config.seed:
        raise UserError(
            f"init_from={theirs.run_id} has seed={theirs.seed} and so another split: it was trained on some of what is "
            f"validated here; choose a run of seed={config.seed}, or give it as overrides"
        )


def _share_samples(ours: str, theirs: str) -> bool:
    """Return whether two data sets may hold the same samples: those that come with the code are all of the digits."""
    options = schemas.load()["dataset"]
    return ours == theirs or bool(options[ours].traits["embedded"] and options[theirs].traits["embedded"])
